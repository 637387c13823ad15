"""Faults of sessions: states, masks, ends, the ledger, modes, stop strings."""

from __future__ import annotations

import dataclasses

from tests.mutants.mutant import mutant, puts, replaces, reports

from asynclm.session import machine, mask, traps
from asynclm.session.calls import CallRecord
from asynclm.session.config import Constraints, OnEnd
from asynclm.session.core import Core
from asynclm.session.effects import CallSettled, Finished, Ledger, Notice, StateChanged
from asynclm.session.ending import Ending
from asynclm.session.machine import Session
from asynclm.session.mask import Kind
from asynclm.session.outbox import Phase
from asynclm.session.queue import InterruptQueue
from asynclm.session.reader import Reader
from asynclm.session.state import FinishReason, NoticeCode
from asynclm.session.stops import StopStrings
from asynclm.session.stream import Stream
from asynclm.session.transitions import Trigger
from asynclm.session.waits import Waits

# --- what a model can write --------------------------------------------------------------------------------------


@mutant(violates=["SES-010", "SEC-004"])
def lets_intr_be_sampled():
    """The model may write [INTR]."""

    @replaces(machine, "outside_block")
    def _(original, *args, **kwargs):
        return original(*args, **kwargs) | {Kind.INTR}


@mutant(violates=["SES-012"])
def static_mask_is_none():
    """With the constraints STATIC nothing but [INTR] is masked outside blocks."""

    @replaces(machine, "outside_block")
    def _(original, constraints, **kwargs):
        return original(Constraints.NONE if constraints is Constraints.STATIC else constraints, **kwargs)


@mutant(violates=["SES-014"])
def traps_are_not_gated():
    """With the constraints GATES a trap can be written while nothing is pending."""

    @replaces(machine, "outside_block")
    def _(original, constraints, *, trap_gated, end_gated):
        return original(constraints, trap_gated=False, end_gated=end_gated)


@mutant(violates=["SES-015"])
def gate_end_is_passed_over():
    """With gate_end, end of sequence can be written while calls are pending."""

    @replaces(machine, "outside_block")
    def _(original, constraints, *, trap_gated, end_gated):
        return original(constraints, trap_gated=trap_gated, end_gated=False)


@mutant(violates=["SES-016", "CALL-104"])
def grammar_rules_no_bodies():
    """With the constraints GRAMMAR, what stands inside a block follows no grammar."""
    mask._RULES.clear()


# --- end of sequence ---------------------------------------------------------------------------------------------


@mutant(violates=["SES-047", "SES-041"], also={"*": "the session is kept at its end"})
def keep_finishes():
    """Under KEEP, end of sequence finishes the session."""

    @replaces(Waits, "_rest")
    def _(original, self, reason, stop_string):
        self._ending.finish(FinishReason.STOP, stop_string=stop_string)


@mutant(violates=["SES-045", "SES-097"])
def detach_waits():
    """Under DETACH, end of sequence waits for the calls that run."""

    @replaces(Waits, "end")
    def _(original, self, reason, **kwargs):
        core = self._core
        if core.config.on_end is OnEnd.DETACH and core.calls.unresolved:
            core.queue.release()
            core.cell.move(Trigger.DRAIN)
            self._state_changed(Phase.WAITING, reason)
            self._suspend()
        else:
            original(self, reason, **kwargs)


@mutant(violates=["SES-046", "SES-072", "SES-099"])
def cancel_at_the_end_does_not_cancel():
    """Calls that are pending at the end run on, under CANCEL too."""

    @replaces(Ending, "finish")
    def _(original, self, reason, message="", *, cancel=None, stop_string=None):
        original(self, reason, message, cancel=cancel or False, stop_string=stop_string)


@mutant(violates=["SES-072", "CALL-047"])
def cancel_pending_is_passed_over():
    """What Finish says of pending calls is not looked at."""

    @replaces(Session, "_finish")
    def _(original, self, event):
        original(self, event if event.reason is not FinishReason.FINISHED_BY_CLIENT else _unsaid(event))

    def _unsaid(event):
        return dataclasses.replace(event, cancel_pending=None)


@mutant(violates=["SES-042", "SES-043", "ERR-036"])
def wait_does_not_wait():
    """Under WAIT, end of sequence finishes the session although calls run."""

    @replaces(Waits, "end")
    def _(original, self, reason, **kwargs):
        if self._core.config.on_end is OnEnd.WAIT and self._core.calls.unresolved and not traps.wakes(self._core):
            self._ending.finish(FinishReason.STOP)
        else:
            original(self, reason, **kwargs)


