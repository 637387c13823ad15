"""Text of a target is shown as it is, but nothing in it is invisible, active or endless."""

from __future__ import annotations

import unicodedata

import pytest
from tests.conformance.report import records

from asynclm_conformance.report.clean import visible


def test_ordinary_text_of_any_language_is_left_alone() -> None:
    assert visible(records.FOREIGN) == records.FOREIGN


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[0m", "␛[0m"),
        ("\x00\x7f", "␀␡"),
        ("a\r\nb\tc", "a␍␊b␉c"),
        ("\x85", "‹U+0085›"),
        ("\u202e\u2066\ufeff", "‹U+202E›‹U+2066›‹U+FEFF›"),
        ("\u2028", "‹U+2028›"),
        ("\ud800", "‹U+D800›"),
        ("\ufffe\U0001ffff", "‹U+FFFE›‹U+1FFFF›"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_line_feeds_and_tabs_stay_where_they_are_wanted() -> None:
    assert visible("a\n\tb\r", lines=True) == "a\n\tb␍"


def test_long_text_is_cut_with_its_length() -> None:
    assert visible("x" * 1234, 10) == "xxxxxxxxxx… (1,234 characters)"


def test_no_control_character_is_left() -> None:
    shown = visible("".join(map(chr, range(0x3000))), 0x3000)
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")]
