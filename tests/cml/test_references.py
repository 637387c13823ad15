from __future__ import annotations

import pytest
from hypothesis import given
from tests.cml.attempts import attempt
from tests.cml.strategies import references, texts

from asynclm.cml.blocks import CmlError, CmlErrorCode, Reference
from asynclm.cml.references import format_reference, parse_reference


@given(references)
def test_what_is_written_is_read_back(reference: Reference) -> None:
    assert parse_reference(format_reference(reference)) == reference


@given(texts)
def test_any_text_is_a_reference_with_one_spelling_or_an_error(text: str) -> None:
    found = attempt(parse_reference, text, 5)
    if isinstance(found, CmlError):
        assert found.offset == 5
    else:
        assert format_reference(found) == text


@pytest.mark.parametrize(
    ("text", "path"),
    [("a", ()), ("a.b", ("b",)), ("a[0]", (0,)), ("a.b[12].c", ("b", 12, "c")), ("a.true.all", ("true", "all"))],
)
def test_steps(text: str, path: tuple[str | int, ...]) -> None:
    assert parse_reference(text) == Reference("a", path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "a.",
        "a..b",
        "a[",
        "a[]",
        "a[-1]",
        "a[01]",
        "a[1.0]",
        "a['x']",
        "a .b",
        "a.b ",
        "a.1",
        "é",
        "a[1234567890]",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(CmlError) as caught:
        parse_reference(text)
    assert caught.value.code is CmlErrorCode.BAD_BODY


def test_a_reserved_word_is_no_reference() -> None:
    with pytest.raises(CmlError) as caught:
        parse_reference("within.x", 4)
    assert (caught.value.code, caught.value.offset) == (CmlErrorCode.RESERVED_ID, 4)


@pytest.mark.parametrize(
    "reference", [Reference("a", (-1,)), Reference("a b"), Reference("a", ("x.y",)), Reference("a.b")]
)
def test_what_has_no_spelling_is_not_written(reference: Reference) -> None:
    with pytest.raises(CmlError) as caught:
        format_reference(reference)
    assert caught.value.code is CmlErrorCode.BAD_BODY
