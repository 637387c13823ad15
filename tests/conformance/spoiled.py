"""Ways to spoil a recorded stream, each with a requirement that has to be named for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.conformance.mutation import Events, at, body_of, changed, moved, numbered, stamped, twice, without

from asynclm.v1 import session_pb2, types_pb2

Spoil = Callable[[Events], Events]
SPOILED: list[Any] = []

CALL, TRAP = types_pb2.CONTROL_TOKEN_CALL, types_pb2.CONTROL_TOKEN_TRAP
END, HEAD = types_pb2.CONTROL_TOKEN_END, types_pb2.CONTROL_TOKEN_HEAD
INTR_ID, CALL_ID, END_ID = 257, 256, 259
OK, PARTIAL, ERROR = types_pb2.STATUS_OK, types_pb2.STATUS_PARTIAL, types_pb2.STATUS_ERROR


def spoils(requirement: str, name: str = "busy") -> Callable[[Spoil], Spoil]:
    """Registers a way to spoil a recording."""

    def register(spoil: Spoil) -> Spoil:
        label = spoil.__name__ if spoil.__name__ != "<lambda>" else "field"
        number = len(SPOILED)
        SPOILED.append(pytest.param(name, requirement, spoil, id=f"{requirement}-{label}-{number}"))
        return spoil

    return register


def field(requirement: str, kind: str, nth: int = 0, recording: str = "busy", **values: Any) -> None:
    """Spoils the n-th event of a kind by other values of its fields."""
    spoils(requirement, recording)(lambda events: changed(events, at(events, kind, nth), **values))


# --- envelopes -----------------------------------------------------------------------------------------------------


@spoils("WIRE-050")
def loses_an_event(events: Events) -> Events:
    place = at(events, "probed")
    return events[:place] + events[place + 1 :]


@spoils("WIRE-052")
def turns_the_clock_back(events: Events) -> Events:
    return stamped(events, 0, time_ms=1)


@spoils("WIRE-051")
def stamps_an_index_that_is_past(events: Events) -> Events:
    return stamped(events, at(events, "call_settled", 1), token_index=0)


@spoils("WIRE-051", "hosted")
def stamps_an_index_that_no_piece_has_taken(events: Events) -> Events:
    place = at(events, "trap_entered")
    for event in events[place:]:
        event.token_index += 1
    return stamped(events, place, token_index=events[place].token_index - 1)


@spoils("BIND-001")
def binds_two_control_tokens_to_one_id(events: Events) -> Events:
    tokens = events[0].started.binding.tokens
    tokens[0].id = tokens[1].id
    return events


@spoils("BIND-001", "hosted")
def spells_two_control_tokens_alike(events: Events) -> Events:
    tokens = events[0].started.binding.tokens
    tokens[0].spelling = tokens[1].spelling
    return events


@spoils("BIND-006", "hosted")
def gives_ids_in_the_text_form(events: Events) -> Events:
    events[0].started.binding.tokens[0].id = 7
    return events


@spoils("WIRE-011")
def does_not_begin_with_started(events: Events) -> Events:
    return events[1:]


@spoils("WIRE-010")
def starts_twice(events: Events) -> Events:
    return twice(events, 0)


@spoils("WIRE-091")
def resumes_within_the_stream(events: Events) -> Events:
    return numbered([*events[:5], session_pb2.ServerEvent(resumed=session_pb2.Resumed()), *events[5:]])


@spoils("WIRE-068")
def sends_an_event_without_content(events: Events) -> Events:
    return numbered([*events[:5], session_pb2.ServerEvent(), *events[5:]])


@spoils("CALL-113")
def says_again_what_nobody_was_asked_anew_for(events: Events) -> Events:
    told = session_pb2.Notice(code=types_pb2.NOTICE_CODE_REPLAY, message="m")
    place = at(events, "tokens") + 1
    beside = session_pb2.ServerEvent(notice=told, token_index=events[place].token_index, time_ms=events[place].time_ms)
    return numbered([*events[:place], beside, *events[place:]])


@spoils("SES-073")
def goes_on_after_the_end(events: Events) -> Events:
    return numbered([*events, events[at(events, "probed")]])


@spoils("SES-073")
def never_ends(events: Events) -> Events:
    return events[:-1]


# --- Started -------------------------------------------------------------------------------------------------------

field("WIRE-014", "started", mode=types_pb2.EXECUTION_MODE_SYNC)
field("WIRE-014", "started", on_end=0)
field("WIRE-014", "started", body_language=99)
field("WIRE-014", "started", session_id="")
field("BIND-002", "started", binding__eos_ids=[END_ID])
field("BIND-005", "started", binding__eos_ids=[])
field("BIND-005", "started", binding__tokens=[])
field("BIND-007", "started", binding__tokenizer_fingerprint="abc")
field("BIND-007", "started", binding__tokenizer_fingerprint="")
field("BIND-008", "started", binding__name="llama-3")
field("WIRE-014", "started", unit=0)
field("WIRE-014", "started", credit=None)
field("WIRE-014", "started", tools=[])
field("LIM-002", "started", limits__max_queued=None)
field("LIM-002", "started", limits__max_new_tokens=7)
field("WIRE-014", "started", constraints=types_pb2.CONSTRAINTS_GRAMMAR)
field("WIRE-041", "started", model="another")
field("INT-062", "started", delivery=0)
field("WIRE-119", "started", grammar_hash="0" * 64)
field("SES-019", "started", recording="kept", constraints=types_pb2.CONSTRAINTS_GATES)
field("WIRE-019", "started", on_disconnect=types_pb2.ON_DISCONNECT_DETACH)


@spoils("CALL-090")
def offers_a_tool_twice(events: Events) -> Events:
    body_of(events[0]).tools.add().name = "f"
    return events


# --- tokens --------------------------------------------------------------------------------------------------------


@spoils("WIRE-055")
def runs_past_a_control_token(events: Events) -> Events:
    place = at(events, "tokens", control=CALL)
    events[place].tokens.ids.extend(events[place + 1].tokens.ids)
    return numbered([*events[: place + 1], *events[place + 2 :]])


field("WIRE-055", "tokens", in_block=CALL)
field("WIRE-055", "tokens", control=77)
field("WIRE-055", "tokens", end_of_sequence=True)
field("SES-010", "tokens", ids=[INTR_ID])
field("WIRE-057", "tokens", text="")
field("WIRE-074", "tokens", recording="hosted", ids=[1])
field("WIRE-074", "interrupt_committed", recording="hosted", ids=[1])


@spoils("SES-012", "synchronous")
def samples_a_head_outside_a_block(events: Events) -> Events:
    return changed(events, at(events, "tokens"), ids=[260], control=HEAD, text="")


@spoils("SES-012", "synchronous")
def ends_the_sequence_inside_a_block(events: Events) -> Events:
    return changed(events, at(events, "tokens", text="f"), ids=[261], end_of_sequence=True, text="")


@spoils("SES-014", "gated")
def traps_with_nothing_pending(events: Events) -> Events:
    return changed(events, at(events, "tokens"), ids=[258], control=TRAP, text="")


@spoils("SES-015", "gated")
def ends_with_a_call_pending(events: Events) -> Events:
    return changed(events, at(events, "tokens", text="z"), ids=[261], end_of_sequence=True, text="")


@spoils("SES-078")
def writes_a_block_over_the_limit(events: Events) -> Events:
    return changed(events, 0, limits__max_block_tokens=2)


@spoils("SES-076")
def goes_on_after_its_length(events: Events) -> Events:
    return changed(events, 0, limits__max_new_tokens=20)


@spoils("WIRE-070")
def overspends_the_credit(events: Events) -> Events:
    place = at(events, "tokens", text="o")
    return numbered(changed(events, place, ids=[111] * 90))


# --- log-probabilities and stop strings ----------------------------------------------------------------------------

field("WIRE-062", "tokens", recording="stopped", logprobs=[])
field("WIRE-062", "tokens", recording="stopped", ranks=[0])
field("WIRE-062", "tokens", recording="stopped", logprobs=[float("nan")])
field("WIRE-063", "tokens", recording="stopped", top_logprobs=[])


@spoils("WIRE-063", "stopped")
def gives_more_probable_tokens_than_asked_for(events: Events) -> Events:
    top = events[at(events, "tokens")].tokens.top_logprobs[0]
    top.tokens.add().CopyFrom(top.tokens[0])
    return events


@spoils("WIRE-063", "stopped")
def leaves_out_the_most_probable_token(events: Events) -> Events:
    events[at(events, "tokens")].tokens.top_logprobs[0].tokens[0].id = 99
    return events


field("SES-103", "finished", recording="stopped", stop_string=None)
field("SES-103", "finished", recording="stopped", stop_string="other")
field("SES-102", "tokens", -1, recording="stopped", text="stop!")
field("SES-100", "tokens", -1, recording="stopped", ids=list(b"!?"))


@spoils("SES-103", "stopped")
def samples_after_a_stop_string(events: Events) -> Events:
    return numbered([*events[:-1], events[at(events, "tokens")], events[-1]])


# --- interrupts ----------------------------------------------------------------------------------------------------


@spoils("INT-004")
def commits_inside_a_block(events: Events) -> Events:
    return moved(events, at(events, "interrupt_committed"), at(events, "tokens", control=HEAD) + 1)


@spoils("INT-004")
def commits_before_the_trap_is_left(events: Events) -> Events:
    place = at(events, "interrupt_committed", source="a", status=OK)
    return moved(events, place, at(events, "trap_entered", 1) + 1)


@spoils("INT-044")
def commits_twice(events: Events) -> Events:
    return twice(events, at(events, "interrupt_committed", source="@system"))


field("INT-044", "interrupt_committed", source="@user")
field("INT-044", "interrupt_committed", status=0)
field("WIRE-058", "interrupt_committed", payload="{}")
field("INT-043", "interrupt_committed", ids=[])


@spoils("CML-054")
def lets_a_payload_close_its_frame(events: Events) -> Events:
    place = at(events, "interrupt_committed")
    ids = list(events[place].interrupt_committed.ids)
    return changed(events, place, ids=[*ids[:-2], ids[-1], ids[-2]])


@spoils("INT-040")
def commits_an_update_after_its_result(events: Events) -> Events:
    partial = at(events, "interrupt_committed", status=PARTIAL)
    return moved(events, partial, at(events, "interrupt_committed", source="a", status=OK) + 1)


@spoils("INT-040")
def leaves_one_of_a_batch_in_the_queue(events: Events) -> Events:
    return without(events, at(events, "interrupt_committed", source="@system"))


@spoils("INT-002")
def keeps_a_result_back_while_text_runs(events: Events) -> Events:
    return moved(events, at(events, "interrupt_committed", source="@system"), at(events, "tokens", text="o") + 1)


field("INT-025", "interrupt_accepted", number=5)
field("INT-020", "interrupt_accepted", status=0)
field("INT-020", "interrupt_accepted", source="@system")
field("INT-020", "interrupt_accepted", client_seq=2)
field("INT-020", "interrupt_accepted", client_seq=77)
field("INT-030", "interrupt_accepted", scheduling=types_pb2.SCHEDULING_IMMEDIATE)
field("INT-030", "interrupt_accepted", scheduling=0)
field("INT-011", "interrupt_accepted", client_seq=0)
field("INT-011", "interrupt_accepted", status=ERROR)
field("INT-012", "interrupt_accepted", source="@runtime")
field("INT-012", "interrupt_accepted", 4, status=PARTIAL)
field("INT-021", "interrupt_rejected", payload="2")
field("INT-021", "interrupt_rejected", reason=0)
field("INT-022", "interrupt_rejected", reason=types_pb2.REJECT_REASON_NOT_OWNER)


@spoils("INT-022")
def accepts_what_it_has_to_reject(events: Events) -> Events:
    place = at(events, "interrupt_rejected")
    accepted = session_pb2.InterruptAccepted(source="nobody", status=OK, scheduling=1, client_seq=3)
    events[place].interrupt_accepted.CopyFrom(accepted)
    return events


@spoils("INT-020")
def does_not_answer_an_interrupt(events: Events) -> Events:
    return without(events, at(events, "interrupt_rejected"))


@spoils("WIRE-031")
def answers_out_of_order(events: Events) -> Events:
    return moved(events, at(events, "interrupt_rejected"), at(events, "interrupt_accepted", source="@system") + 1)


# --- calls ---------------------------------------------------------------------------------------------------------


@spoils("CALL-006")
def emits_a_call_before_its_tokens(events: Events) -> Events:
    place = at(events, "call_emitted")
    return moved(events, place, place - 1)


@spoils("CALL-006")
def does_not_emit_a_call(events: Events) -> Events:
    return without(events, at(events, "call_emitted", id="c"))


field("CALL-006", "call_emitted", raw="f(x=1)")
field("CALL-006", "call_emitted", function="g")
field("CALL-006", "call_emitted", 1, references=[])
field("CALL-001", "call_emitted", index=7)
field("CALL-004", "call_emitted", 1, id="a")


@spoils("CALL-011")
def dispatches_before_its_reference(events: Events) -> Events:
    return moved(events, at(events, "call_dispatched", id="b"), at(events, "call_emitted", id="b") + 1)


@spoils("CALL-010")
def never_dispatches(events: Events) -> Events:
    return without(events, at(events, "call_dispatched", id="a"))


@spoils("SEC-022")
def dispatches_twice(events: Events) -> Events:
    return twice(events, at(events, "call_dispatched"))


@spoils("CALL-022")
def dispatches_what_is_resolved(events: Events) -> Events:
    return moved(events, at(events, "call_dispatched", id="c"), at(events, "interrupt_accepted", source="c") + 1)


field("CALL-012", "call_dispatched", arguments="[]")
field("CALL-012", "call_dispatched", arguments="[" * 100_000)
field("CALL-012", "call_dispatched", 1, arguments='{"n": 2}')
field("CALL-012", "call_dispatched", function="g")
field("CALL-014", "call_dispatched", timeout_ms=1)
field("WIRE-014", "call_dispatched", client_owned=False)


@spoils("CALL-051", "synchronous")
def accepts_a_second_result(events: Events) -> Events:
    return twice(events, at(events, "interrupt_accepted"))


@spoils("SES-092")
def settles_twice(events: Events) -> Events:
    return twice(events, at(events, "call_settled"))


@spoils("SES-092")
def never_settles(events: Events) -> Events:
    return without(events, at(events, "call_settled"))


@spoils("WIRE-053")
def settles_before_the_commit(events: Events) -> Events:
    place = at(events, "call_settled", 1)
    assert events[place].call_settled.row.delivery == types_pb2.DELIVERY_DELIVERED
    return moved(events, place, place - 1)


field("SES-092", "call_settled", row=None)
field("SES-091", "call_settled", row__result=0)
field("SES-091", "call_settled", row__delivery=9)
field("SES-091", "call_settled", 1, row__token_index=3)
field("SES-091", "call_settled", 1, row__result=types_pb2.RESULT_ERROR)
field("SES-091", "call_settled", -1, row__reason=0)
field("CALL-041", "call_settled", 1, row__delivery=types_pb2.DELIVERY_NOT_AWAITED)
field("SES-094", "call_settled", 1, row__delivery=types_pb2.DELIVERY_UNDELIVERED)

# --- cancels and probes --------------------------------------------------------------------------------------------

field("CALL-070", "cancel_outcome", outcome=0)
field("CALL-070", "cancel_outcome", index=0)
field("CALL-070", "cancel_outcome", client_seq=0)
field("CALL-071", "cancel_outcome", outcome=session_pb2.CancelOutcome.OUTCOME_NOT_FOUND)
field("CALL-071", "cancel_outcome", recording="kept", outcome=session_pb2.CancelOutcome.OUTCOME_CANCELLED)
field("CALL-072", "cancel_outcome", recording="synchronous", outcome=session_pb2.CancelOutcome.OUTCOME_TOO_LATE)
field("CALL-073", "cancel_outcome", recording="synchronous", outcome=session_pb2.CancelOutcome.OUTCOME_CANCELLED)
field("CALL-074", "cancel_outcome", outcome=session_pb2.CancelOutcome.OUTCOME_NOT_CANCELLABLE)
field("CALL-076", "cancel_outcome", idempotent=True)
field("CALL-073", "call_cancel_requested", index=0)
field("CALL-073", "call_cancel_requested", origin=0)
field("WIRE-080", "probed", state=types_pb2.STATE_TRAPPED)
field("WIRE-080", "probed", queued=1)
field("WIRE-080", "probed", unresolved=["a"])
field("WIRE-080", "probed", nonce="other")
field("WIRE-072", "probed", credit=700)
field("WIRE-081", "probed", credit=7)


@spoils("CALL-070", "kept")
def does_not_answer_a_cancel(events: Events) -> Events:
    return without(events, at(events, "cancel_outcome"))


@spoils("WIRE-083")
def does_not_answer_a_probe(events: Events) -> Events:
    return without(events, at(events, "probed"))


@spoils("WIRE-083", "kept")
def does_not_answer_the_last_probe(events: Events) -> Events:
    """What the client has finished has taken everything before it."""
    return without(events, at(events, "probed"))


# --- waits ---------------------------------------------------------------------------------------------------------


@spoils("TRAP-001")
def does_not_enter_a_trap(events: Events) -> Events:
    place = at(events, "trap_entered")
    return numbered(events[:place] + events[place + 2 :])


@spoils("TRAP-001")
def enters_a_trap_before_its_end(events: Events) -> Events:
    place = at(events, "trap_entered")
    return moved(events, place, place - 1)


field("TRAP-001", "trap_entered", trap__quantifier=types_pb2.QUANTIFIER_ANY)
field("TRAP-001", "trap_entered", trap__quantifier=44)
field("SES-060", "trap_entered", implicit=True)
field("SES-060", "trap_entered", recording="synchronous", trap__ids=["b"])


@spoils("SES-066", "synchronous")
def waits_for_a_call_that_another_block_cut_short(events: Events) -> Events:
    place = next(n for n, event in enumerate(events) if event.tokens.control == END)
    ids = [*events[place].tokens.ids[:-1], CALL_ID]
    return changed(events, place, ids=ids, control=CALL)


@spoils("TRAP-020")
def leaves_a_trap_that_was_not_entered(events: Events) -> Events:
    return without(events, at(events, "trap_entered"))


@spoils("TRAP-002")
def samples_in_a_trap(events: Events) -> Events:
    return without(events, at(events, "trap_exited", 1))


@spoils("TRAP-012")
def stays_in_a_trap_that_holds(events: Events) -> Events:
    return without(events, at(events, "trap_exited", 1))


@spoils("TRAP-010")
def leaves_a_trap_too_early(events: Events) -> Events:
    return moved(events, at(events, "trap_exited", 1), at(events, "trap_entered", 1) + 1)


@spoils("TRAP-010")
def leaves_the_trap_before_the_interrupt_that_ends_it(events: Events) -> Events:
    place = at(events, "trap_exited", 1)
    return moved(events, place, place - 1)


@spoils("TRAP-021")
def does_not_commit_what_ends_a_trap(events: Events) -> Events:
    return without(events, at(events, "interrupt_committed", source="@user"))


field("TRAP-031", "trap_exited", timed_out=True)
field("TRAP-040", "trap_exited", empty=True)
field("TRAP-043", "trap_exited", empty=True)
field("TRAP-010", "trap_exited", -1, empty=False)


@spoils("TRAP-031", "hosted")
def does_not_tell_that_a_trap_timed_out(events: Events) -> Events:
    place = at(events, "interrupt_accepted", source="@runtime", status=types_pb2.STATUS_TIMEOUT)
    return changed(events, place, status=ERROR)


@spoils("TRAP-044", "hosted")
def goes_on_after_too_many_empty_traps(events: Events) -> Events:
    return changed(events, 0, limits__max_empty_traps=1)


@spoils("SES-049")
def hides_the_end_of_sequence(events: Events) -> Events:
    return without(events, at(events, "state_changed"))


field("SES-049", "state_changed", state=types_pb2.STATE_TRAPPED)
field("SES-042", "state_changed", recording="kept", state=types_pb2.STATE_DRAINING)
field("SES-047", "state_changed", state=types_pb2.STATE_IDLE)
field("SES-001", "state_changed", 1, state=types_pb2.STATE_DRAINING)


@spoils("SES-042")
def does_not_say_that_it_goes_on(events: Events) -> Events:
    return without(events, at(events, "state_changed", state=types_pb2.STATE_DECODING))


@spoils("SES-042")
def stops_with_calls_unresolved(events: Events) -> Events:
    place = at(events, "state_changed", state=types_pb2.STATE_DRAINING)
    return numbered([*events[:place], changed(events, len(events) - 1, reason=types_pb2.FINISH_REASON_STOP)[-1]])


@spoils("SES-041")
def stops_with_an_interrupt_that_wakes(events: Events) -> Events:
    place = at(events, "interrupt_accepted", source="@user")
    return numbered([*events[: place + 1], changed(events, len(events) - 1, reason=types_pb2.FINISH_REASON_STOP)[-1]])


# --- the end -------------------------------------------------------------------------------------------------------

field("SES-074", "finished", reason=0)
field("SES-074", "finished", usage=None)
field("SES-095", "finished", usage__sampled_tokens=999)
field("SES-116", "finished", hosted__requests=1)
field("INT-046", "finished", usage__injected_tokens=0)
field("SES-090", "finished", calls=[])
field("SES-090", "finished", interrupts=[])
field("SES-076", "finished", reason=types_pb2.FINISH_REASON_LENGTH)
field("TRAP-044", "finished", reason=types_pb2.FINISH_REASON_STALLED)


@spoils("SES-090")
def tells_another_result_at_the_end(events: Events) -> Events:
    events[-1].finished.calls[0].result = types_pb2.RESULT_ERROR
    return events


@spoils("SES-090")
def tells_another_interrupt_at_the_end(events: Events) -> Events:
    events[-1].finished.interrupts[0].source = "@system"
    return events


@spoils("INT-045")
def loses_a_payload_that_was_not_delivered(events: Events) -> Events:
    events[-1].finished.interrupts[-1].payload = ""
    return events


@spoils("INT-045")
def tells_another_place_of_an_interrupt(events: Events) -> Events:
    events[-1].finished.interrupts[0].token_index = 1
    return events