@mutant(violates=["SES-041", "ERR-036", "INT-057", "SES-088"])
def loses_results_at_the_end():
    """End of sequence finishes the session although a result is queued."""

    @replaces(Waits, "_go_on")
    def _(original, self, reason, stop_string):
        self._ending.finish(FinishReason.STOP)


@mutant(violates=["SES-049", "WIRE-080", "WIRE-081"], also={"*": "a change of state is told of"})
def state_changes_are_not_told():
    """StateChanged is not sent."""

    @reports(StateChanged)
    def _(report):
        return ()


@mutant(violates=["SES-043", "SES-097", "INT-042", "LIM-012"])
def silent_results_have_no_reason():
    """What is SILENT and left at the end is handed back as of a session that has finished."""

    @replaces(Ending, "_hand_back")
    def _(original, self, reason):
        original(self, FinishReason.FINISHED_BY_CLIENT)


# --- ends --------------------------------------------------------------------------------------------------------


@mutant(violates=["SES-076", "SES-087", "SES-088"])
def length_is_one_too_many():
    """A session ends one token after max_new_tokens."""
    spent = Stream._spent.fget

    def later(self):
        self._max_new_tokens += 1
        try:
            return spent(self)
        finally:
            self._max_new_tokens -= 1

    puts(Stream, "_spent", property(later))


@mutant(violates=["SES-077"])
def keep_counts_from_the_start():
    """Under KEEP, max_new_tokens is counted from the start, not from the last wake."""
    Waits.woken_at = property(lambda self: 0, lambda self, value: None)


@mutant(violates=["SES-087"])
def last_token_is_always_length():
    """An end of sequence that is the last token by max_new_tokens ends the session with LENGTH."""

    @replaces(Waits, "end")
    def _(original, self, reason, *, last=False, stop_string=None):
        if not last:
            original(self, reason, last=last, stop_string=stop_string)


@mutant(violates=["SES-078"])
def blocks_have_no_limit():
    """max_block_tokens is not looked at."""

    @replaces(Reader, "__init__")
    def _(original, self, config, codec):
        original(self, config, codec)
        self.block_limit = 1 << 40


@mutant(violates=["SES-075", "INT-042", "SES-097"])
def context_has_no_end():
    """context_length is not looked at once a session runs."""

    @replaces(Core, "__init__")
    def _(original, self, config, codec, now_ms):
        limits = dataclasses.replace(config.limits, context_length=1 << 40)
        original(self, dataclasses.replace(config, limits=limits), codec, now_ms)


@mutant(violates=["SES-080", "ERR-041", "LIM-001", "SCR-021"])
def idle_sessions_live_for_ever():
    """max_idle_time is not looked at."""

    @replaces(Session, "_watch_idling")
    def _(original, self, idles):
        return None


@mutant(violates=["SES-071"])
def open_blocks_end_untold():
    """No notice tells of a block that is open when the session ends."""

    @reports(Notice)
    def _(report):
        return () if report.code is NoticeCode.INCOMPLETE_BLOCK else (report,)


@mutant(violates=["SES-082", "SES-084", "SES-089", "WIRE-100", "WIRE-102"])
def half_close_is_finish():
    """The end of the client's events finishes the session."""

    @replaces(Session, "_half_close")
    def _(original, self, event):
        self._ending.finish(FinishReason.FINISHED_BY_CLIENT)


@mutant(violates=["SES-083", "SES-082"])
def half_closed_calls_stay_open():
    """After a half-close, calls of the client go on unresolved."""

    @replaces(Session, "_half_close")
    def _(original, self, event):
        self._core.half_closed = True


@mutant(violates=["SES-086", "SCR-024", "SES-080"])
def pause_stops_timers():
    """Timers do not fire while a session is paused."""

    @replaces(Session, "_advance")
    def _(original, self, now_ms):
        if not self._core.paused:
            return original(self, now_ms)
        self._core.now_ms = now_ms
        return []


@mutant(violates=["SES-086", "SES-021"], also={"*": "the session is paused"})
def pause_stops_nothing():
    """A paused session goes on decoding."""

    @replaces(Session, "_look")
    def _(original, self):
        paused, self._core.paused = self._core.paused, False
        original(self)
        self._core.paused = paused


