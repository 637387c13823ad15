"""Credit, pause, probes and time (spec: protocol, sections 5 and 6; scripted models, section 2)."""

from __future__ import annotations

import pytest
from tests.session.player import CODEC, Player, config, every, names, only

from asynclm.cml.control import Status
from asynclm.session import effects as fx
from asynclm.session.config import OnEnd
from asynclm.session.errors import LocalProtocolError, RemoteProtocolError
from asynclm.session.events import (
    CancelRequested,
    CreditGranted,
    FinishRequested,
    HalfClosed,
    OutputHeld,
    TimeAdvanced,
    TokenSampled,
)
from asynclm.session.machine import Session
from asynclm.session.state import FinishReason, State

A = "[CALL]a[HEAD]f()[END]"


def test_one_credit_a_sampled_token() -> None:
    """[WIRE-070], [WIRE-072]."""
    player = Player(credit=2)
    player.write("ab")
    assert (player.session.credit, player.session.can_step) == (0, False)
    with pytest.raises(LocalProtocolError):
        player.session.receive(TokenSampled(token_id=97))
    player.grant(3)
    player.grant(1)
    player.write("abc")
    assert player.session.credit == 1


def test_credit_stays_within_what_a_probe_can_report() -> None:
    player = Player(credit=(1 << 63) - 1)
    player.grant((1 << 63) - 1)
    assert player.session.credit == (1 << 63) - 1


def test_absent_credit_is_unlimited() -> None:
    """[WIRE-071]."""
    player = Player()
    player.write("x" * 200)
    assert (player.session.credit, player.session.can_step) == (None, True)


def test_a_grant_on_unlimited_credit_is_the_clients_fault() -> None:
    """[WIRE-073]: nothing has changed."""
    player = Player()
    with pytest.raises(RemoteProtocolError, match="unlimited") as caught:
        player.session.receive(CreditGranted(tokens=1))
    assert caught.value.status == "FAILED_PRECONDITION"
    player.write("goes on")


@pytest.mark.parametrize("tokens", [0, -1])
def test_a_grant_is_positive(tokens: int) -> None:
    """[WIRE-073]."""
    with pytest.raises(ValueError, match=r"grant\.tokens"):
        CreditGranted(tokens=tokens)


@pytest.mark.parametrize("chosen", [{}, {"id": "a", "call_index": 0}])
def test_a_cancel_names_its_call_one_way(chosen: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        CancelRequested(**chosen)  # type: ignore[arg-type]


def test_credit_limits_nothing_but_steps() -> None:
    """[WIRE-075], [WIRE-036]."""
    player = Player(credit=10)
    player.write(f"{A}[TRAP]a[END]")
    assert player.session.credit == 0
    assert names(player.send("a", "1")) == ["InterruptAccepted", "TrapExited", "Resume"]
    assert not player.session.can_step
    player.grant(1)
    player.write("x")
    assert player.committed == [("a", "1")]


def test_pause_twice_is_pause_once() -> None:
    """[WIRE-037], [SES-086]."""
    player = Player()
    assert player.pause() == player.pause() == []
    assert (player.session.paused, player.session.can_step) == (True, False)
    assert player.pause(False) == player.pause(False) == []
    assert (player.session.paused, player.session.can_step) == (False, True)


# --- probes ----------------------------------------------------------------------------------------------------


def test_a_probe_waits_until_no_step_can_run() -> None:
    """[WIRE-080], [WIRE-081]."""
    player = Player(credit=8)
    player.write("x")
    assert player.probe("n1") == []
    player.send("@user", "hi")
    effects = player.write("abcdef")
    assert not every(fx.Probed, effects)
    effects = player.write("g")
    assert names(effects) == ["Tokens", "Probed"]
    probed = only(fx.Probed, effects)
    assert (probed.nonce, probed.state, probed.credit, probed.queued) == ("n1", State.DECODING, 0, 0)


@pytest.mark.parametrize("where", ["paused", "no credit", "trapped", "draining", "idle"])
def test_a_probe_at_rest_is_answered_at_once(where: str) -> None:
    """[WIRE-081], [WIRE-084]."""
    player = Player(on_end=OnEnd.KEEP if where == "idle" else OnEnd.WAIT, credit=7 if where == "no credit" else None)
    player.write(A + {"trapped": "[TRAP][END]", "draining": "[EOS]", "idle": "[EOS]"}.get(where, ""))
    if where == "paused":
        player.pause()
    state = player.state
    probed = only(fx.Probed, player.probe())
    assert (probed.state, probed.paused, probed.unresolved) == (state, where == "paused", ("a",))
    assert player.state is state


def test_with_unlimited_credit_a_probe_is_answered_before_the_next_step() -> None:
    """[WIRE-082]: and after the commit there."""
    player = Player()
    player.write(A)
    player.send("a", "1")
    assert player.probe() == []
    effects = player.safe_point()
    assert names(effects) == ["Inject", "InterruptCommitted", "CallSettled", "Probed"]
    assert only(fx.Probed, effects).queued == 0


def test_a_probe_that_waits_is_answered_before_the_end() -> None:
    """[WIRE-083]."""
    player = Player(credit=5)
    player.probe("n")
    player.send("@user", "hi")
    effects = player.finish()
    assert names(effects) == ["Probed", "Finished"]
    assert (only(fx.Probed, effects).state, only(fx.Probed, effects).queued) == (State.FINISHED, 1)


# --- time ------------------------------------------------------------------------------------------------------


def test_timers_fire_by_due_time_each_at_its_own() -> None:
    """[SCR-022], [SCR-024]: what a timer begins counts from when it was due."""
    player = Player(credit=27, limits={"max_call_time_ms": 3_000, "max_idle_time_ms": 500})
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]g()[END][TRAP]b within 1[END]")
    player.pause()
    effects = player.advance(10_000)
    assert names(effects)[-1] == "Finished"
    assert player.finished.reason is FinishReason.IDLE_TIMEOUT
    player = Player(limits={"max_call_time_ms": 3_000})
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]g()[END][TRAP]b within 1[END]")
    effects = player.advance(10_000)
    assert [(e.source, e.status.value) for e in every(fx.InterruptAccepted, effects)] == [
        ("@runtime", "timeout"),
        ("b", "timeout"),
        ("a", "timeout"),
    ]
    player.write("x")
    rows = player.session.ledger().calls
    assert [row.timings.resolved_ms for row in rows] == [3_000, 2_000]


