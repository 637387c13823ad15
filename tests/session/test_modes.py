"""The execution modes that exist for comparison (spec: sessions, section 5)."""

from __future__ import annotations

import pytest
from tests.session.player import Player, every, names, only

from asynclm.cml.blocks import Trap
from asynclm.cml.control import Quantifier
from asynclm.session import effects as fx
from asynclm.session.config import Constraints, ExecutionMode, OnEnd
from asynclm.session.state import Delivery, FinishReason, Result, Scheduling, State, UndeliveredReason


def dispatched(effects: list[fx.Effect]) -> list[int]:
    return [d.index for d in every(fx.CallDispatched, effects)]


# --- SYNC ------------------------------------------------------------------------------------------------------


def test_sync_waits_after_each_named_call() -> None:
    """[SES-060]."""
    player = Player(mode=ExecutionMode.SYNC)
    effects = player.write("[CALL]a[HEAD]f()[END]")
    assert names(effects)[-4:] == ["CallEmitted", "CallDispatched", "TrapEntered", "Suspend"]
    entered = only(fx.TrapEntered, effects)
    assert (entered.trap, entered.implicit) == (Trap(Quantifier.ALL, ("a",)), True)
    assert names(player.send("a", "1")) == ["InterruptAccepted", "TrapExited", "Resume"]
    player.write(" and on")
    assert player.committed == [("a", "1")]


def test_sync_does_not_block_on_anonymous_calls() -> None:
    """[SES-061]."""
    player = Player(mode=ExecutionMode.SYNC)
    player.write("[CALL]f()[END] and on")
    assert not every(fx.TrapEntered, player.log)


@pytest.mark.parametrize("body", ["f(", "nope()", "f(x=zero)", 'cml.cancel(id="zero")'])
def test_an_implicit_trap_is_never_empty(body: str) -> None:
    """[SES-064]."""
    player = Player(mode=ExecutionMode.SYNC, limits={"max_empty_traps": 1})
    effects = player.write(f"[CALL]a[HEAD]{body}[END]")
    assert names(effects)[-2:] == ["TrapEntered", "TrapExited"]
    assert not only(fx.TrapExited, effects).empty


def test_sync_takes_a_duplicate_for_anonymous() -> None:
    """[CALL-004], [SES-061]."""
    player = Player(mode=ExecutionMode.SYNC)
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    effects = player.write("[CALL]a[HEAD]f()[END]")
    assert not every(fx.TrapEntered, effects)


def test_sync_and_a_block_that_ends_a_call() -> None:
    """[CML-061], [SES-066]: without an `[END]` no trap is implied, and the new block stands."""
    player = Player(mode=ExecutionMode.SYNC, constraints=Constraints.NONE)
    player.write("[CALL]a[HEAD]f() [TRAP]")
    assert player.state is State.IN_TRAP
    assert not every(fx.TrapEntered, player.log)
    player.write("a[END]")
    player.safe_point()
    assert [source for source, _ in player.committed] == ["a:error"]


def test_a_person_ends_an_implicit_trap() -> None:
    """[TRAP-015], [SES-063]: and the call goes on beside the stream."""
    player = Player(mode=ExecutionMode.SYNC)
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("@user", "stop waiting")
    player.write("all right")
    player.send("a", "1")
    player.write("x")
    assert [source for source, _ in player.committed] == ["@user", "a"]


# --- SYNC_PARALLEL ---------------------------------------------------------------------------------------------


