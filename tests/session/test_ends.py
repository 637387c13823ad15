"""End of sequence, ends, limits, half-close and the ledger (spec: sessions, sections 4 and 6 to 8)."""

from __future__ import annotations

import json

import pytest
from tests.session.player import CODEC, Player, every, names, only, units

from asynclm.cml.control import Status
from asynclm.session import effects as fx
from asynclm.session.config import ExecutionMode, OnEnd
from asynclm.session.effects import CallTimings
from asynclm.session.errors import LocalProtocolError
from asynclm.session.events import FinishRequested, HalfClosed, TokenSampled
from asynclm.session.state import (
    CancelOrigin,
    Delivery,
    FinishReason,
    NoticeCode,
    Result,
    Scheduling,
    State,
    UndeliveredReason,
)

A = "[CALL]a[HEAD]f()[END]"
WAKING = [Scheduling.IMMEDIATE, Scheduling.WHEN_IDLE]


def queued_at_end(player: Player, scheduling: Scheduling) -> None:
    """Puts something into the queue between the last safe point and the end of sequence."""
    player.safe_point()
    player.send("@system", "x", scheduling=scheduling)


# --- end of sequence -------------------------------------------------------------------------------------------


def test_the_end_token_stays_in_the_stream() -> None:
    """[SES-040]."""
    player = Player(on_end=OnEnd.KEEP)
    player.write("x[EOS]")
    player.send("@user", "more")
    player.write("y")
    assert only(fx.InterruptCommitted, player.log).token_index == 2
    assert every(fx.Tokens, player.log)[1].ids == (min(CODEC.eos_ids),)


@pytest.mark.parametrize("on_end", [OnEnd.WAIT, OnEnd.KEEP])
@pytest.mark.parametrize("scheduling", WAKING)
def test_the_queue_is_tested_first(on_end: OnEnd, scheduling: Scheduling) -> None:
    """[SES-041], [SES-049]: WHEN_IDLE included."""
    player = Player(on_end=on_end)
    player.write(f"{A}x")
    queued_at_end(player, scheduling)
    effects = player.give(TokenSampled(token_id=min(CODEC.eos_ids)))
    assert names(effects) == ["Tokens", "StateChanged"]
    assert only(fx.StateChanged, effects).state is State.DECODING
    assert only(fx.StateChanged, effects).reason == "end_of_sequence"
    player.write("y")
    assert player.committed == [("@system", "x")]


@pytest.mark.parametrize("scheduling", [None, *WAKING])
def test_draining_ends_with_what_would_end_a_bare_trap(scheduling: Scheduling | None) -> None:
    """[SES-042], [SES-049]."""
    player = Player()
    effects = player.write(f"{A}bye[EOS]")
    assert names(effects)[-3:] == ["Tokens", "StateChanged", "Suspend"]
    assert (player.state, player.session.can_step) == (State.DRAINING, False)
    player.send("@system", "psst", scheduling=Scheduling.SILENT)
    player.send("a", "1", Status.PARTIAL)
    assert player.state is State.DRAINING
    effects = player.send("@system", "x", scheduling=scheduling)
    assert names(effects) == ["InterruptAccepted", "StateChanged", "Resume"]
    assert only(fx.StateChanged, effects).reason == "interrupt"
    player.write("on")
    assert [source for source, _ in player.committed] == ["@system", "a:partial", "@system"]


def test_draining_finishes_when_only_silence_is_left() -> None:
    """[SES-043]."""
    player = Player()
    player.write(f"{A}[EOS]")
    player.send("@system", "psst", scheduling=Scheduling.SILENT)
    effects = player.send("a", '"r"', scheduling=Scheduling.SILENT)
    assert names(effects) == ["InterruptAccepted", "CallSettled", "Finished"]
    assert player.finished.reason is FinishReason.STOP
    assert [(r.reason, r.payload) for r in player.finished.interrupts] == [
        (UndeliveredReason.SILENT_AT_END, "psst"),
        (UndeliveredReason.SILENT_AT_END, '"r"'),
    ]
    row = player.row(0)
    assert (row.result, row.delivery, row.reason, row.payload) == (
        Result.OK,
        Delivery.UNDELIVERED,
        UndeliveredReason.SILENT_AT_END,
        '"r"',
    )


