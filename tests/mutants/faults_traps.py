"""Faults of traps: conditions, time-outs, traps that cannot end."""

from __future__ import annotations

import dataclasses

from tests.mutants.mutant import mutant, puts, replaces, reports

from asynclm.cml.blocks import Trap
from asynclm.cml.control import Quantifier, Status
from asynclm.session import traps
from asynclm.session.effects import TrapEntered, TrapExited
from asynclm.session.queue import Accepted, InterruptQueue
from asynclm.session.state import Scheduling
from asynclm.session.stream import Stream
from asynclm.session.waits import Waits


def _holds(when):
    """Puts another test in the place of that of a trap's condition; None leaves it to the original."""

    @replaces(traps, "holds")
    def _(original, core, trap):
        found = when(core, trap)
        return original(core, trap) if found is None else found


@mutant(violates=["TRAP-010"])
def any_result_ends_a_trap_on_ids():
    """A trap on ids ends with the result of any call."""

    @_holds
    def _(core, trap):
        return True if trap.ids and core.queue.wakes else None


@mutant(violates=["TRAP-010"])
def all_ends_with_the_first():
    """A trap on several ids ends with the first of their results."""

    @replaces(traps, "holds")
    def _(original, core, trap):
        quantifier = Quantifier.ANY if trap.ids else trap.quantifier
        return original(core, dataclasses.replace(trap, quantifier=quantifier))


@mutant(violates=["TRAP-011", "TRAP-012"])
def any_waits_for_all():
    """A trap with any ends when all of its calls are resolved."""

    @replaces(traps, "holds")
    def _(original, core, trap):
        quantifier = Quantifier.ALL if trap.quantifier is Quantifier.ANY else trap.quantifier
        return original(core, dataclasses.replace(trap, quantifier=quantifier))


@mutant(violates=["TRAP-011", "TRAP-041"])
def any_knows_all_its_ids():
    """A trap with any one of whose ids is unknown is empty."""

    @replaces(traps, "why_empty")
    def _(original, core, trap):
        quantifier = Quantifier.ALL if trap.ids else trap.quantifier
        return original(core, dataclasses.replace(trap, quantifier=quantifier))


@mutant(violates=["TRAP-014", "TRAP-012"])
def bare_traps_wait_for_all():
    """A bare trap ends when every pending call is resolved."""

    @_holds
    def _(core, trap):
        return not core.calls.unresolved if trap.bare and core.calls.pending and not core.queue.speaks else None


@mutant(violates=["TRAP-014", "TRAP-010"])
def bare_traps_need_something_queued():
    """A bare trap goes on when the last pending call is resolved by a SILENT result."""

    @_holds
    def _(core, trap):
        return core.queue.wakes if trap.bare else None


@mutant(violates=["TRAP-013", "TRAP-010"])
def trap_all_ends_with_the_first():
    """`[TRAP] all [END]` ends with the next result."""

    @_holds
    def _(core, trap):
        return True if trap.quantifier is Quantifier.ALL and not trap.ids and core.queue.wakes else None


@mutant(
    violates=["TRAP-015", "TRAP-012", "SES-067"],
    also={"delivery/lazy-lets-people-speak delivery/people-end-the-window*": "a person ends a trap"},
)
def people_end_no_traps_on_ids():
    """A message of the user does not end a trap on ids."""
    puts(Accepted, "speaks", property(lambda self: False))


@mutant(violates=["TRAP-015"])
def agents_end_no_traps():
    """A message of another model does not end a trap on ids."""
    puts(Accepted, "speaks", property(lambda self: self.wakes and self.source == "@user"))


@mutant(violates=["TRAP-015", "INT-032", "TRAP-010"], also={"delivery/silence-waits": "what waits is silent"})
def silent_people_end_traps():
    """A SILENT message of the user ends a trap."""
    puts(Accepted, "speaks", property(lambda self: self.source == "@user" or self.source.startswith("@agent.")))


@mutant(violates=["TRAP-021"])
def silent_waits_behind_a_trap():
    """What is SILENT stays queued at the safe point behind a trap."""

    @replaces(InterruptQueue, "batch")
    def _(original, self):
        return [i for i in original(self) if i.scheduling is not Scheduling.SILENT or not i.released]


@mutant(violates=["TRAP-001", "SES-060"])
def trap_entered_forgets_the_condition():
    """TrapEntered does not tell the condition."""

    @reports(TrapEntered)
    def _(report):
        return (dataclasses.replace(report, trap=Trap()),)


@mutant(violates=["TRAP-020", "WIRE-075", "TRAP-012", "WIRE-053"])
def traps_end_with_credit_only():
    """A trap's condition is not tested without credit."""

    @replaces(Waits, "test")
    def _(original, self):
        if self._core.credit != 0:
            original(self)


# --- time-outs ---------------------------------------------------------------------------------------------------