def test_timers_due_together_fire_in_the_order_of_their_creation() -> None:
    """[SCR-022]."""
    player = Player()
    player.write("[CALL]b[HEAD]g()[END][CALL]a[HEAD]g()[END]")
    effects = player.advance(2_000)
    assert [e.source for e in every(fx.InterruptAccepted, effects)] == ["b", "a"]


def test_what_is_resolved_has_no_timer() -> None:
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]g()[END]")
    assert player.session.next_timer_ms == 2_000
    player.host(1, "1")
    assert player.session.next_timer_ms == 300_000
    player.send("a", "1")
    assert player.session.next_timer_ms is None


def test_the_clock_does_not_go_back() -> None:
    player = Player()
    player.advance(5)
    assert player.advance(0) == []
    with pytest.raises(LocalProtocolError, match="went back"):
        player.session.receive(TimeAdvanced(now_ms=4))


def test_time_passes_by_itself_only_where_nothing_happens_by_then() -> None:
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    session = player.session
    assert session.next_timer_ms == 300_000
    assert session.pass_time(299_999)
    assert not session.pass_time(299_998)
    assert not session.pass_time(300_000)
    assert session.next_timer_ms == 300_000
    assert session.receive(TimeAdvanced(now_ms=299_999)) == []
    assert [e.status for e in every(fx.InterruptAccepted, session.receive(TimeAdvanced(now_ms=300_000)))] == [
        Status.TIMEOUT
    ]
    assert session.ledger().calls[0].timings.resolved_ms == 300_000
    session.receive(FinishRequested())
    assert not session.pass_time(300_001)


def test_a_session_may_begin_at_any_time() -> None:
    session = Session(config(credit=0), CODEC, now_ms=1_000)
    assert session.next_timer_ms == 601_000


def test_a_client_that_does_not_read_stops_steps_and_commits() -> None:
    """[WIRE-061]: as without credit, and nothing else stops."""
    player = Player()
    player.write(f"{A}x")
    assert names(player.give(OutputHeld(held=True))) == []
    assert not player.session.can_step
    assert names(player.send("a", "1")) == ["InterruptAccepted"]
    player.give(OutputHeld(held=False))
    player.write("y")
    assert player.committed == [("a", "1")]


def test_a_client_that_never_reads_again_is_idle_in_the_end() -> None:
    """[SES-080, SES-081]: it is not left waiting, though half-closed streams are only waited for."""
    player = Player(limits={"max_idle_time_ms": 1_000})
    player.write("x")
    player.give(OutputHeld(held=True))
    player.give(HalfClosed())
    player.advance(999)
    player.give(OutputHeld(held=False))
    player.give(OutputHeld(held=True))
    player.advance(999)
    assert player.state is State.DECODING
    player.advance(1)
    assert player.finished.reason is FinishReason.IDLE_TIMEOUT


def test_a_probe_is_not_answered_for_want_of_reading() -> None:
    """[WIRE-081]: as soon as the client reads, more can happen."""
    player = Player(credit=3)
    player.write("x")
    player.give(OutputHeld(held=True))
    assert names(player.probe()) == []
    player.give(OutputHeld(held=False))
    player.write("y")
    assert names(player.sample(97))[-1] == "Probed"


def test_a_client_that_does_not_acknowledge_is_answered_at_rest() -> None:
    """[WIRE-081, WIRE-094]: no step can run before its `Ack`, as without credit; a half-close ends nothing there."""
    player = Player(credit=3)
    player.write("x")
    player.give(OutputHeld(held=True, until_ack=True))
    assert not player.session.can_step
    assert names(player.probe()) == ["Probed"]
    player.give(HalfClosed())
    assert player.state is State.DECODING
    player.give(OutputHeld(held=False))
    assert player.session.can_step