def test_silence_frees_held_calls_before_draining_is_judged() -> None:
    """[SES-043]: a call that is dispatched then is waited for."""
    player = Player()
    player.write(f"{A}[CALL]b[HEAD]g(x=a)[END][EOS]")
    effects = player.send("a", "1", scheduling=Scheduling.SILENT)
    assert names(effects) == ["InterruptAccepted", "CallDispatched"]
    assert player.state is State.DRAINING


@pytest.mark.parametrize("before", ["", "[CALL]f()[END]"])
def test_wait_with_nothing_pending_finishes(before: str) -> None:
    """[SES-044], [SES-050], [SES-073]."""
    player = Player()
    effects = player.write(f"{before}bye[EOS]")
    assert names(effects)[-2:] == ["Tokens", "Finished"]
    assert player.finished.reason is FinishReason.STOP


def test_silence_that_is_queued_at_end_of_sequence_is_handed_back() -> None:
    """[SES-043], [SES-044]."""
    player = Player()
    player.write("x")
    queued_at_end(player, Scheduling.SILENT)
    player.give(TokenSampled(token_id=min(CODEC.eos_ids)))
    assert player.finished.interrupts[0].reason is UndeliveredReason.SILENT_AT_END


def test_detach() -> None:
    """[SES-045]: what is queued is handed back, what is pending is reported."""
    player = Player(on_end=OnEnd.DETACH)
    player.write(f"{A}[CALL]b[HEAD]g()[END]")
    player.safe_point()
    player.send("a", '"r"')
    effects = player.give(TokenSampled(token_id=min(CODEC.eos_ids)))
    assert names(effects) == ["Tokens", "CallSettled", "CallSettled", "Finished"]
    a, b = player.finished.calls
    assert (a.result, a.reason, a.payload) == (Result.OK, UndeliveredReason.SESSION_FINISHED, '"r"')
    assert (b.result, b.delivery, b.reason) == (Result.NONE, Delivery.UNDELIVERED, UndeliveredReason.DETACHED)


def test_cancel_at_the_end() -> None:
    """[SES-046]: what cannot be cancelled goes as under DETACH."""
    player = Player(on_end=OnEnd.CANCEL)
    player.write(f"{A}[CALL]s[HEAD]stuck()[END][CALL]h[HEAD]stuck(x=a)[END]")
    effects = player.write("[EOS]")
    assert names(effects)[1:] == ["CallCancelRequested", "CallSettled", "CallSettled", "CallSettled", "Finished"]
    assert only(fx.CallCancelRequested, effects).origin is CancelOrigin.END
    a, s, h = player.finished.calls
    assert (a.result, a.reason) == (Result.CANCELLED, UndeliveredReason.CANCELLED_AT_END)
    assert json.loads(a.payload)["type"] == "cancelled"
    assert (s.result, s.reason) == (Result.NONE, UndeliveredReason.DETACHED)
    assert (h.result, h.reason) == (Result.CANCELLED, UndeliveredReason.CANCELLED_AT_END)


@pytest.mark.parametrize("pending", [True, False])
def test_keep(pending: bool) -> None:
    """[SES-047], [SES-048], [SES-049]."""
    player = Player(on_end=OnEnd.KEEP)
    effects = player.write((A if pending else "") + "x[EOS]")
    assert names(effects)[-3:] == ["Tokens", "StateChanged", "Suspend"]
    assert player.state is State.IDLE
    assert names(player.send("@system", "psst", scheduling=Scheduling.SILENT)) == ["InterruptAccepted"]
    effects = player.send("@user", "hello again", scheduling=Scheduling.WHEN_IDLE)
    assert names(effects) == ["InterruptAccepted", "StateChanged", "Resume"]
    player.write("y")
    assert [source for source, _ in player.committed] == ["@system", "@user"]


