from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from asynclm.demo.safe import one_line, visible


@given(st.text())
def test_nothing_that_moves_the_cursor_is_left(text: str) -> None:
    assert not [c for c in visible(text) if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    assert not [c for c in one_line(text) if unicodedata.category(c) == "Cc"]


def test_what_is_shown_can_still_be_told() -> None:
    assert visible("a\x1b[2Jb\r\n\tc\x7f") == "a␛[2Jb␍\n\tc␡"
    assert one_line("a\r\nb\tc") == "a⏎b⇥c"


def test_text_cannot_be_turned_around() -> None:
    assert visible("a\u202ebc\u2066") == "a\ufffdbc\ufffd"


def test_long_text_is_cut_and_says_how_long_it_is() -> None:
    assert one_line("x" * 5000, 10) == "x" * 10 + "… (5,000 characters)"
    assert one_line("x" * 10, 10) == "x" * 10
