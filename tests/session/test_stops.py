"""Stop strings: found in any pieces, told honestly, and no reason for anything else to go wrong (spec: sessions)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.session.player import Player, config, every, names, only, units

from asynclm.session import effects as fx
from asynclm.session.config import Constraints, ExecutionMode, OnEnd, SessionConfig, Unit
from asynclm.session.events import StreamEnded, TokenSampled
from asynclm.session.state import Delivery, FinishReason, Result, State, UndeliveredReason
from asynclm.session.stops import StopStrings

# --- finding -----------------------------------------------------------------------------------------------------

few = st.text("ab", max_size=12)
stop_sets = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4)


def oracle(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The text before the stop string that is complete first, and which it is: the longest, if several are."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(st.lists(few, max_size=8), stop_sets)
def test_found_in_any_pieces(pieces: list[str], stops: list[str]) -> None:
    """[SES-100], [SES-101], [SES-102]."""
    finder = StopStrings(stops)
    given_out, taken, found = "", "", None
    for piece in pieces:
        text, found = finder.feed(piece)
        given_out += text
        if found is not None:
            break
        taken += piece
        endings = [taken[-n:] for n in range(1, len(taken) + 1)]
        held = max((e for e in endings if any(stop.startswith(e) for stop in stops)), key=len, default="")
        assert given_out + held == taken
        assert finder.pending is bool(held)
    expected, which = oracle("".join(pieces), stops)
    assert found == which
    assert given_out + finder.flush() == expected
    assert not finder.pending


def test_after_one_a_new_run_begins() -> None:
    finder = StopStrings(["abc", "bc"])
    assert finder.feed("xab") == ("x", None)
    assert finder.feed("cab") == ("", "abc")
    assert finder.feed("c") == ("c", None)


def test_many_long_ones_that_share_their_beginning() -> None:
    stops = ["a" * 255 + end for end in "bcdefghijklmnopq"]
    finder = StopStrings(stops)
    assert finder.feed("a" * 1000) == ("a" * 745, None)
    assert finder.feed("q") == ("", stops[-1])


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "says"),
    [
        (("x",) * 17, "stop is 17 strings; allowed: up to 16"),
        (("x", ""), r"stop\[1\] is 0 bytes long; allowed: 1 to 256"),
        (("é" * 129,), r"stop\[0\] is 258 bytes long"),
        (("a\ufffd",), r"stop\[0\] is 'a.+; allowed: text without U\+FFFD"),
        (("a\ud800",), r"stop\[0\] is "),
    ],
)
def test_settings_are_checked(stop: tuple[str, ...], says: str) -> None:
    """[LIM-015]."""
    with pytest.raises(ValueError, match=says):
        SessionConfig(stop=stop)


def test_the_most_that_is_allowed() -> None:
    assert SessionConfig(stop=("é" * 128,) * 16).stop


# --- sessions ----------------------------------------------------------------------------------------------------

A = "[CALL]a[HEAD]f()[END]"


def test_a_stop_string_ends_the_session() -> None:
    """[SES-102], [SES-103]: no token is removed from the stream, no text of the stop string is sent."""
    player = Player(stop=("</a>", "zzz"))
    player.write("yes<b</a")
    assert (player.text, player.state) == ("yes<b", State.IN_TEXT_SEQUENCE)
    effects = player.write(">")
    assert names(effects) == ["Tokens", "Finished"]
    assert (player.text, player.finished.reason) == ("yes<b", FinishReason.STOP_STRING)
    assert player.finished.stop_string == "</a>"
    assert "'</a>'" in player.finished.message
    assert [i for t in every(fx.Tokens, player.log) for i in t.ids] == units("yes<b</a>")
    assert player.finished.usage.sampled_tokens == len("yes<b</a>")


def test_what_turns_out_to_be_none_comes_with_the_token_that_decides() -> None:
    """[WIRE-057]."""
    player = Player(stop=("abc",))
    player.write("ab")
    assert only(fx.Tokens, player.write("x")).text == "abx"
    assert player.state is State.DECODING
    player.write("a")
    assert only(fx.Tokens, player.write("[EOS]")).text == "a"
    assert player.finished.reason is FinishReason.STOP
    assert player.finished.stop_string is None


def test_characters_that_tokens_cut() -> None:
    player = Player(stop=("é.",))
    first, second = units("é")
    assert only(fx.Tokens, player.sample(first)).text == ""
    assert only(fx.Tokens, player.sample(second)).text == ""
    assert player.state is State.IN_TEXT_SEQUENCE
    player.write(".")
    assert (player.text, player.finished.stop_string) == ("", "é.")


def test_blocks_have_none_and_break_one() -> None:
    """[SES-104]."""
    player = Player(stop=("ff", "f("))
    player.write(f"f{A}f[CALL]b[HEAD]f()[END]f")
    assert player.text == "ff"
    assert player.state is State.IN_TEXT_SEQUENCE
    assert [c.id for c in every(fx.CallEmitted, player.log)] == ["a", "b"]
    player.write("f")
    assert player.finished.stop_string == "ff"


def test_stray_control_tokens_break_one() -> None:
    """[SES-101]."""
    player = Player(stop=("ab",), constraints=Constraints.NONE)
    effects = player.write("a[END]b")
    assert [t.text for t in every(fx.Tokens, effects)] == ["", "a", "b"]


def test_interrupts_wait_for_it_and_are_not_looked_into() -> None:
    """[SES-101], [SES-104]: where an interrupt lands has no part in what is found."""
    player = Player(stop=("stop", "hi"))
    player.write("st")
    player.send("@user", "hi")
    player.write("o")
    assert player.committed == []
    player.write("x")
    assert names(player.write("y")) == ["Inject", "InterruptCommitted", "Tokens"]
    player.write("sto")
    player.send("@user", "again")
    player.write("p")
    assert (player.text, player.finished.stop_string) == ("stoxy", "stop")
    [_, unsaid] = player.finished.interrupts
    assert (unsaid.delivery, unsaid.payload) == (Delivery.UNDELIVERED, "again")


@pytest.mark.parametrize(
    ("on_end", "reason"),
    [
        (OnEnd.WAIT, UndeliveredReason.DETACHED),
        (OnEnd.DETACH, UndeliveredReason.DETACHED),
        (OnEnd.CANCEL, UndeliveredReason.CANCELLED_AT_END),
    ],
)
def test_pending_calls_do_not_hold_it_up(on_end: OnEnd, reason: UndeliveredReason) -> None:
    """[SES-103], [SES-072]."""
    player = Player(stop=("!",), on_end=on_end)
    player.write(f"{A}done!")
    assert player.finished.reason is FinishReason.STOP_STRING
    assert player.row(0).reason is reason


def test_calls_that_were_held_are_not_started() -> None:
    player = Player(stop=("!",), mode=ExecutionMode.SYNC_PARALLEL)
    player.write(f"{A}!")
    assert every(fx.CallDispatched, player.log) == []
    assert player.row(0).result is Result.NONE


def test_under_keep_the_session_rests_and_wakes() -> None:
    """[SES-103], [SES-047]."""
    player = Player(stop=("\nUser:",), on_end=OnEnd.KEEP, limits={"max_new_tokens": 9})
    effects = player.write("Hi\nUser:")
    changed = only(fx.StateChanged, effects)
    assert (changed.state, changed.reason, changed.stop_string) == (State.IDLE, "stop_string", "\nUser:")
    player.send("@user", "And?")
    player.write("So")
    assert (player.text, player.state) == ("HiSo", State.DECODING)
    assert every(fx.StateChanged, player.log)[-1].stop_string is None


def test_under_keep_what_is_queued_comes_first() -> None:
    """[SES-041]."""
    player = Player(stop=("!",), on_end=OnEnd.KEEP)
    player.write("a")
    player.safe_point()
    player.send("@user", "x")
    changed = only(fx.StateChanged, player.give(TokenSampled(token_id=units("!")[0])))
    assert (changed.state, changed.stop_string) == (State.DECODING, "!")
    player.write("b")
    assert player.committed == [("@user", "x")]


def test_under_keep_nobody_can_wake_a_half_closed_session() -> None:
    """[SES-084]."""
    player = Player(stop=("!",), on_end=OnEnd.KEEP)
    player.half_close()
    player.write("a!")
    assert (player.finished.reason, player.finished.stop_string) == (FinishReason.STOP, "!")


def test_the_stop_string_comes_before_the_limit() -> None:
    """[SES-105]."""
    player = Player(stop=("bc",), limits={"max_new_tokens": 3})
    player.write("abc")
    assert player.finished.reason is FinishReason.STOP_STRING


@pytest.mark.parametrize("on_end", [OnEnd.WAIT, OnEnd.KEEP])
def test_what_is_held_back_at_the_limit_is_sent(on_end: OnEnd) -> None:
    """[SES-104]."""
    player = Player(stop=("abcd",), limits={"max_new_tokens": 3}, on_end=on_end)
    effects = player.write("abc")
    assert [(t.text, t.ids) for t in every(fx.Tokens, effects)][-1] == ("abc", ())
    assert player.state is (State.IDLE if on_end is OnEnd.KEEP else State.FINISHED)


def test_what_is_held_back_when_the_client_finishes_is_sent() -> None:
    player = Player(stop=("abcd",))
    player.write("ab")
    assert only(fx.Tokens, player.finish()).text == "ab"


# --- pieces ------------------------------------------------------------------------------------------------------


def test_what_stands_behind_it_in_a_piece_is_unsaid() -> None:
    """[SES-106]."""
    player = Player(unit=Unit.PIECE, stop=("stop",))
    effects = player.pieces("a st", "op b[CALL]")
    assert [t.text for t in every(fx.Tokens, effects)] == ["a ", ""]
    assert names(effects)[-2:] == ["Tokens", "Finished"]
    assert only(fx.Finished, effects).stop_string == "stop"


def test_the_beginning_of_a_control_word_behind_it_is_unsaid_too() -> None:
    player = Player(unit=Unit.PIECE, stop=("stop",), on_end=OnEnd.KEEP)
    player.pieces("stop[CA")
    assert (player.text, player.state) == ("", State.IDLE)
    player.send("@user", "x")
    player.pieces("b")
    assert player.text == "b"


def test_a_hosted_stream_ends_in_the_middle_of_one() -> None:
    player = Player(unit=Unit.PIECE, stop=("stop",))
    player.pieces("ab st")
    player.give(StreamEnded())
    assert (player.text, player.finished.reason) == ("ab st", FinishReason.STOP)


# --- any text ----------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(("a", "b", "ab", "ba", "é", "[CALL]f()[END]", A, "[TRAP][END]", "[EOS]"))


def play(settings: SessionConfig, stream: list[str]) -> Player:
    player = Player(settings)
    for token_id in units("".join(stream)):
        if player.session.can_step:
            player.sample(token_id)
    return player


@given(st.lists(WORDS, max_size=12), stop_sets, st.sampled_from([OnEnd.WAIT, OnEnd.DETACH, OnEnd.CANCEL]))
def test_the_stream_is_a_prefix_of_the_one_without(stream: list[str], stops: list[str], on_end: OnEnd) -> None:
    """[SES-100], [SES-102]: and its text is what stands before the stop string."""
    plain = play(config(on_end=on_end), stream)
    stopped = play(config(on_end=on_end, stop=tuple(stops)), stream)
    mine, all_of_it = ([i for t in every(fx.Tokens, p.log) for i in t.ids] for p in (stopped, plain))
    assert mine == all_of_it[: len(mine)]
    assert plain.text.startswith(stopped.text)
    last = stopped.log[-1] if stopped.log else None
    if isinstance(last, fx.Finished) and last.reason is FinishReason.STOP_STRING:
        assert last.stop_string in stops
        assert plain.text.startswith(stopped.text + last.stop_string)
    else:
        assert mine == all_of_it
