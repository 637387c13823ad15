"""The rules of traps, one test each (spec: traps)."""

from __future__ import annotations

import json

import pytest
from tests.session.player import Player, every, names, only

from asynclm.cml.blocks import Trap
from asynclm.cml.control import Quantifier, Status
from asynclm.session import effects as fx
from asynclm.session.config import Constraints, ExecutionMode
from asynclm.session.errors import LocalProtocolError
from asynclm.session.events import TokenSampled
from asynclm.session.state import FinishReason, Scheduling, State

CALLS = "[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END]"
FAULT = '{"type": "t", "message": "m", "retryable": false}'


def trapped(condition: str = "", **settings: object) -> Player:
    """A session that has called `a` and `b` and waits."""
    player = Player(**settings)  # type: ignore[arg-type]
    player.write(f"{CALLS}[TRAP]{condition}[END]")
    assert player.state is State.TRAPPED
    return player


# --- entering --------------------------------------------------------------------------------------------------


def test_a_trap_stops_decoding() -> None:
    """[TRAP-001], [TRAP-002], [TRAP-004]."""
    player = trapped("all a, b within 1.5")
    assert names(player.log)[-2:] == ["TrapEntered", "Suspend"]
    entered = only(fx.TrapEntered, player.log)
    assert (entered.trap, entered.implicit) == (Trap(Quantifier.ALL, ("a", "b"), 1_500), False)
    assert not player.session.can_step
    with pytest.raises(LocalProtocolError):
        player.session.receive(TokenSampled(token_id=97))
    with pytest.raises(LocalProtocolError):
        player.session.safe_point()


# --- the condition ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "ends_with"),
    [
        ("", 1),
        ("a", 1),
        ("b", 2),
        ("a, b", 2),
        ("all a, b", 2),
        ("any a, b", 1),
        ("any b, zero", 2),
        ("all", 2),
        ("a, a", 1),
    ],
)
def test_conditions(condition: str, ends_with: int) -> None:
    """[TRAP-010], [TRAP-011], [TRAP-013], [TRAP-014], [TRAP-016], [TRAP-020]: `a` resolves, then `b`."""
    player = trapped(condition)
    exits = [len(every(fx.TrapExited, player.send(call, "1"))) for call in ("a", "b")]
    assert exits.index(1) + 1 == ends_with


@pytest.mark.parametrize("condition", ["a, b", "any a, b", "all", "b"])
def test_errors_resolve_too(condition: str) -> None:
    """[TRAP-010]."""
    player = trapped(condition)
    player.send("a", FAULT, Status.ERROR)
    player.cancel("b")
    assert player.state is State.DECODING


@pytest.mark.parametrize("condition", ["", "a", "any a, b", "all"])
@pytest.mark.parametrize("source", ["@user", "@agent.kim"])
def test_people_and_models_end_every_trap(condition: str, source: str) -> None:
    """[TRAP-015]: unless they are SILENT."""
    player = trapped(condition)
    player.send(source, "psst", scheduling=Scheduling.SILENT)
    assert player.state is State.TRAPPED
    assert names(player.send(source, "hi", scheduling=Scheduling.WHEN_IDLE)) == [
        "InterruptAccepted",
        "TrapExited",
        "Resume",
    ]


def test_the_application_ends_bare_traps_only() -> None:
    """[TRAP-014]."""
    player = trapped("a")
    player.send("@system", "x")
    assert player.state is State.TRAPPED
    player = trapped("")
    player.send("@system", "x")
    assert player.state is State.DECODING


def test_updates_end_a_bare_trap_only_if_their_sender_says_so() -> None:
    """[INT-030], [INT-032]."""
    player = trapped("")
    player.send("a", "1", Status.PARTIAL)
    assert player.state is State.TRAPPED
    player.send("a", "2", Status.PARTIAL, Scheduling.IMMEDIATE)
    assert player.state is State.DECODING
    player = trapped("any a, b")
    player.send("a", "1", Status.PARTIAL, Scheduling.IMMEDIATE)
    assert player.state is State.TRAPPED