def test_the_expected_wait_at_the_end() -> None:
    """[TRAP-052]: DRAINING ends with the first result."""
    player = Player()
    player.write("[CALL]x[HEAD]g()[END][CALL]y[HEAD]typed(n=1)[END][EOS]")
    assert player.session.expected_wait_ms() == 500


# --- ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["x", "[CALL]f(", "[TRAP]", f"{A}[TRAP][END]", f"{A}[EOS]", "x[EOS]"], ids=lambda t: t[-6:]
)
def test_finish_ends_a_session_in_any_state(text: str) -> None:
    """[SES-070], [SES-073], [SES-074]."""
    player = Player(on_end=OnEnd.KEEP if text == "x[EOS]" else OnEnd.WAIT)
    player.write(text)
    player.finish(reason=FinishReason.ABORTED, message="enough")
    assert (player.finished.reason, player.finished.message) == (FinishReason.ABORTED, "enough")
    assert player.state is State.FINISHED
    assert not player.session.can_step


def test_an_open_block_is_not_run() -> None:
    """[SES-071], [ERR-022]: nor is it a call in the ledger."""
    player = Player()
    player.write("[CALL]a[HEAD]f()")
    effects = player.finish()
    assert only(fx.Notice, effects).code is NoticeCode.INCOMPLETE_BLOCK
    assert player.finished.calls == ()


@pytest.mark.parametrize(
    ("on_end", "cancel", "cancelled"),
    [
        (OnEnd.WAIT, None, False),
        (OnEnd.KEEP, None, False),
        (OnEnd.CANCEL, None, True),
        (OnEnd.WAIT, True, True),
        (OnEnd.CANCEL, False, False),
    ],
)
def test_pending_calls_at_an_end(on_end: OnEnd, cancel: bool | None, cancelled: bool) -> None:
    """[SES-072]."""
    player = Player(on_end=on_end)
    player.write(A)
    effects = player.finish(cancel_pending=cancel)
    assert bool(every(fx.CallCancelRequested, effects)) is cancelled
    expected = UndeliveredReason.CANCELLED_AT_END if cancelled else UndeliveredReason.DETACHED
    assert player.row(0).reason is expected


@pytest.mark.parametrize("reason", list(FinishReason))
def test_who_ends_a_session_from_outside_cancels_its_calls(reason: FinishReason) -> None:
    """[SES-072]."""
    player = Player()
    player.write(A)
    effects = player.session.receive(FinishRequested(reason=reason))
    outside = reason in (FinishReason.ABORTED, FinishReason.DISCONNECTED, FinishReason.DRAINED)
    assert bool(every(fx.CallCancelRequested, effects)) is outside


def test_a_client_that_is_gone_is_named_as_the_origin() -> None:
    player = Player()
    player.write(A)
    effects = player.finish(reason=FinishReason.DISCONNECTED, cancel_pending=True)
    assert only(fx.CallCancelRequested, effects).origin is CancelOrigin.DISCONNECT


@pytest.mark.parametrize("mode", list(ExecutionMode))
def test_anonymous_calls_at_an_end(mode: ExecutionMode) -> None:
    """[SES-092]: one that was never dispatched is not NOT_AWAITED."""
    player = Player(mode=mode)
    player.write("[CALL]f()[END]")
    player.finish()
    held = mode is ExecutionMode.SYNC_PARALLEL
    assert player.row(0).delivery is (Delivery.UNDELIVERED if held else Delivery.NOT_AWAITED)


def test_context_full() -> None:
    """[SES-075]: no room for another sampled token."""
    player = Player(limits={"context_length": 12}, prompt_tokens=10)
    player.write("xy")
    assert player.session.can_step
    assert names(player.safe_point()) == ["Finished"]
    assert player.finished.reason is FinishReason.CONTEXT_FULL


