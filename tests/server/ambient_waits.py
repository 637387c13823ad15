"""Waiting: traps, DRAINING and IDLE, seen from the stream."""

from __future__ import annotations

from tests.server.ambient_books import Calls, Queue
from tests.server.ambient_report import Facts, Violations

from asynclm.cml.blocks import Trap
from asynclm.cml.control import Control, Quantifier, Status
from asynclm.session import effects as fx
from asynclm.session.config import ExecutionMode
from asynclm.session.state import State


class Waits:
    """Follows when decoding stops and when it goes on.

    Attributes:
        state: TRAPPED, DRAINING or IDLE while the session waits, else None.
        woken_at: tokens sampled before the last wake from DRAINING or IDLE, or end of sequence that was gone on from.
        empty_traps: traps in a row that could not end.
    """

    def __init__(self, facts: Facts, found: Violations, calls: Calls, queue: Queue) -> None:
        self._facts = facts
        self._require = found.require
        self._calls = calls
        self._queue = queue
        self._trap: Trap | None = None
        self._owed: set[int] = set()
        self._last: fx.Tokens | None = None
        self._ended = False
        self._sampled = 0
        self.state: State | None = None
        self.woken_at = 0
        self.empty_traps = 0

    def before(self, report: object) -> None:
        """Looks at the wait before an event is taken in: one that is over has been left by now [TRAP-012, SES-042]."""
        leaves = fx.TrapExited | fx.StateChanged | fx.Finished | fx.InterruptAccepted | fx.InterruptRejected
        if self.state is not None and not isinstance(report, leaves):
            if self._trap is not None:
                self._require(not self.holds(self._trap), "TRAP-012", f"waits on in {self._trap}, which holds")
            elif not isinstance(report, fx.CallSettled | fx.Probed):  # the end of a session hands back what is left
                self._require(not self.wakes(), "SES-042", f"{self.state} goes on with an interrupt that wakes")
        if self._ended and isinstance(report, fx.Tokens | fx.InterruptCommitted | fx.InterruptAccepted):
            self._require(False, "SES-049", "end of sequence without StateChanged or Finished")
            self._ended = False
        if isinstance(report, fx.Tokens):
            self._last = report
            self._ended = report.end_of_sequence
            self._sampled += len(report.ids)

    def stepped(self) -> None:
        """A token was sampled."""
        self._require(self.state is None, "TRAP-002", f"a token was sampled while {self.state}")
        left = sorted(self._owed & self._queue.waiting.keys())
        self._require(not left, "TRAP-021", f"a token was sampled before interrupts {left} of the wait were committed")
        self._owed.clear()

    def committed(self, report: fx.InterruptCommitted) -> None:
        if report.source != "@runtime":
            self.empty_traps = 0

    # --- traps -----------------------------------------------------------------------------------------------

    def entered(self, report: fx.TrapEntered) -> None:
        require, last = self._require, self._last
        require(self.state is None, "TRAP-001", f"entered a trap while {self.state}")
        block = Control.CALL if report.implicit else Control.TRAP
        ended = last is not None and last.control is Control.END and last.in_block is block
        require(ended, "TRAP-001", "TrapEntered without the [END] of its block")
        sync = self._facts.started.mode is ExecutionMode.SYNC
        require(sync or not report.implicit, "SES-060", "an implicit trap outside SYNC")
        self.state, self._trap = State.TRAPPED, report.trap
        self._queue.release()

    def exited(self, report: fx.TrapExited) -> None:
        require, trap = self._require, self._trap
        if trap is None:
            require(False, "TRAP-020", "TrapExited without TrapEntered")
            return
        if report.timed_out:
            require(trap.within_ms is not None, "TRAP-031", "timed out without a time-out")
        elif report.empty:
            told = [n for n, q in self._queue.waiting.items() if (q.source, q.status) == ("@runtime", Status.ERROR)]
            require(told, "TRAP-043", "an empty trap without @runtime:error")
            holds = self.holds(trap, besides=told[-1] if told else None)
            require(not holds, "TRAP-040", f"{trap} is called empty, but holds")
            self.empty_traps += 1
        else:
            require(self.holds(trap), "TRAP-010", f"left {trap}, which does not hold")
        require(
            self.empty_traps <= self._facts.started.limits.max_empty_traps, "TRAP-044", "goes on after too many traps"
        )
        self._trap = None
        self._wake()

    def holds(self, trap: Trap, *, besides: int | None = None) -> bool:
        """Whether a trap's condition holds [TRAP-010 to TRAP-015, SES-063], one queued interrupt left aside."""
        if any(queued.speaks for queued in self._queue.waiting.values()):
            return True
        if self._all_together:
            return False
        known = [call.status is not None for call in map(self._calls.named, dict.fromkeys(trap.ids)) if call]
        if trap.ids:
            some = trap.quantifier is Quantifier.ANY
            return any(known) if some else all(known) and len(known) == len(set(trap.ids))
        if self._calls.pending and not self._calls.unresolved:
            return True
        return trap.quantifier is None and self.wakes(besides=besides)

    def wakes(self, *, besides: int | None = None) -> bool:
        """Whether something queued ends a bare trap, DRAINING or IDLE; one interrupt left aside."""
        if any(queued.speaks for queued in self._queue.waiting.values()):
            return True
        queued_besides = [queued for number, queued in self._queue.waiting.items() if number != besides]
        return not self._all_together and any(queued.wakes for queued in queued_besides)

    @property
    def _all_together(self) -> bool:
        return self._facts.started.mode is ExecutionMode.SYNC_PARALLEL and bool(self._calls.unresolved)

    # --- end of sequence -------------------------------------------------------------------------------------

    def changed(self, report: fx.StateChanged) -> None:
        require = self._require
        if report.state is State.DECODING:
            require(self.state in (None, State.DRAINING, State.IDLE), "SES-001", f"DECODING again from {self.state}")
            require(self.state is not None or self._ended, "SES-049", "StateChanged to DECODING where nothing ended")
            require(self.wakes(), "SES-042", "went on with nothing in the queue that wakes")
            self._queue.release()
            self._wake()
            self.woken_at = self._sampled
        else:
            require(report.state in (State.DRAINING, State.IDLE), "SES-049", f"StateChanged to {report.state}")
            require(self.state is None, "SES-001", f"{report.state} from {self.state}")
            self.state = report.state
            self._queue.release()
        self._ended = False

    def _wake(self) -> None:
        self.state = None
        self._owed = {number for number, queued in self._queue.waiting.items() if queued.due}
