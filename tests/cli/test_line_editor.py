from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm.cli.line_editor import Command, Input, LineEditor, Submitted

UP, DOWN, RIGHT, LEFT = b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D"


def typed(*pieces: bytes) -> tuple[LineEditor, list[Input]]:
    editor = LineEditor()
    inputs = [item for piece in pieces for item in editor.feed(piece)]
    return editor, inputs


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs"])))
def test_what_is_typed_is_what_is_sent(text: str) -> None:
    editor, inputs = typed(text.encode(), b"\r")
    assert inputs == [Submitted(text)]
    assert (editor.text, editor.cursor) == ("", 0)


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_any_bytes_in_any_pieces_mean_the_same(data: bytes, cuts: list[int]) -> None:
    whole, expected = typed(data)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(bounds)]
    editor, inputs = typed(*pieces)
    assert inputs == expected
    assert (editor.text, editor.cursor) == (whole.text, whole.cursor)
    assert 0 <= editor.cursor <= len(editor.text)


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        (b"abc" + LEFT + b"x", "abxc", 3),
        (b"abc\x1b[Hx", "xabc", 1),
        (b"abc\x01x\x05y", "xabcy", 5),
        (b"abc\x7f", "ab", 2),
        (b"\x7f", "", 0),
        (b"abc" + LEFT * 2 + b"\x1b[3~", "ac", 1),
        (b"abc" + LEFT + b"\x0b", "ab", 2),
        (b"abc" + LEFT + b"\x15", "c", 0),
        (b"one two  \x17", "one ", 4),
        (b"one two\x1b\x7f", "one ", 4),
        (b"one two\x1b[1;5D", "one two", 4),
        (b"one two\x01\x1b[1;5C", "one two", 3),
        (b"one two\x1bb\x1bb\x1bf", "one two", 3),
        (b"a" + LEFT * 5 + RIGHT * 9 + b"b", "ab", 2),
        (b"a\x1b[99;99~b", "ab", 2),
        (b"a\x1bOHb", "ba", 1),
        (b"a\x1b[" + b"9" * 40 + b"b", "a" + "9" * 10 + "b", 12),
    ],
)
def test_keys_edit_the_line(keys: bytes, text: str, cursor: int) -> None:
    editor, _ = typed(keys)
    assert (editor.text, editor.cursor) == (text, cursor)


def test_history_keeps_the_draft() -> None:
    editor, _ = typed(b"one\r", b"two\r", b"two\r", b"draft", UP)
    assert editor.text == "two"
    editor.feed(UP + UP)
    assert editor.text == "one"
    editor.feed(DOWN + DOWN + DOWN)
    assert editor.text == "draft"


def test_newlines_of_a_paste_stay_in_the_message() -> None:
    _, inputs = typed(b"see: \x1b[200~one\rtwo\x1b[x\x04\x1b[201~\r")
    assert inputs == [Submitted("see: one\ntwo[x\x04")]


def test_commands() -> None:
    assert typed(b"\x10", b"\x04")[1] == [Command.PAUSE, Command.END_OF_INPUT]
    editor, inputs = typed(b"ab\x01\x04")
    assert (editor.text, inputs) == ("b", [])