def test_a_session_in_a_full_context_still_ends_by_itself() -> None:
    """[SES-075]: end of sequence is STOP."""
    player = Player(limits={"context_length": 2})
    player.write("x[EOS]")
    assert player.finished.reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("xxx", FinishReason.LENGTH),
        ("x[CALL]f()", FinishReason.LENGTH),
        (f"{A}x", FinishReason.LENGTH),
        ("x[EOS]", FinishReason.STOP),
        ("[CALL]f()[END][EOS]", FinishReason.STOP),
        (f"{A}[EOS]", FinishReason.LENGTH),
    ],
)
def test_length(text: str, reason: FinishReason) -> None:
    """[SES-070], [SES-076]: an end of sequence that finishes anyway is STOP; one that would drain is not."""
    player = Player(limits={"max_new_tokens": len(units(text))})
    player.write(text)
    assert player.finished.reason is reason


def test_what_is_held_back_is_not_lost_at_the_end() -> None:
    """[WIRE-057]."""
    player = Player(limits={"max_new_tokens": 1})
    assert [(t.ids, t.text) for t in every(fx.Tokens, player.sample(0xC3))] == [((0xC3,), ""), ((), "\ufffd")]
    player = Player()
    player.sample(0xC3)
    assert only(fx.Tokens, player.finish()).text == "\ufffd"


def test_a_trap_at_the_length_limit_is_not_entered() -> None:
    """[SES-076]."""
    player = Player(limits={"max_new_tokens": 9})
    player.write(f"{A}[TRAP][END]")
    assert player.finished.reason is FinishReason.LENGTH
    assert not every(fx.TrapEntered, player.log)


def test_a_call_at_the_length_limit_is_dispatched() -> None:
    """[CALL-010], [SES-076]: it took effect before the end; nobody waits for it."""
    player = Player(limits={"max_new_tokens": 7}, mode=ExecutionMode.SYNC)
    effects = player.write(A)
    assert names(effects)[-5:] == ["Tokens", "CallEmitted", "CallDispatched", "CallSettled", "Finished"]


def test_length_after_end_of_sequence_that_would_go_on() -> None:
    """[SES-076]: what is queued is handed back."""
    player = Player(limits={"max_new_tokens": 2})
    player.write("x")
    queued_at_end(player, Scheduling.IMMEDIATE)
    player.give(TokenSampled(token_id=min(CODEC.eos_ids)))
    assert player.finished.reason is FinishReason.LENGTH
    assert player.finished.interrupts[0].payload == "x"


def test_under_keep_length_counts_from_the_last_wake() -> None:
    """[SES-077]."""
    player = Player(on_end=OnEnd.KEEP, limits={"max_new_tokens": 3})
    effects = player.write("abc")
    assert only(fx.StateChanged, effects).reason == "length"
    assert player.state is State.IDLE
    player.send("@user", "go on")
    player.write("de[EOS]")
    assert player.state is State.IDLE
    player.send("@user", "and on")
    player.write("f")
    assert player.state is State.DECODING


def test_under_keep_a_person_who_spoke_at_the_limit_is_answered() -> None:
    """[SES-041], [SES-077]."""
    player = Player(on_end=OnEnd.KEEP, limits={"max_new_tokens": 2})
    player.write("a")
    player.safe_point()
    player.send("@user", "wait")
    effects = player.give(TokenSampled(token_id=98))
    assert names(effects) == ["Tokens", "StateChanged"]
    player.write("cd")
    assert player.state is State.IDLE


def test_under_keep_a_block_at_the_limit_ends_the_session() -> None:
    """[SES-077]."""
    player = Player(on_end=OnEnd.KEEP, limits={"max_new_tokens": 3})
    player.write("[CALL]f(")
    assert player.finished.reason is FinishReason.LENGTH