def test_a_bare_trap_ends_when_the_last_pending_call_is_resolved_in_silence() -> None:
    """[TRAP-014]: it would never end otherwise."""
    player = trapped("")
    player.send("a", "1", scheduling=Scheduling.SILENT)
    assert player.state is State.TRAPPED
    player.send("b", "1", scheduling=Scheduling.SILENT)
    assert player.state is State.DECODING


@pytest.mark.parametrize("condition", ["", "a", "all", "any a, zero"])
def test_a_result_that_came_while_the_trap_was_written_is_found(condition: str) -> None:
    """[TRAP-012], [TRAP-022]: it is no empty trap."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][TRAP]")
    player.send("a", "1")
    effects = player.write(f"{condition}[END]")
    assert names(effects)[-2:] == ["TrapEntered", "TrapExited"]
    assert not only(fx.TrapExited, effects).empty
    player.safe_point()
    assert player.committed == [("a", "1")]


def test_a_trap_on_a_settled_call_holds_at_once() -> None:
    """[TRAP-010]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    effects = player.write("x[TRAP]a[END]")
    assert not only(fx.TrapExited, effects).empty


def test_everything_queued_is_committed_after_a_trap() -> None:
    """[TRAP-021]."""
    player = trapped("a")
    player.send("b", "2")
    player.send("@system", "s", scheduling=Scheduling.SILENT)
    player.send("@system", "i", scheduling=Scheduling.WHEN_IDLE)
    player.send("a", "1")
    player.safe_point()
    assert [source for source, _ in player.committed] == ["b", "@system", "@system", "a"]


def test_a_trap_ends_without_credit_and_paused_but_commits_nothing() -> None:
    """[TRAP-020], [SES-086]."""
    player = trapped("", credit=100)
    player.pause()
    assert names(player.send("a", "1")) == ["InterruptAccepted", "TrapExited", "Resume"]
    assert not player.session.can_step
    player.pause(False)
    assert every(fx.InterruptCommitted, player.safe_point())


# --- time-outs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["within 0.5", "a, b within 0.5", "all within 0.5", "any a, zero within 0.5"])
def test_within(condition: str) -> None:
    """[TRAP-030], [TRAP-031], [TRAP-032]."""
    player = trapped(condition)
    player.pause()
    assert player.advance(499) == []
    effects = player.advance(1)
    assert names(effects) == ["InterruptAccepted", "TrapExited", "Resume"]
    assert only(fx.TrapExited, effects).timed_out
    player.pause(False)
    player.safe_point()
    [(source, payload)] = player.committed
    assert source == "@runtime:timeout"
    assert json.loads(payload).keys() == {"type", "message", "retryable"}
    assert (json.loads(payload)["type"], json.loads(payload)["retryable"]) == ("timeout", True)
    player.send("a", "1")
    player.write("x")
    assert player.committed[1] == ("a", "1")


def test_a_trap_that_ends_in_time_has_no_time_out_left() -> None:
    """[TRAP-030]."""
    player = trapped("a within 1")
    player.send("a", "1")
    player.write("x")
    assert player.advance(5_000) == []


def test_within_0() -> None:
    """[TRAP-033]."""
    player = Player()
    player.write(f"{CALLS}")
    effects = player.write("[TRAP]a within 0[END]")
    assert names(effects)[-2:] == ["TrapEntered", "TrapExited"]
    assert only(fx.TrapExited, effects).timed_out
    player.send("a", "1")
    assert not only(fx.TrapExited, player.write("[TRAP]a within 0[END]")).timed_out