def test_sync_parallel_holds_every_call_until_a_trap() -> None:
    """[SES-062]: in emission order, each once its references are resolved."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL)
    player.write("[CALL]a[HEAD]f()[END][CALL]g()[END][CALL]b[HEAD]f(x=a)[END][CALL]c[HEAD]g()[END]")
    assert dispatched(player.log) == []
    effects = player.write("[TRAP]a[END]")
    assert dispatched(effects) == [0, 1, 3]
    assert names(effects)[-6:] == [
        "CallDispatched",
        "CallDispatched",
        "CallSettled",
        "CallDispatched",
        "TrapEntered",
        "Suspend",
    ]
    assert dispatched(player.send("a", "1")) == [2]


def test_sync_parallel_checks_a_held_call_once_its_references_are_resolved() -> None:
    """[CALL-039]"""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL)
    player.write("[CALL]a[HEAD]f()[END][TRAP]a[END]")
    player.send("a", '{"n": 1}')
    player.write("x")
    failed = player.write("[CALL]b[HEAD]typed(n=a)[END]")
    assert only(fx.InterruptAccepted, failed).source == "b"
    player.write("[CALL]c[HEAD]typed(n=a.n)[END]")
    assert dispatched(player.log) == [0]
    assert dispatched(player.write("[TRAP]c[END]")) == [2]


@pytest.mark.parametrize("condition", ["", "a", "any a, b", "all"])
def test_every_trap_of_sync_parallel_waits_for_all(condition: str) -> None:
    """[SES-063]."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL)
    player.write(f"[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][TRAP]{condition}[END]")
    player.send("@system", "x")
    player.send("a", "1")
    assert player.state is State.TRAPPED
    player.send("b", "2")
    player.write("x")
    assert [source for source, _ in player.committed] == ["@system", "a", "b"]


def test_a_person_ends_a_trap_of_sync_parallel() -> None:
    """[SES-063]: a call that comes after it is held until the next trap."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL)
    player.write("[CALL]a[HEAD]f()[END][TRAP][END]")
    player.send("@user", "hi")
    player.write("[CALL]b[HEAD]f()[END]x")
    assert dispatched(player.log) == [0]
    player.write("[TRAP][END]")
    assert dispatched(player.log) == [0, 1]


def test_sync_parallel_dispatches_at_end_of_sequence_and_drains_for_all() -> None:
    """[SES-062], [SES-063]."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL)
    effects = player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][EOS]")
    assert names(effects)[-5:] == ["Tokens", "CallDispatched", "CallDispatched", "StateChanged", "Suspend"]
    player.send("a", "1")
    assert player.state is State.DRAINING
    player.send("b", "1")
    assert player.state is State.DECODING


def test_sync_parallel_starts_anonymous_calls_before_it_finishes() -> None:
    """[SES-050], [SES-062]."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL)
    effects = player.write("[CALL]f()[END][EOS]")
    assert names(effects)[-3:] == ["CallDispatched", "CallSettled", "Finished"]


def test_sync_parallel_under_detach_starts_what_nobody_will_see() -> None:
    """[SES-045], [SES-062]."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL, on_end=OnEnd.DETACH)
    effects = player.write("[CALL]a[HEAD]f()[END][EOS]")
    assert dispatched(effects) == [0]
    assert player.row(0).reason is UndeliveredReason.DETACHED


def test_sync_parallel_under_cancel_starts_no_call_only_to_stop_it() -> None:
    """[SES-046], [SES-062]."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL, on_end=OnEnd.CANCEL)
    effects = player.write("[CALL]a[HEAD]stuck()[END][CALL]g()[END][EOS]")
    assert dispatched(effects) == [1]
    assert not every(fx.CallCancelRequested, effects)
    assert (player.row(0).result, player.row(0).reason) == (Result.CANCELLED, UndeliveredReason.CANCELLED_AT_END)
    assert player.row(1).delivery is Delivery.NOT_AWAITED


def test_sync_parallel_under_keep_starts_its_calls_before_it_rests() -> None:
    """[SES-047], [SES-062]: at the length limit too."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL, on_end=OnEnd.KEEP, limits={"max_new_tokens": 10})
    player.write("[CALL]a[HEAD]f()[END]xxx")
    assert (player.state, dispatched(player.log)) == (State.IDLE, [0])


def test_a_call_of_sync_parallel_fails_as_soon_as_it_must() -> None:
    """[CALL-037]: a reference to a call that was taken back, before anything is dispatched."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL)
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f(x=a)[END]")
    player.cancel("a")
    player.safe_point()
    assert [source for source, _ in player.committed] == ["a:cancelled", "b:error"]


def test_silent_results_end_draining_of_sync_parallel() -> None:
    """[SES-043]."""
    player = Player(mode=ExecutionMode.SYNC_PARALLEL)
    player.write("[CALL]a[HEAD]f()[END][EOS]")
    player.send("a", "1", scheduling=Scheduling.SILENT)
    assert player.finished.reason is FinishReason.STOP
    assert player.row(0).reason is UndeliveredReason.SILENT_AT_END