def test_under_keep_a_trap_at_the_limit_is_not_entered() -> None:
    """[SES-077]: the session rests instead, and the next interrupt wakes it."""
    player = Player(on_end=OnEnd.KEEP, limits={"max_new_tokens": 9})
    player.write(f"{A}[TRAP][END]")
    assert player.state is State.IDLE
    player.send("a", "1")
    player.write("x")
    assert player.committed == [("a", "1")]


def test_an_unfinished_character_at_the_limit_is_given_up() -> None:
    """[SES-077]: nothing will complete it."""
    player = Player(on_end=OnEnd.KEEP, limits={"max_new_tokens": 1})
    effects = player.sample(0xC3)
    assert [(t.ids, t.text) for t in every(fx.Tokens, effects)] == [((0xC3,), ""), ((), "\ufffd")]
    assert player.state is State.IDLE


# --- no session hangs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["idle", "no credit", "paused", "trapped and paused", "no credit at the start"])
def test_idle_time(state: str) -> None:
    """[SES-080], [SES-081], [ERR-041]."""
    credit = {"no credit": 1, "no credit at the start": 0}.get(state)
    player = Player(on_end=OnEnd.KEEP, credit=credit, limits={"max_idle_time_ms": 1_000})
    if state == "idle":
        player.write("[EOS]")
    elif state == "no credit":
        player.write("x")
    elif state == "trapped and paused":
        player.write(f"{A}[TRAP][END]")
    if "paused" in state:
        player.pause()
    assert player.session.next_timer_ms == 1_000
    player.advance(999)
    player.advance(1)
    assert player.finished.reason is FinishReason.IDLE_TIMEOUT


def test_a_break_begins_idle_time_anew() -> None:
    """[SES-080]: it has to be without one."""
    player = Player(limits={"max_idle_time_ms": 1_000})
    player.pause()
    player.advance(900)
    player.pause()
    assert player.session.next_timer_ms == 1_000
    player.pause(False)
    assert player.session.next_timer_ms is None
    player.pause()
    player.advance(900)
    assert not player.session.finished


def test_idle_time_runs_through_what_does_not_break_it() -> None:
    """[SES-080]: no credit, then paused as well, then credit again."""
    player = Player(credit=0, limits={"max_idle_time_ms": 1_000})
    player.advance(500)
    player.pause()
    player.grant(5)
    assert player.session.next_timer_ms == 1_000


def test_half_close_is_not_finish() -> None:
    """[SES-082], [SES-083], [SES-089]."""
    player = Player()
    player.write(f"{A}[CALL]b[HEAD]g()[END][CALL]c[HEAD]f(x=b)[END][CALL]f(x=b)[END]")
    effects = player.half_close()
    assert names(effects) == [
        "InterruptAccepted",
        "InterruptAccepted",
        "CallSettled",
        "CallCancelRequested",
    ]
    assert only(fx.CallCancelRequested, effects).origin is CancelOrigin.DISCONNECT
    player.write("on[CALL]d[HEAD]f()[END][CALL]f()[END][CALL]e[HEAD]f(x=b)[END]")
    assert [d.index for d in every(fx.CallDispatched, player.log)] == [0, 1]
    player.host(1, "1")
    player.write("x")
    assert [source for source, _ in player.committed] == [
        "a:cancelled",
        "c:cancelled",
        "d:cancelled",
        "e:cancelled",
        "b",
    ]
    assert (player.row(3).result, player.row(5).result) == (Result.CANCELLED, Result.CANCELLED)
    assert player.half_close() == []


def test_half_close_fails_what_waits_for_the_clients_calls() -> None:
    """[CALL-037], [SES-083]: calls of the server too."""
    player = Player()
    player.write(f"{A}[CALL]b[HEAD]g(x=a)[END]")
    assert [a.source for a in every(fx.InterruptAccepted, player.half_close())] == ["a", "b"]