# --- traps that cannot end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "condition", "empty"),
    [
        ("", "", True),
        ("", "all", True),
        ("", "within 1", True),
        ("", "all within 1", True),
        ("", "zero", True),
        ("", "any zero, none_such", True),
        (CALLS, "a, zero", True),
        (CALLS, "all zero, b within 3", True),
        (CALLS, "any a, zero", False),
        (CALLS, "", False),
        ("[CALL]f()[END]", "", True),
        ("[CALL]f()[END]", "all", True),
    ],
)
def test_traps_that_cannot_end_do_not_stop(before: str, condition: str, empty: bool) -> None:
    """[TRAP-040], [TRAP-041], [TRAP-042], [TRAP-043], [CALL-040]."""
    player = Player(constraints=Constraints.STATIC)
    player.write(before)
    effects = player.write(f"[TRAP]{condition}[END]")
    if not empty:
        assert player.state is State.TRAPPED
        return
    assert names(effects)[-4:] == ["InterruptAccepted", "Tokens", "TrapEntered", "TrapExited"]
    assert only(fx.TrapExited, effects).empty
    player.safe_point()
    [(source, payload)] = player.committed
    assert source == "@runtime:error"
    assert json.loads(payload)["type"] == "trap"
    assert player.state is State.DECODING


@pytest.mark.parametrize(
    ("condition", "source", "scheduling", "empty"),
    [
        ("", "@system", Scheduling.WHEN_IDLE, False),
        ("", "@system", Scheduling.SILENT, True),
        ("all", "@system", Scheduling.WHEN_IDLE, True),
        ("all", "@user", Scheduling.WHEN_IDLE, False),
        ("zero", "@user", Scheduling.WHEN_IDLE, False),
        ("zero", "@user", Scheduling.SILENT, True),
    ],
)
def test_something_queued_can_save_a_trap(condition: str, source: str, scheduling: Scheduling, empty: bool) -> None:
    """[TRAP-040], [TRAP-041]."""
    player = Player(constraints=Constraints.STATIC)
    player.write("[TRAP]")
    player.send(source, "x", scheduling=scheduling)
    assert only(fx.TrapExited, player.write(f"{condition}[END]")).empty is empty


def test_empty_traps_in_a_row_end_the_session() -> None:
    """[TRAP-044]: what `@runtime` says does not count as something new."""
    player = Player(limits={"max_empty_traps": 3})
    player.write("[TRAP][END] hm [TRAP][END] hm ")
    effects = player.write("[TRAP][END]")
    assert names(effects)[-3:] == ["TrapEntered", "TrapExited", "Finished"]
    assert player.finished.reason is FinishReason.STALLED
    assert [row.source for row in player.finished.interrupts] == ["@runtime"] * 3


def test_a_committed_interrupt_begins_the_count_anew() -> None:
    """[TRAP-044]."""
    player = Player(limits={"max_empty_traps": 2}, constraints=Constraints.STATIC)
    for _ in range(4):
        player.write("[TRAP][END]")
        player.send("@system", "x", scheduling=Scheduling.SILENT)
        player.write("x")
    assert not player.session.finished


def test_a_trap_that_holds_does_not_reset_the_count_by_itself() -> None:
    """[TRAP-044]."""
    player = Player(limits={"max_empty_traps": 2}, constraints=Constraints.STATIC)
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    player.write("x[TRAP][END]x[TRAP]a[END]x[TRAP][END]")
    assert player.finished.reason is FinishReason.STALLED


@pytest.mark.parametrize("condition", ["within", "all,", "a b", "a[HEAD]", "1"])
def test_a_malformed_trap_is_told_and_not_counted(condition: str) -> None:
    """[TRAP-045]."""
    player = Player(limits={"max_empty_traps": 1})
    effects = player.write(f"[TRAP]{condition}[END]")
    assert names(effects)[-3:] == ["InterruptAccepted", "Tokens", "Notice"]
    player.safe_point()
    [(source, payload)] = player.committed
    assert source == "@runtime:error"
    assert (json.loads(payload)["type"], json.loads(payload)["retryable"]) == ("trap", True)
    player.write("goes on")


# --- how long --------------------------------------------------------------------------------------------------


def suspended(player: Player) -> int | None:
    """The expected wait with the last Suspend."""
    return every(fx.Suspend, player.log)[-1].expected_wait_ms


