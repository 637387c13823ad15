"""Every state × every kind of event, as a table typed by hand; and the tables of the machine themselves."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.session.player import CODEC, TOOLS, Player, names, units

from asynclm.session import diagram
from asynclm.session import effects as fx
from asynclm.session import events as ev
from asynclm.session.config import DeliveryPolicy, Limits, OnEnd, SessionConfig
from asynclm.session.errors import LocalProtocolError
from asynclm.session.state import NoticeCode, State
from asynclm.session.timers import TimerKind, Timers
from asynclm.session.transitions import (
    CALL,
    EVENTS,
    SESSION,
    STEPPING,
    WAITING,
    CallState,
    CallTrigger,
    Cell,
    Trigger,
)

A = "[CALL]a[HEAD]f()[END]"


def in_text_sequence(player: Player) -> None:
    player.write(A)
    player.sample(0xC3)


REACH: dict[State, Callable[[Player], object]] = {
    State.DECODING: lambda p: p.write(f"{A}x"),
    State.IN_CALL: lambda p: p.write(f"{A}[CALL]"),
    State.IN_TRAP: lambda p: p.write(f"{A}[TRAP]"),
    State.IN_TEXT_SEQUENCE: in_text_sequence,
    State.TRAPPED: lambda p: p.write(f"{A}[TRAP][END]"),
    State.DRAINING: lambda p: p.write(f"{A}[EOS]"),
    State.IDLE: lambda p: p.write(f"{A}[EOS]"),
    State.FINISHED: lambda p: (p.write(A), p.finish()),
}
"""How a session with call `a` running comes into each state; credit is 50."""

EVENTS_GIVEN: dict[str, ev.Event] = {
    "text": ev.TokenSampled(token_id=97),
    "[CALL]": ev.TokenSampled(token_id=units("[CALL]")[0]),
    "[TRAP]": ev.TokenSampled(token_id=units("[TRAP]")[0]),
    "[END]": ev.TokenSampled(token_id=units("[END]")[0]),
    "end of sequence": ev.TokenSampled(token_id=min(CODEC.eos_ids)),
    "stream ended": ev.StreamEnded(),
    "result": ev.InterruptReceived(source="a", payload="1"),
    "user": ev.InterruptReceived(source="@user", payload="hi"),
    "cancel": ev.CancelRequested(id="a"),
    "grant": ev.CreditGranted(tokens=5),
    "pause": ev.PauseChanged(paused=True),
    "held": ev.OutputHeld(held=True),
    "probe": ev.ProbeRequested(nonce="n"),
    "finish": ev.FinishRequested(),
    "half-close": ev.HalfClosed(),
    "time": ev.TimeAdvanced(now_ms=1),
    "time-out": ev.TimeAdvanced(now_ms=300_000),
    "masked": ev.StepMasked(token="x"),
    "notice": ev.NoticeRaised(code=NoticeCode.TOOL, message="m"),
    "restarted": ev.RequestRestarted(),
    "said again": ev.TextReplayed(text="Hi."),
}

D, C, T, S = State.DECODING, State.IN_CALL, State.IN_TRAP, State.IN_TEXT_SEQUENCE
W, R, L, F = State.TRAPPED, State.DRAINING, State.IDLE, State.FINISHED
ERROR = "LocalProtocolError"
ORDER = (D, C, T, S, W, R, L, F)

TABLE: dict[str, tuple[State | str, ...]] = {
    #                    D  C  T  S  W      R      L      F
    "text":            (D, C, T, D, ERROR, ERROR, ERROR, ERROR),
    "[CALL]":          (C, C, C, C, ERROR, ERROR, ERROR, ERROR),
    "[TRAP]":          (T, T, T, T, ERROR, ERROR, ERROR, ERROR),
    "[END]":           (D, D, W, D, ERROR, ERROR, ERROR, ERROR),
    "end of sequence": (R, D, D, R, ERROR, ERROR, ERROR, ERROR),
    "stream ended":    (R, D, D, R, ERROR, ERROR, ERROR, ERROR),
    "result":          (D, C, T, S, D,     D,     D,     ERROR),
    "user":            (D, C, T, S, D,     D,     D,     ERROR),
    "cancel":          (D, C, T, S, D,     D,     D,     ERROR),
    "grant":           (D, C, T, S, W,     R,     L,     ERROR),
    "pause":           (D, C, T, S, W,     R,     L,     ERROR),
    "held":            (D, C, T, S, W,     R,     L,     ERROR),
    "probe":           (D, C, T, S, W,     R,     L,     ERROR),
    "finish":          (F, F, F, F, F,     F,     F,     ERROR),
    "half-close":      (D, C, T, S, D,     D,     D,     ERROR),
    "time":            (D, C, T, S, W,     R,     L,     ERROR),
    "time-out":        (D, C, T, S, D,     D,     D,     ERROR),
    "masked":          (D, C, T, S, ERROR, ERROR, ERROR, ERROR),
    "notice":          (D, C, T, S, W,     R,     L,     ERROR),
    "restarted":       (D, C, T, S, ERROR, ERROR, ERROR, ERROR),
    "said again":      (D, C, T, S, ERROR, ERROR, ERROR, ERROR),
}  # fmt: skip
"""The state after each event, with call `a` pending."""

REPORTS: dict[str, dict[State, list[str]]] = {
    "text": {
        D: ["Tokens"],
        C: ["Tokens"],
        T: ["Tokens"],
        S: ["Tokens"],
    },
    "[END]": {
        D: ["Tokens", "Notice"],
        C: ["InterruptAccepted", "Tokens", "Notice", "CallEmitted", "CallSettled"],
        T: ["Tokens", "TrapEntered", "Suspend"],
        S: ["Tokens", "Notice"],
    },
    "end of sequence": {
        D: ["Tokens", "StateChanged", "Suspend"],
        C: ["InterruptAccepted", "Tokens", "Notice", "CallEmitted", "CallSettled", "StateChanged"],
        T: ["InterruptAccepted", "Tokens", "Notice", "StateChanged"],
        S: ["Tokens", "StateChanged", "Suspend"],
    },
    "result": {
        D: ["InterruptAccepted"],
        C: ["InterruptAccepted"],
        T: ["InterruptAccepted"],
        S: ["InterruptAccepted"],
        W: ["InterruptAccepted", "TrapExited", "Resume"],
        R: ["InterruptAccepted", "StateChanged", "Resume"],
        L: ["InterruptAccepted", "StateChanged", "Resume"],
    },
    "cancel": {
        D: ["InterruptAccepted", "CallCancelRequested", "CancelAnswered"],
        C: ["InterruptAccepted", "CallCancelRequested", "CancelAnswered"],
        T: ["InterruptAccepted", "CallCancelRequested", "CancelAnswered"],
        S: ["InterruptAccepted", "CallCancelRequested", "CancelAnswered"],
        W: ["InterruptAccepted", "TrapExited", "Resume", "CallCancelRequested", "CancelAnswered"],
        R: ["InterruptAccepted", "StateChanged", "Resume", "CallCancelRequested", "CancelAnswered"],
        L: ["InterruptAccepted", "StateChanged", "Resume", "CallCancelRequested", "CancelAnswered"],
    },
    "probe": {D: [], C: [], T: [], S: [], W: ["Probed"], R: ["Probed"], L: ["Probed"]},
    "finish": {
        D: ["CallSettled", "Finished"],
        C: ["Notice", "CallSettled", "Finished"],
        T: ["Notice", "CallSettled", "Finished"],
        S: ["Tokens", "CallSettled", "Finished"],
        W: ["CallSettled", "Finished"],
        R: ["CallSettled", "Finished"],
        L: ["CallSettled", "Finished"],
    },
}
"""What comes out, where it differs by state."""


def reach(state: State) -> Player:
    player = Player(on_end=OnEnd.KEEP if state is State.IDLE else OnEnd.WAIT, credit=50)
    REACH[state](player)
    assert player.state is state
    return player


@pytest.mark.parametrize("state", ORDER)
@pytest.mark.parametrize("name", TABLE)
def test_every_state_and_event(name: str, state: State) -> None:
    player = reach(state)
    expected = TABLE[name][ORDER.index(state)]
    if expected == ERROR:
        with pytest.raises(LocalProtocolError):
            player.session.receive(EVENTS_GIVEN[name])
        assert player.session.state is state, "an event that is refused changes nothing"
        return
    effects = player.give(EVENTS_GIVEN[name])
    assert player.state is expected
    if name in REPORTS:
        assert names(effects) == REPORTS[name][state]


def test_the_table_has_every_kind_of_event() -> None:
    assert {type(event) for event in EVENTS_GIVEN.values()} == set.union(*map(set, EVENTS.values()))
    assert set(TABLE) == set(EVENTS_GIVEN)


# --- the tables ------------------------------------------------------------------------------------------------


def test_the_tables_cover_their_states() -> None:
    assert set(SESSION) == set(EVENTS) == set(State)
    assert set(CALL) == set(CallState)
    assert {state for state, events in EVENTS.items() if ev.TokenSampled in events} == STEPPING
    assert STEPPING | WAITING | {State.FINISHED} == set(State)
    assert {t for moves in SESSION.values() for t in moves} == set(Trigger)
    assert {t for moves in CALL.values() for t in moves} == set(CallTrigger)


def test_every_state_can_be_reached_and_left() -> None:
    """[SES-001]: FINISHED excepted."""
    targets = {target for moves in SESSION.values() for target in moves.values()}
    assert targets == set(State)
    assert all(SESSION[state][Trigger.FINISH] is State.FINISHED for state in set(State) - {State.FINISHED})
    assert SESSION[State.FINISHED] == {}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("trigger", list(Trigger))
def test_a_cell_moves_along_its_table_only(state: State, trigger: Trigger) -> None:
    cell: Cell[State, Trigger] = Cell(state, SESSION)
    target = SESSION[state].get(trigger)
    if target is None:
        with pytest.raises(LocalProtocolError, match=f"from {state.value} by {trigger.name}"):
            cell.move(trigger)
        assert cell.state is state
    else:
        cell.move(trigger)
        assert cell.state is target


def test_a_call_resolves_once_and_settles_once() -> None:
    """[SES-092]."""
    for path in ((CallTrigger.RESOLVE, CallTrigger.RESOLVE), (CallTrigger.SETTLE, CallTrigger.SETTLE)):
        cell: Cell[CallState, CallTrigger] = Cell(CallState.DISPATCHED, CALL)
        cell.move(path[0])
        with pytest.raises(LocalProtocolError):
            cell.move(path[1])


# --- the diagram -----------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "spec" / "draft" / "sessions.md"


def test_the_diagram_of_the_specification_is_the_tables() -> None:
    """[SES-001]: `python -m asynclm.session.diagram --write spec/draft/sessions.md` brings it up to date."""
    assert diagram.main(["--check", str(PAGE)]) == 0


def test_the_diagram_has_every_transition() -> None:
    drawn = diagram.render_diagram()
    for state, moves in SESSION.items():
        for trigger, target in moves.items():
            if trigger is not Trigger.FINISH:
                [line] = [
                    row for row in drawn.splitlines() if row.strip().startswith(f"{state.name} --> {target.name}")
                ]
                assert trigger.value in line


def test_the_diagram_is_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["diagram", "--check", str(PAGE)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(diagram.__file__, run_name="__main__")
    assert ended.value.code == 0


def test_a_diagram_that_is_out_of_date_is_found_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{diagram.BEGIN}\nold\n{diagram.END}\nafter\n")
    assert diagram.main(["--check", str(page)]) == 1
    assert "out of date" in capsys.readouterr().err
    assert diagram.main(["--write", str(page)]) == 0
    assert diagram.main(["--check", str(page)]) == 0
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        diagram.BEGIN,
        f"{diagram.END}{diagram.BEGIN}",
        f"{diagram.BEGIN}{diagram.BEGIN}{diagram.END}",
        f"{diagram.BEGIN}{diagram.END}{diagram.END}",
    ],
)
def test_a_page_needs_its_markers_once(text: str) -> None:
    with pytest.raises(ValueError, match="the page needs"):
        diagram.insert(text)


# --- settings and timers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"credit": -1}, "credit"),
        ({"granularity_hold": -1}, "granularity_hold"),
        ({"coalesce_ms": -5}, "coalesce_ms"),
        ({"coalesce_ms": 5, "delivery": DeliveryPolicy.EAGER}, "coalesce_ms is 5 with delivery EAGER"),
        ({"delivery": DeliveryPolicy.COALESCE}, "coalesce_ms is 0 with delivery COALESCE"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"tools": (TOOLS[0], TOOLS[0])}, "'f' is declared twice"),
        ({"tools": TOOLS, "client_tools": frozenset({"nope"})}, "'nope' is not among the tools"),
    ],
)
def test_settings_are_checked(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        SessionConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(vars(Limits())))
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=rf"limits\.{name} is 0"):
        Limits(**{name: 0})


def test_timers() -> None:
    timers = Timers()
    first, second, third = (timers.start(kind, due) for kind, due in zip(TimerKind, (30, 10, 10), strict=False))
    assert timers.next_due_ms == 10
    timers.cancel(second)
    timers.cancel(second)
    assert timers.pop_due(9) is None
    assert timers.pop_due(40) is third
    timers.cancel(third)
    assert timers.pop_due(40) is first
    assert timers.pop_due(40) is None
    timers.start(TimerKind.IDLE, 50)
    timers.clear()
    assert timers.next_due_ms is None


def test_effects_carry_the_stream_position() -> None:
    """[WIRE-051]: what stands before an input's own tokens has the index before them."""
    player = Player()
    effects = player.write("[CALL]a[HEAD]nope()[END]")
    indexes = [e.token_index for e in effects if not isinstance(e, fx.Inject | fx.Suspend | fx.Resume)]
    assert indexes == sorted(indexes)
