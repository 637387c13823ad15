"""What is said again at the start of an answer, whatever pieces it comes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm.engine.replay import LEAST_CHARACTERS, ReplayFilter, SaidAgain

WORDS = st.lists(
    st.sampled_from(["tide", "the", "sea ", " ", ", ", "é", "rises", "[TRAP] a [END]", "[CALL] a [HEAD] f() [END]"])
)
TEXTS = WORDS.map("".join)


def filtered(said: str, pieces: list[str]) -> tuple[str, str]:
    """What was left out and what came out."""
    replay = ReplayFilter(said)
    decided = [item for piece in pieces for item in replay.feed(piece)] + replay.finish()
    assert all(isinstance(item, str) for item in decided[1:])
    again = decided[0].text if decided and isinstance(decided[0], SaidAgain) else ""
    return again, "".join(item for item in decided if isinstance(item, str))


def cut(text: str, data: st.DataObject) -> list[str]:
    pieces = []
    while text:
        length = data.draw(st.integers(1, len(text)))
        pieces.append(text[:length])
        text = text[length:]
    return pieces


@given(TEXTS, TEXTS, st.data())
def test_nothing_is_lost_and_only_an_ending_is_left_out(said: str, answer: str, data: st.DataObject) -> None:
    again, kept = filtered(said, cut(answer, data))
    assert again + kept == answer
    assert said.endswith(again.lstrip())
    assert not again or len(again.lstrip()) >= LEAST_CHARACTERS


@given(TEXTS, TEXTS, st.data())
def test_pieces_make_no_difference(said: str, answer: str, data: st.DataObject) -> None:
    assert filtered(said, cut(answer, data)) == filtered(said, [answer])


@given(TEXTS, TEXTS, TEXTS, st.data())
def test_what_is_said_again_is_left_out(before: str, end: str, more: str, data: st.DataObject) -> None:
    end = f"I am looking it up. {end}"
    again, kept = filtered(f"{before} {end}", cut(end + more, data))
    assert len(again) >= len(end)
    assert (again + kept).endswith(more)


@pytest.mark.parametrize(
    ("said", "answer", "kept"),
    [
        ("I am looking it up. Mean", "I am looking it up. Meanwhile", "while"),
        ("I am looking it up. Mean", "\n I am looking it up. Mean, too", ", too"),
        ("I am looking it up. Mean", "it up. Mean it is", "it up. Mean it is"),
        ("I am looking it up now. ", "looking it up now. It is 7.", "It is 7."),
        ("I am looking it up now. ", "ooking it up now. It is 7.", "ooking it up now. It is 7."),
        ("I am looking it up now. ", "I am looking it up anew.", "I am looking it up anew."),
        ("I am looking it up now. ", "I am looking", "I am looking"),
        ("Well.", "Well. Well.", "Well. Well."),
        ("[CALL] a [HEAD] f() [END]", "[CALL] a [HEAD] f() [END] On.", " On."),
        ("[CALL] log(text=1) [END][TRAP] [END]", "[CALL] log(text=1) [END][TRAP] [END]", None),
        ("", "Anything at all, and more", None),
    ],
)
def test_examples(said: str, answer: str, kept: str | None) -> None:
    assert filtered(said, list(answer))[1] == (answer if kept is None else kept)


def test_text_that_is_new_is_not_held_back() -> None:
    replay = ReplayFilter("I am looking it up now. ")
    assert replay.feed("It") == ["It"]
    assert replay.held == ""