# --- the ledger --------------------------------------------------------------------------------------------------


@mutant(violates=["SES-090", "SES-074"])
def ledger_misses_anonymous_calls():
    """The ledger has no rows for anonymous calls."""
    ledger = Core.ledger.fget

    def named(self):
        whole = ledger(self)
        return Ledger(tuple(row for row in whole.calls if row.id is not None), whole.interrupts)

    puts(Core, "ledger", property(named))


@mutant(violates=["SES-074", "SES-090", "WIRE-017", "WIRE-033"])
def finished_has_no_interrupts():
    """Finished has no rows for interrupts."""

    @reports(Finished)
    def _(report):
        return (dataclasses.replace(report, interrupts=()),)


@mutant(violates=["SES-091"])
def delivery_without_index():
    """A delivered call's row does not say where its interrupt is."""

    @replaces(CallRecord, "settle")
    def _(original, self, delivery, now_ms, *, token_index=None, reason=None):
        return original(self, delivery, now_ms, reason=reason)


@mutant(violates=["SES-092"])
def settles_twice():
    """CallSettled is sent twice."""

    @reports(CallSettled)
    def _(report):
        return report, report


@mutant(violates=["SES-093", "SES-092", "CALL-010"])
def failed_calls_are_told_later():
    """A call that failed without an id settles at the end of the session only."""

    @replaces(machine.CallDesk, "_settle_unawaited")
    def _(original, self, call):
        if call.dispatched_ms is not None:
            original(self, call)


@mutant(violates=["SES-094", "INT-045", "LIM-012", "WIRE-033"])
def undelivered_payloads_are_lost():
    """What was not delivered is handed back without its payload."""

    @replaces(InterruptQueue, "abandon")
    def _(original, self, interrupt, reason):
        original(self, interrupt, reason)
        interrupt.payload = ""


@mutant(violates=["SES-095"])
def usage_counts_injected_as_sampled():
    """Injected tokens are reported as sampled ones."""
    usage = Core.usage.fget

    def summed(self):
        counted = usage(self)
        return dataclasses.replace(
            counted, sampled_tokens=counted.sampled_tokens + counted.injected_tokens, injected_tokens=0
        )

    puts(Core, "usage", property(summed))


# --- modes -------------------------------------------------------------------------------------------------------


@mutant(violates=["SES-060", "SES-066"])
def sync_does_not_block():
    """With SYNC, decoding goes on behind a call."""

    @replaces(Stream, "_close_call")
    def _(original, self, block):
        original(self, block)
        return


@mutant(violates=["SES-062", "CALL-015", "CALL-047", "SES-065", "SES-088"])
def sync_parallel_dispatches_at_once():
    """With SYNC_PARALLEL, a call is dispatched at its [END]."""
    CallRecord.released = property(lambda self: True, lambda self, value: None)


@mutant(violates=["SES-063", "SES-067"])
def sync_parallel_traps_end_early():
    """With SYNC_PARALLEL, a trap ends when its own condition holds."""
    puts(traps, "_must_wait_for_all", lambda core: False)


# --- stop strings ------------------------------------------------------------------------------------------------


@mutant(violates=["SES-102"])
def stop_string_stays_in_the_text():
    """The text that is sent has the stop string in it."""

    @replaces(StopStrings, "feed")
    def _(original, self, text):
        given, found = original(self, text)
        return given + (found or ""), found


@mutant(violates=["SES-104"])
def stop_strings_end_blocks():
    """Stop strings are looked for inside blocks, too."""

    @replaces(Reader, "_look_for_stops")
    def _(original, self, items, stops):
        opened, self.parser.open_block = self.parser.open_block, None
        try:
            return original(self, items, stops)
        finally:
            self.parser.open_block = opened


@mutant(violates=["SES-105"])
def length_beats_the_stop_string():
    """Where both end a session at one token, LENGTH is told."""

    @replaces(Stream, "_stop")
    def _(original, self, stop):
        if not self._spent:
            original(self, stop)


@mutant(violates=["SES-101", "WIRE-067", "SES-100", "SES-103"])
def stop_strings_are_not_held_back():
    """What may be the beginning of a stop string does not keep interrupts waiting."""
    puts(StopStrings, "pending", property(lambda self: False))
