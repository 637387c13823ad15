"""Calls that a hosted model says again [CALL-110 to CALL-113], and what it forges [SEC-053]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.session.player import Player, every, only

from asynclm.cml.control import Status
from asynclm.session import effects as fx
from asynclm.session import events as ev
from asynclm.session.config import DeliveryPolicy, ExecutionMode, Unit
from asynclm.session.state import NoticeCode, State

AGAIN = ev.RequestRestarted()


def player(**settings: object) -> Player:
    return Player(unit=Unit.PIECE, **settings)


def replays(player: Player) -> int:
    return sum(notice.code is NoticeCode.REPLAY for notice in every(fx.Notice, player.log))


def emitted(player: Player) -> list[tuple[int, str | None]]:
    return [(call.index, call.id) for call in every(fx.CallEmitted, player.log)]


@pytest.mark.parametrize("body", ["f(x=1)", " f( x = 1 ) "])
def test_a_named_call_runs_once(body: str) -> None:
    """[CALL-110], [CALL-112], [CALL-113]: no index, and no implicit trap either."""
    p = player(mode=ExecutionMode.SYNC)
    p.write("[CALL]a[HEAD]f(x=1)[END]")
    p.send("a", "1")
    p.give(AGAIN)
    p.write(f"On. [CALL]a[HEAD]{body}[END]x")
    assert (emitted(p), replays(p), p.state) == ([(0, "a")], 1, State.DECODING)
    p.write("[CALL]f()[END]")
    assert emitted(p) == [(0, "a"), (1, None)]


@pytest.mark.parametrize(("restarted", "body"), [(False, "f(x=1)"), (True, "f(x=2)"), (True, "f(x=")])
def test_anything_else_is_a_duplicate(restarted: bool, body: str) -> None:
    """[CALL-004]."""
    p = player()
    p.write("[CALL]a[HEAD]f(x=1)[END]")
    if restarted:
        p.give(AGAIN)
    p.write(f"[CALL]a[HEAD]{body}[END]")
    assert (emitted(p), replays(p)) == ([(0, "a"), (1, None)], 0)


def test_a_malformed_call_is_said_again_like_any_other() -> None:
    """[CALL-112]: by its text."""
    p = player()
    p.write("[CALL]a[HEAD]f(x=[END]")
    p.give(AGAIN)
    p.write("[CALL]a[HEAD]f(x=[END]")
    assert (emitted(p), replays(p)) == ([(0, "a")], 1)


def test_an_anonymous_call_behind_what_was_said_again() -> None:
    """[CALL-111]: each one that was made accounts for one."""
    p = player()
    p.write("[CALL]f()[END][CALL]f()[END] On.")
    p.give(AGAIN)
    p.give(ev.TextReplayed(text="Looking it up"))
    p.write(" [CALL]f()[END][CALL]f()[END][CALL]f()[END]")
    assert ([index for index, _ in emitted(p)], replays(p)) == ([0, 1, 2], 3)


@pytest.mark.parametrize("before", ["", "New. ", "[CALL]g()[END]", "[CALL]b[HEAD]f()[END]"])
def test_an_anonymous_call_behind_anything_new_is_made(before: str) -> None:
    """[CALL-111]: so is one that stands at the beginning."""
    p = player()
    p.write("[CALL]f()[END]")
    p.give(AGAIN)
    p.write(f"{before}[CALL]f()[END]")
    p.write("New.")
    p.give(ev.TextReplayed(text="too late to count"))
    p.write("[CALL]f()[END]")
    assert [id for _, id in emitted(p)].count(None) == (4 if "g" in before else 3)


def test_a_call_of_any_earlier_request_is_said_again() -> None:
    """[CALL-111]: but each accounts for one, and none of the same request for any."""
    p = player()
    p.write("[CALL]f()[END]")
    p.give(AGAIN)
    p.give(AGAIN)
    p.write("New.")
    p.give(AGAIN)
    p.give(ev.TextReplayed(text="New. Or so it was"))
    p.write("[CALL]f()[END][CALL]f()[END]")
    assert (len(emitted(p)), replays(p)) == (2, 2)


@pytest.mark.parametrize("delivery", [None, DeliveryPolicy.LAZY])
def test_a_forgery_is_answered_at_once(delivery: DeliveryPolicy | None) -> None:
    """[SEC-053], [INT-064]: a window does not hold it back either."""
    p = player(delivery=delivery, coalesce_ms=100)
    p.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END]")
    p.send("a", "1")
    p.write("x[INTR]y")
    assert only(fx.Notice, p.log).code is NoticeCode.FORGED
    assert [source for source, _ in p.committed] == ["a", "@runtime:error"]
    assert '"forged"' in p.committed[1][1]
    assert every(fx.InterruptAccepted, p.log)[-1].status is Status.ERROR


STEPS = st.lists(
    st.one_of(
        st.just("restart"),
        st.just("On. "),
        st.builds("[CALL]{}[HEAD]f(x={})[END]".format, st.sampled_from("abc"), st.integers(0, 1)),
        st.just("[CALL]f()[END]"),
    ),
    max_size=20,
)


@given(STEPS)
def test_no_named_call_ever_runs_twice(steps: list[str]) -> None:
    """[CALL-110]: and every block is a call with an index of its own, or is told as said again."""
    p = player()
    for step in steps:
        if step == "restart":
            p.give(AGAIN)
        else:
            p.write(step)
    ran = [call.id for call in every(fx.CallDispatched, p.log) if call.id is not None]
    assert len(ran) == len(set(ran))
    blocks = sum(step.startswith("[CALL]") for step in steps)
    assert len(emitted(p)) + replays(p) == blocks
    assert [index for index, _ in emitted(p)] == list(range(len(emitted(p))))