@pytest.mark.parametrize("first", ["half-close", "end"])
def test_after_half_close_idle_finishes(first: str) -> None:
    """[SES-084]."""
    player = Player(on_end=OnEnd.KEEP)
    player.write("x")
    if first == "half-close":
        player.half_close()
        player.write("[EOS]")
    else:
        player.write("[EOS]")
        player.half_close()
    assert player.finished.reason is FinishReason.STOP


@pytest.mark.parametrize("stuck", ["credit", "pause", "both"])
def test_after_half_close_nothing_can_start_a_session_that_cannot_step(stuck: str) -> None:
    """[SES-085]."""
    player = Player(credit=1 if stuck == "credit" else None)
    player.half_close()
    assert not player.session.finished
    if stuck == "credit":
        player.write("x")
    else:
        player.pause()
    assert player.finished.reason is FinishReason.FINISHED_BY_CLIENT


def test_half_close_of_a_paused_session_finishes_it() -> None:
    """[SES-085]."""
    player = Player()
    player.pause()
    player.half_close()
    assert player.session.finished
    with pytest.raises(LocalProtocolError):
        player.session.receive(HalfClosed())


# --- the ledger ------------------------------------------------------------------------------------------------


def test_the_ledger_has_every_call_and_interrupt() -> None:
    """[SES-090], [SES-091], [SES-092], [SES-094], [SES-096]."""
    player = Player()
    player.advance(10)
    player.write(f"{A}[CALL]b[HEAD]f(x=a)[END]")
    player.advance(20)
    player.send("a", '"r"')
    before = player.session.ledger()
    assert [(r.result, r.delivery, r.reason, r.payload) for r in before.calls] == [
        (Result.OK, Delivery.UNDELIVERED, None, '"r"'),
        (Result.NONE, Delivery.UNDELIVERED, None, ""),
    ]
    assert (before.interrupts[0].delivery, before.interrupts[0].reason) == (Delivery.UNDELIVERED, None)
    player.advance(5)
    player.write("x")
    player.finish()
    a, b = player.finished.calls
    assert a.timings == CallTimings(emitted_ms=10, dispatched_ms=10, resolved_ms=30, settled_ms=35)
    assert b.timings == CallTimings(emitted_ms=10, dispatched_ms=30, resolved_ms=None, settled_ms=35)
    assert (a.function, a.result, a.delivery, a.payload) == ("f", Result.OK, Delivery.DELIVERED, "")
    [row] = player.finished.interrupts
    assert (row.source, row.delivery, row.token_index, row.payload) == ("a", Delivery.DELIVERED, a.token_index, "")
    assert player.session.ledger().calls == player.finished.calls
    assert player.session.pending_calls == 0
    assert player.session.usage() == player.finished.usage


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (Status.OK, Result.OK),
        (Status.ERROR, Result.ERROR),
        (Status.CANCELLED, Result.CANCELLED),
        (Status.TIMEOUT, Result.TIMED_OUT),
    ],
)
def test_results_by_status(status: Status, result: Result) -> None:
    """[SES-091]."""
    player = Player()
    player.write("[CALL]a[HEAD]g()[END]")
    player.host(0, '{"type": "t", "message": "m", "retryable": false}', status)
    assert player.session.pending_calls == 1
    player.safe_point()
    assert (player.row(0).result, player.session.pending_calls) == (result, 0)


def test_what_the_engine_found_in_a_cache_is_told_apart() -> None:
    """[SES-095]."""
    player = Player(prompt_tokens=7)
    player.session.note_cached_tokens(5)
    player.send("@user", "more", scheduling=Scheduling.WHEN_IDLE)
    assert player.session.queued_interrupts == 1
    player.write("x[EOS]y[EOS]")
    assert player.session.queued_interrupts == 0
    assert (player.finished.usage.prompt_tokens, player.finished.usage.cached_tokens) == (7, 5)
