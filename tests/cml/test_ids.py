from __future__ import annotations

import pytest
from hypothesis import given
from tests.cml.strategies import ids

from asynclm.cml.blocks import CmlError, CmlErrorCode
from asynclm.cml.control import RESERVED_IDS
from asynclm.cml.ids import check_id, shown


@given(ids)
def test_a_name_that_is_not_reserved_is_an_id(text: str) -> None:
    assert check_id(text) == text


@pytest.mark.parametrize("text", ["", "1a", "a-b", "a b", "a.b", "é", "a\n", "x" * 65, "@user", "[END]"])
def test_what_is_not_a_name_is_refused(text: str) -> None:
    with pytest.raises(CmlError) as caught:
        check_id(text, 7)
    assert (caught.value.code, caught.value.offset) == (CmlErrorCode.BAD_ID, 7)


@pytest.mark.parametrize("text", sorted(RESERVED_IDS))
def test_a_reserved_word_is_refused(text: str) -> None:
    with pytest.raises(CmlError) as caught:
        check_id(text, 3)
    assert (caught.value.code, caught.value.offset) == (CmlErrorCode.RESERVED_ID, 3)


def test_the_longest_name_has_64_characters() -> None:
    assert check_id("x" * 64) == "x" * 64


def test_what_a_message_shows_is_cut_short() -> None:
    assert shown("a" * 60) == repr("a" * 60)
    assert shown("a" * 10_000) == repr("a" * 60 + "…")
