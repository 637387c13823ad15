from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cml.attempts import attempt
from tests.cml.strategies import FRAGMENTS, texts, traps

from asynclm.cml import traps as module
from asynclm.cml.blocks import CmlError, CmlErrorCode, Trap
from asynclm.cml.control import Quantifier
from asynclm.cml.traps import format_trap, parse_trap

ALL, ANY = Quantifier.ALL, Quantifier.ANY
words = st.lists(
    st.sampled_from(["all", "any", "within", ",", "a", "b", "2", "2.5", " ", "\n", *FRAGMENTS]), max_size=8
)


@given(traps())
def test_what_is_written_is_read_back(trap: Trap) -> None:
    assert parse_trap(format_trap(trap)) == trap


@given(st.one_of(texts, words.map("".join), words.map(" ".join)))
def test_any_text_is_a_condition_or_an_error_in_the_text(text: str) -> None:
    found = attempt(parse_trap, text)
    if isinstance(found, CmlError):
        assert 0 <= found.offset <= len(text)
    else:
        assert parse_trap(format_trap(found)) == found


@given(st.one_of(traps().map(format_trap), words.map(" ".join)))
def test_the_fast_way_says_what_the_slow_one_says(text: str) -> None:
    found, slow = attempt(parse_trap, text), attempt(module._parse_words, text)
    if isinstance(slow, CmlError):
        assert isinstance(found, CmlError)
        assert (found.code, found.offset) == (slow.code, slow.offset)
    else:
        assert found == slow


@pytest.mark.parametrize(
    ("text", "trap"),
    [
        ("", Trap()),
        (" \t\r\n", Trap()),
        ("within 2", Trap(None, (), 2000)),
        ("a", Trap(ALL, ("a",))),
        (" a ,b\n", Trap(ALL, ("a", "b"))),
        ("all a,b", Trap(ALL, ("a", "b"))),
        ("any a, b within 0.05", Trap(ANY, ("a", "b"), 50)),
        ("all", Trap(ALL)),
        ("all within 999999.999", Trap(ALL, (), 999_999_999)),
        ("a within 1.5", Trap(ALL, ("a",), 1500)),
        ("a, a within 0", Trap(ALL, ("a", "a"), 0)),
        ("allow", Trap(ALL, ("allow",))),
        ("within_2", Trap(ALL, ("within_2",))),
    ],
)
def test_conditions(text: str, trap: Trap) -> None:
    assert parse_trap(text) == trap
    assert trap.bare == (trap.quantifier is None)


@pytest.mark.parametrize(
    ("text", "code", "offset"),
    [
        ("any", CmlErrorCode.BAD_TRAP, 3),
        ("any within 2", CmlErrorCode.BAD_TRAP, 4),
        ("all, a", CmlErrorCode.BAD_TRAP, 3),
        ("a, all", CmlErrorCode.BAD_TRAP, 3),
        ("a,", CmlErrorCode.BAD_TRAP, 2),
        (",a", CmlErrorCode.BAD_TRAP, 0),
        ("a,,b", CmlErrorCode.BAD_TRAP, 2),
        ("a b", CmlErrorCode.BAD_TRAP, 2),
        ("all any a", CmlErrorCode.BAD_TRAP, 4),
        ("within", CmlErrorCode.BAD_TRAP, 6),
        ("a within", CmlErrorCode.BAD_TRAP, 8),
        ("a within b", CmlErrorCode.BAD_TRAP, 9),
        ("a within 2s", CmlErrorCode.BAD_TRAP, 9),
        ("a within 1234567", CmlErrorCode.BAD_TRAP, 9),
        ("a within 1.2345", CmlErrorCode.BAD_TRAP, 9),
        ("a within .5", CmlErrorCode.BAD_TRAP, 9),
        ("a within 5.", CmlErrorCode.BAD_TRAP, 9),
        ("a within 2 b", CmlErrorCode.BAD_TRAP, 11),
        ("within 2 within 3", CmlErrorCode.BAD_TRAP, 9),
        ("a within -1", CmlErrorCode.BAD_TRAP, 9),
        ("é", CmlErrorCode.BAD_ID, 0),
        ("a.b", CmlErrorCode.BAD_ID, 0),
        (" 1", CmlErrorCode.BAD_ID, 1),
        ("ALL a", CmlErrorCode.BAD_TRAP, 4),
        ("a, true", CmlErrorCode.RESERVED_ID, 3),
        ("cml", CmlErrorCode.RESERVED_ID, 0),
    ],
)
def test_what_is_no_condition_is_refused(text: str, code: CmlErrorCode, offset: int) -> None:
    with pytest.raises(CmlError) as caught:
        parse_trap(text)
    assert (caught.value.code, caught.value.offset) == (code, offset)


@pytest.mark.parametrize(
    "trap",
    [
        Trap(ANY),
        Trap(None, ("a",)),
        Trap(ALL, ("a b",)),
        Trap(ALL, ("within",)),
        Trap(None, (), 10**9),
        Trap(None, (), -1),
    ],
)
def test_what_has_no_spelling_is_not_written(trap: Trap) -> None:
    with pytest.raises(CmlError):
        format_trap(trap)
