"""Waiting: traps, DRAINING and IDLE, seen from the stream."""

from __future__ import annotations

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.ambient.books import Calls, Queue
from asynclm_conformance.ambient.report import Event, Facts, Violations, member
from asynclm_conformance.ambient.tokens import END, TRAP

_LEAVE = frozenset({"trap_exited", "state_changed", "finished", "interrupt_accepted", "interrupt_rejected"})
_GO_ON = frozenset({"tokens", "interrupt_committed", "interrupt_accepted"})
_RESTS = frozenset({types_pb2.STATE_DRAINING, types_pb2.STATE_IDLE})


class Waits:
    """Follows when decoding stops and when it goes on.

    Attributes:
        state: TRAPPED, DRAINING or IDLE while the session waits, else 0.
        woken_at: tokens sampled before the last wake from DRAINING or IDLE, or end of sequence that was gone on from.
        empty_traps: traps in a row that could not end.
    """

    def __init__(self, facts: Facts, found: Violations, calls: Calls, queue: Queue) -> None:
        self._facts = facts
        self._require = found.require
        self._calls = calls
        self._queue = queue
        self._trap: types_pb2.Trap | None = None
        self._owed: set[int] = set()
        self._last: session_pb2.Tokens | None = None
        self._ended = False
        self._sampled = 0
        self.state = 0
        self.woken_at = 0
        self.empty_traps = 0

    def before(self, event: Event) -> None:
        """Looks at the wait before an event is taken in: one that is over has been left by now [TRAP-012, SES-042]."""
        if self.state and event.kind not in _LEAVE:
            if self._trap is not None:
                self._require(not self.holds(self._trap), "TRAP-012", f"waits on in {_shown(self._trap)}, which holds")
            elif event.kind not in ("call_settled", "probed"):  # the end of a session hands back what is left
                self._require(not self.wakes(), "SES-042", f"{self._state} goes on with an interrupt that wakes")
        if self._ended and event.kind in _GO_ON:
            self._require(False, "SES-049", "end of sequence without StateChanged or Finished")
            self._ended = False
        if event.kind == "tokens":
            self._last = event.body
            self._ended = event.body.end_of_sequence
            self._sampled += event.units

    @property
    def _state(self) -> str:
        return member(types_pb2.State, self.state)

    def stepped(self, *, inside: bool) -> None:
        """A token was sampled, inside a block or not: there the next safe point is after it."""
        self._require(not self.state, "TRAP-002", f"a token was sampled in {self._state}")
        if inside:
            return
        left = sorted(self._owed & self._queue.waiting.keys())
        self._require(not left, "TRAP-021", f"a token was sampled before interrupts {left} of the wait were committed")
        self._owed.clear()

    def committed(self, body: session_pb2.InterruptCommitted) -> None:
        """An interrupt was committed, which begins the count of empty traps anew [TRAP-044]."""
        if body.source != "@runtime":
            self.empty_traps = 0

    # --- traps -----------------------------------------------------------------------------------------------

    def entered(self, event: Event) -> None:
        """A trap begins to wait [TRAP-001]."""
        body: session_pb2.TrapEntered = event.body
        require, last = self._require, self._last
        require(not self.state, "TRAP-001", f"entered a trap in {self._state}")
        ended = last is not None and last.control == END and last.in_block == TRAP
        require(ended or body.implicit, "TRAP-001", "TrapEntered without the [END] of its block")
        sync = self._facts.started.mode == types_pb2.EXECUTION_MODE_SYNC
        require(sync or not body.implicit, "SES-060", "an implicit trap outside SYNC")
        known = body.trap.quantifier in types_pb2.Quantifier.values()
        require(known, "TRAP-001", f"quantifier {body.trap.quantifier} of the condition is none")
        self.state, self._trap = types_pb2.STATE_TRAPPED, body.trap
        self._queue.release()

    def exited(self, event: Event) -> None:
        """A trap's wait is over, for a reason that holds [TRAP-010 to TRAP-044]."""
        body: session_pb2.TrapExited = event.body
        require, trap = self._require, self._trap
        if trap is None:
            require(False, "TRAP-020", "TrapExited without TrapEntered")
            return
        if body.timed_out:
            require(trap.HasField("within_ms"), "TRAP-031", "timed out without a time-out")
            told = self._told(types_pb2.STATUS_TIMEOUT)
            require(told, "TRAP-031", "a trap that timed out without @runtime:timeout")
        elif body.empty:
            told = self._told(types_pb2.STATUS_ERROR)
            require(told, "TRAP-043", "an empty trap without @runtime:error")
            holds = self.holds(trap, besides=told[-1] if told else None)
            require(not holds, "TRAP-040", f"{_shown(trap)} is called empty, but holds")
            self.empty_traps += 1
        else:
            require(self.holds(trap), "TRAP-010", f"left {_shown(trap)}, which does not hold")
        most = self._facts.limit("max_empty_traps")
        require(self.empty_traps <= most, "TRAP-044", f"goes on after {self.empty_traps} traps that could not end")
        self._trap = None
        self._wake()

    def _told(self, status: int) -> list[int]:
        """Queued interrupts by which the engine itself speaks."""
        return [n for n, q in self._queue.waiting.items() if (q.source, q.status) == ("@runtime", status)]

    def holds(self, trap: types_pb2.Trap, *, besides: int | None = None) -> bool:
        """Whether a trap's condition holds [TRAP-010 to TRAP-015, SES-063], one queued interrupt left aside."""
        if any(queued.speaks for queued in self._queue.waiting.values()):
            return True
        if self._all_together:
            return False
        known = [bool(call.status) for call in map(self._calls.named, dict.fromkeys(trap.ids)) if call]
        if trap.ids:
            some = trap.quantifier == types_pb2.QUANTIFIER_ANY
            return any(known) if some else all(known) and len(known) == len(set(trap.ids))
        if self._calls.pending and not self._calls.unresolved:
            return True
        return not trap.quantifier and self.wakes(besides=besides)

    def wakes(self, *, besides: int | None = None) -> bool:
        """Whether something queued ends a bare trap, DRAINING or IDLE; one interrupt left aside."""
        if any(queued.speaks for queued in self._queue.waiting.values()):
            return True
        queued_besides = [queued for number, queued in self._queue.waiting.items() if number != besides]
        return not self._all_together and any(queued.wakes for queued in queued_besides)

    @property
    def _all_together(self) -> bool:
        parallel = self._facts.started.mode == types_pb2.EXECUTION_MODE_SYNC_PARALLEL
        return parallel and bool(self._calls.unresolved)

    # --- end of sequence -------------------------------------------------------------------------------------

    def changed(self, event: Event) -> None:
        """DRAINING, IDLE, or DECODING again [SES-042 to SES-049]."""
        body: session_pb2.StateChanged = event.body
        require = self._require
        if body.state == types_pb2.STATE_DECODING:
            require(self.state in (0, *_RESTS), "SES-001", f"DECODING again from {self._state}")
            require(self.state or self._may_go_on(), "SES-049", "StateChanged to DECODING where nothing ended")
            require(self.wakes(), "SES-042", "went on with nothing in the queue that wakes")
            self._queue.release()
            self._wake()
            self.woken_at = self._sampled
        else:
            state = member(types_pb2.State, body.state)
            require(body.state in _RESTS, "SES-049", f"StateChanged to {state}")
            require(not self.state, "SES-001", f"{state} from {self._state}")
            require(self._may_go_on(), "SES-049", f"StateChanged to {state} where nothing ended")
            self._rests(body.state)
            self.state = body.state
            self._queue.release()
        self._ended = False

    def _rests(self, state: int) -> None:
        """Only WAIT drains, and only KEEP is idle."""
        on_end = self._facts.started.on_end
        if state == types_pb2.STATE_DRAINING:
            self._require(on_end == types_pb2.ON_END_WAIT, "SES-042", "DRAINING without on_end WAIT")
            self._require(self._calls.unresolved, "SES-042", "DRAINING with every named call resolved")
        elif state == types_pb2.STATE_IDLE:
            self._require(on_end == types_pb2.ON_END_KEEP, "SES-047", "IDLE without on_end KEEP")

    def _may_go_on(self) -> bool:
        """Whether decoding came to an end that it can go on from: a hosted stream has no token for its own."""
        keep = self._facts.started.on_end == types_pb2.ON_END_KEEP
        return self._ended or self._facts.pieces or keep

    def _wake(self) -> None:
        self.state = 0
        self._owed = {number for number, queued in self._queue.waiting.items() if queued.due}


def _shown(trap: types_pb2.Trap) -> str:
    within = f" within {trap.within_ms} ms" if trap.HasField("within_ms") else ""
    return f"a trap on {member(types_pb2.Quantifier, trap.quantifier)} {list(trap.ids)}{within}"