@mutant(violates=["TRAP-030", "TRAP-031", "TRAP-033", "TRAP-001"])
def within_is_forgotten():
    """A trap waits for ever, whatever it says of time."""

    @replaces(Waits, "enter")
    def _(original, self, trap, *, implicit):
        original(self, dataclasses.replace(trap, within_ms=None), implicit=implicit)


@mutant(violates=["TRAP-031"])
def time_outs_are_not_told_to_the_model():
    """A trap that is over in time ends, and nothing is queued."""

    @replaces(Waits, "_leave_late")
    def _(original, self, phase):
        self._leave(phase, timed_out=True)


@mutant(violates=["TRAP-031", "TRAP-010", "TRAP-020"])
def late_exits_are_not_marked():
    """TrapExited does not say that the time was over."""

    @reports(TrapExited)
    def _(report):
        return (dataclasses.replace(report, timed_out=False),)


@mutant(
    violates=["TRAP-032", "TRAP-020", "TRAP-021"],
    also={"scripts/timers-by-due-time scripts/timers-without-credit": "calls are pending while a trap times out"},
)
def time_outs_cancel_what_was_waited_for():
    """When a trap's time is over, the calls that it waited for are cancelled."""

    @replaces(Waits, "time_out")
    def _(original, self):
        for call in self._waited_for():
            self._desk.withdraw(call, "the trap's time is over")
        original(self)


@mutant(violates=["TRAP-033", "TRAP-001", "TRAP-040"])
def within_zero_is_no_time():
    """`within 0` is a trap without a time-out."""

    @replaces(Waits, "enter")
    def _(original, self, trap, *, implicit):
        original(self, dataclasses.replace(trap, within_ms=trap.within_ms or None), implicit=implicit)


# --- traps that cannot end ---------------------------------------------------------------------------------------


@mutant(
    violates=["TRAP-040", "TRAP-043", "TRAP-044", "ERR-035"],
    also={"masks/static-has-no-gates races/length-behind-a-trap": "they have a trap with nothing pending"},
)
def bare_traps_without_calls_hang():
    """A bare trap with nothing pending waits."""

    @replaces(traps, "why_empty")
    def _(original, core, trap):
        return original(core, trap) if trap.ids else None


@mutant(
    violates=["TRAP-041", "ERR-026", "TRAP-042", "TRAP-043", "TRAP-044"],
    also={"*": "a trap on unknown ids ends at once"},
)
def traps_on_unknown_ids_hang():
    """A trap on ids that no call has waits."""

    @replaces(traps, "why_empty")
    def _(original, core, trap):
        return None if trap.ids else original(core, trap)


@mutant(violates=["TRAP-042"])
def a_time_out_saves_an_empty_trap():
    """An empty trap with a time-out waits for it."""

    @replaces(traps, "why_empty")
    def _(original, core, trap):
        return original(core, trap) if trap.within_ms is None else None


@mutant(violates=["TRAP-043"])
def empty_traps_are_not_told_to_the_model():
    """An empty trap ends at once, and nothing is queued that says why."""

    @replaces(Waits, "_turn_away")
    def _(original, self, why):
        accept, self._core.accept = self._core.accept, lambda *args: None
        try:
            original(self, why)
        finally:
            self._core.accept = accept


@mutant(violates=["TRAP-044", "ERR-035", "LIM-012"])
def sessions_never_stall():
    """Any number of empty traps in a row is taken."""

    @replaces(Waits, "_turn_away")
    def _(original, self, why):
        self._empty_traps = -1
        original(self, why)


@mutant(violates=["TRAP-044"])
def empty_traps_are_counted_for_ever():
    """An interrupt does not begin the count of empty traps anew."""

    @replaces(Waits, "committed")
    def _(original, self, source):
        return None


@mutant(violates=["TRAP-044", "ERR-035"])
def runtime_begins_the_count_anew():
    """What @runtime says begins the count of empty traps anew."""

    @replaces(Waits, "committed")
    def _(original, self, source):
        self._empty_traps = 0


@mutant(violates=["TRAP-045", "CML-033"], also={"*": "a malformed trap is told of"})
def malformed_traps_are_silent():
    """Nothing is told to the model of a malformed trap."""

    @replaces(Stream, "_close")
    def _(original, self, block):
        accept = self._core.accept

        def silent(source, status, payload, *args, **kwargs):
            if '"type": "trap"' not in payload:
                return accept(source, status, payload, *args, **kwargs)
            return None

        self._core.accept = silent if not isinstance(block, Trap) else accept
        try:
            original(self, block)
        finally:
            self._core.accept = accept


@mutant(violates=["TRAP-010", "TRAP-012", "INT-033", "TRAP-001"])
def results_before_the_trap_do_not_count():
    """A trap on ids holds only by results that come while it waits."""

    @replaces(Waits, "enter")
    def _(original, self, trap, *, implicit):
        known = [call for call in map(self._core.calls.by_id, trap.ids) if call is not None]
        if trap.ids and all(call.status is Status.OK for call in known) and not implicit:
            trap = Trap(within_ms=trap.within_ms)
        original(self, trap, implicit=implicit)
