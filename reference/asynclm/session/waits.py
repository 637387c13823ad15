"""Waiting: traps, DRAINING and IDLE; when each begins and when it ends (spec: traps; sessions, section 4)."""

from __future__ import annotations

from asynclm.cml.blocks import Trap
from asynclm.cml.control import Quantifier, Status
from asynclm.session import traps
from asynclm.session.calls import CallRecord
from asynclm.session.config import ExecutionMode, OnEnd
from asynclm.session.core import Core
from asynclm.session.desk import CallDesk
from asynclm.session.effects import Resume, StateChanged, Suspend, TrapEntered, TrapExited
from asynclm.session.ending import Ending
from asynclm.session.expectation import expected_wait_ms
from asynclm.session.hold import Hold
from asynclm.session.outbox import Phase
from asynclm.session.payloads import error_payload
from asynclm.session.state import ErrorType, FinishReason, State
from asynclm.session.timers import Timer, TimerKind
from asynclm.session.transitions import WAITING, Trigger


class Waits:
    """Stops decoding and lets it go on.

    Attributes:
        woken_at: tokens sampled before the last wake from IDLE; `max_new_tokens` counts from there [SES-077].
    """

    def __init__(self, core: Core, desk: CallDesk, hold: Hold, ending: Ending) -> None:
        self._core = core
        self._desk = desk
        self._hold = hold
        self._ending = ending
        self._trap = Trap()
        self._timer: Timer | None = None
        self._empty_traps = 0
        self.woken_at = 0

    # --- traps -----------------------------------------------------------------------------------------------

    def enter(self, trap: Trap, *, implicit: bool) -> None:
        """A trap's `[END]`, or a call's in SYNC [TRAP-001, SES-060]."""
        core = self._core
        if core.config.mode is ExecutionMode.SYNC_PARALLEL:
            self._desk.release()
        core.cell.move(Trigger.TRAP_ENTERED)
        core.out.add(Phase.WAITING, TrapEntered(token_index=core.token_index, trap=trap, implicit=implicit))
        core.queue.release()
        if traps.holds(core, trap):
            self._leave(Phase.LEFT)
        elif (why := traps.why_empty(core, trap)) is not None:
            self._turn_away(why)
        elif trap.within_ms == 0:
            self._leave_late(Phase.LEFT)
        else:
            self._trap = trap
            if trap.within_ms is not None:
                self._timer = core.timers.start(TimerKind.TRAP, core.now_ms + trap.within_ms)
            self._suspend()

    def _turn_away(self, why: str) -> None:
        """A trap that cannot end does not stop [TRAP-043, TRAP-044]."""
        core = self._core
        core.accept("@runtime", Status.ERROR, error_payload(ErrorType.TRAP, why))
        self._leave(Phase.LEFT, empty=True)
        self._empty_traps += 1
        if self._empty_traps >= core.config.limits.max_empty_traps:
            self._ending.finish(FinishReason.STALLED, f"{self._empty_traps} traps in a row could not end")

    def _leave(self, phase: Phase, *, timed_out: bool = False, empty: bool = False) -> None:
        core = self._core
        if self._timer is not None:
            core.timers.cancel(self._timer)
            self._timer = None
        core.cell.move(Trigger.TRAP_EXITED)
        core.awaiting_commit = True
        core.out.add(phase, TrapExited(token_index=core.token_index, timed_out=timed_out, empty=empty))

    def _leave_late(self, phase: Phase) -> None:
        message = "the trap's time is over; what it waited for is still pending"
        self._core.accept("@runtime", Status.TIMEOUT, error_payload(ErrorType.TIMEOUT, message, retryable=True))
        self._leave(phase, timed_out=True)

    def time_out(self) -> None:
        """The time of `within` is over [TRAP-031]."""
        self._leave_late(Phase.WOKEN)
        self._core.out.add(Phase.WOKEN, Resume())

    # --- end of sequence -------------------------------------------------------------------------------------

    def end(self, reason: str, *, last: bool = False, stop_string: str | None = None) -> None:
        """End of sequence, or (KEEP) a stop string, or the length limit outside a block [SES-040 to SES-047, SES-077].

        Args:
            reason: what `StateChanged` says of it.
            last: no token may follow: where the session would go on or drain, LENGTH ends it instead, which is the
                caller's part [SES-087].
            stop_string: the stop string that was written, if it was one.
        """
        core = self._core
        on_end = core.config.on_end
        if core.config.mode is ExecutionMode.SYNC_PARALLEL:
            # Under CANCEL a named call would be started only to be stopped; nobody waits for the others anyway.
            self._desk.release(named=on_end is not OnEnd.CANCEL)
        if on_end in (OnEnd.DETACH, OnEnd.CANCEL):
            self._ending.finish(FinishReason.STOP)
            return
        core.queue.release()
        keep = on_end is OnEnd.KEEP
        if last and not keep and (traps.wakes(core) or core.calls.unresolved):
            return
        if traps.wakes(core):
            self._go_on(reason, stop_string)
        elif keep:
            self._rest(reason, stop_string)
        elif core.calls.unresolved:
            core.cell.move(Trigger.DRAIN)
            self._state_changed(Phase.WAITING, reason)
            self._suspend()
        else:
            self._ending.finish(FinishReason.STOP)

    def _go_on(self, reason: str, stop_string: str | None) -> None:
        self._hold.boundary()
        self._core.awaiting_commit = True
        self.woken_at = self._core.sampled
        self._state_changed(Phase.WAITING, reason, stop_string)

    def _rest(self, reason: str, stop_string: str | None) -> None:
        if self._core.half_closed:
            self._ending.finish(FinishReason.STOP, "the client will send nothing more", stop_string=stop_string)
            return
        self._core.cell.move(Trigger.REST)
        self._state_changed(Phase.WAITING, reason, stop_string)
        self._suspend()

    # --- while waiting ---------------------------------------------------------------------------------------

    def test(self) -> None:
        """Tests what is waited for, after every acceptance and resolution [TRAP-012]; to be called while it is."""
        core = self._core
        state = core.cell.state
        if state is State.TRAPPED:
            if traps.holds(core, self._trap):
                self._leave(Phase.WOKEN)
                core.out.add(Phase.WOKEN, Resume())
        elif traps.wakes(core):
            self._hold.boundary()
            core.cell.move(Trigger.WAKE)
            core.awaiting_commit = True
            self.woken_at = core.sampled
            self._state_changed(Phase.WOKEN, "interrupt")
            core.out.add(Phase.WOKEN, Resume())
        elif state is State.DRAINING and not core.calls.unresolved:
            self._ending.finish(FinishReason.STOP)

    def committed(self, source: str) -> None:
        """A committed interrupt that is not from `@runtime` begins the count of empty traps anew [TRAP-044]."""
        if source != "@runtime":
            self._empty_traps = 0

    def _suspend(self) -> None:
        self._core.out.add(Phase.WAITING, Suspend(expected_wait_ms=self.expected_wait_ms()))

    def _state_changed(self, phase: Phase, reason: str, stop_string: str | None = None) -> None:
        core = self._core
        index, state = core.token_index, core.cell.state
        core.out.add(phase, StateChanged(token_index=index, state=state, reason=reason, stop_string=stop_string))

    def expected_wait_ms(self) -> int | None:
        """How long the wait will probably last, by what is known of the tools; None if nothing is [TRAP-052].

        The longest of what must all come, the shortest of what may come first, and no longer than `within`.
        """
        core = self._core
        if core.cell.state not in WAITING:
            return None
        within = None if self._timer is None else self._timer.due_ms - core.now_ms
        return expected_wait_ms(core, self._waited_for(), together=self._waits_for_all(), within_ms=within)

    def _waits_for_all(self) -> bool:
        if self._core.config.mode is ExecutionMode.SYNC_PARALLEL:
            return True
        return self._core.cell.state is State.TRAPPED and self._trap.quantifier is Quantifier.ALL

    def _waited_for(self) -> list[CallRecord]:
        core = self._core
        unresolved = core.calls.unresolved
        if core.cell.state is State.TRAPPED and self._trap.ids and core.config.mode is not ExecutionMode.SYNC_PARALLEL:
            return [call for call in unresolved if call.id in self._trap.ids]
        return unresolved