@pytest.mark.parametrize(
    ("mode", "condition", "expected"),
    [
        (ExecutionMode.ASYNC, "", 400),
        (ExecutionMode.ASYNC, "all", 900),
        (ExecutionMode.ASYNC, "y", 900),
        (ExecutionMode.ASYNC, "any y, x", 400),
        (ExecutionMode.ASYNC, "y, x", 900),
        (ExecutionMode.ASYNC, "y, x within 0.3", 300),
        (ExecutionMode.ASYNC, "u", None),
        (ExecutionMode.ASYNC, "u within 2", 2_000),
        (ExecutionMode.SYNC_PARALLEL, "any y, x", 1_000),
    ],
)
def test_the_expected_wait(mode: ExecutionMode, condition: str, expected: int | None) -> None:
    """[TRAP-052]: `x` takes 500 ms, `y` 1,000 ms, `u` is unknown; 100 ms ago in ASYNC, from now in SYNC_PARALLEL."""
    player = Player(mode=mode)
    player.write("[CALL]x[HEAD]g()[END][CALL]y[HEAD]typed(n=1)[END][CALL]u[HEAD]f()[END]")
    player.advance(100)
    assert player.session.expected_wait_ms() is None
    player.write(f"[TRAP]{condition}[END]")
    assert suspended(player) == player.session.expected_wait_ms() == expected


def test_a_call_that_is_late_is_expected_now() -> None:
    """[TRAP-052]."""
    player = Player()
    player.write("[CALL]x[HEAD]g()[END][TRAP]x[END]")
    player.advance(800)
    assert player.session.expected_wait_ms() == 0
    player.advance(200)
    assert player.session.expected_wait_ms() == 0
    player.advance(1)
    assert player.session.expected_wait_ms() is None, "at twice its time nothing is known of it any more"


def test_a_call_ends_with_its_time_at_the_latest() -> None:
    """[TRAP-052]: `typed` takes 1,000 ms, but has 300."""
    player = Player(limits={"max_call_time_ms": 300})
    player.write("[CALL]y[HEAD]typed(n=1)[END][TRAP]y[END]")
    assert player.session.expected_wait_ms() == 300


def test_a_held_call_takes_its_time_after_what_it_waits_for() -> None:
    """[TRAP-052]: `g` takes 500 ms, `typed` 1,000 ms, in a row; `f` is unknown."""
    player = Player()
    player.write("[CALL]x[HEAD]g()[END][CALL]y[HEAD]typed(n=x)[END]")
    player.write("[CALL]z[HEAD]typed(n=x, s=y)[END][TRAP]z[END]")
    assert player.session.expected_wait_ms() == 2_500
    player.advance(100)
    assert player.session.expected_wait_ms() == 2_400
    player.host(0, "1")
    assert player.session.expected_wait_ms() == 2_000


def test_what_waits_for_the_unknown_is_unknown() -> None:
    """[TRAP-052]."""
    player = Player()
    player.write("[CALL]u[HEAD]f()[END][CALL]y[HEAD]typed(n=u)[END][TRAP]y[END]")
    assert player.session.expected_wait_ms() is None


def test_a_tool_that_declares_nothing_takes_what_it_took_last() -> None:
    """[TRAP-052]: results count, failures among them; what never ran does not, nor what was cancelled."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][CALL]c[HEAD]f(x=a.no)[END]")
    player.advance(70)
    player.send("a", "{}")
    player.advance(30)
    player.write("[CALL]d[HEAD]f()[END][TRAP]d[END]")
    assert player.session.expected_wait_ms() == 70
    player.send("b", FAULT, status=Status.ERROR)
    assert player.session.expected_wait_ms() == 100
    player.advance(40)
    assert player.session.expected_wait_ms() == 60


def test_a_trap_does_not_inherit_the_time_of_another() -> None:
    """[TRAP-052]."""
    player = Player()
    player.write("[CALL]x[HEAD]g()[END][CALL]y[HEAD]typed(n=1)[END][TRAP]x within 0.9[END]")
    player.host(0, "1")
    player.write("[TRAP]y[END]")
    assert player.session.expected_wait_ms() == 1_000
