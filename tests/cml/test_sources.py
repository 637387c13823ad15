from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cml.attempts import attempt
from tests.cml.strategies import sources, texts

from asynclm.cml.blocks import CmlError, CmlErrorCode
from asynclm.cml.control import Status
from asynclm.cml.sources import format_source, parse_source


@given(sources, st.sampled_from(Status))
def test_what_is_written_is_read_back(source: str, status: Status) -> None:
    assert parse_source(format_source(source, status)) == (source, status)


@given(texts)
def test_any_text_is_a_source_or_an_error_in_the_text(text: str) -> None:
    found = attempt(parse_source, text)
    if isinstance(found, CmlError):
        assert 0 <= found.offset <= len(text)
    else:
        assert parse_source(format_source(*found)) == found


def test_ok_is_not_written_and_may_be_read() -> None:
    assert format_source("a", Status.OK) == "a"
    assert parse_source("a:ok") == parse_source(" \n a\t") == ("a", Status.OK)


@pytest.mark.parametrize(
    ("text", "code", "offset"),
    [
        ("", CmlErrorCode.BAD_SOURCE, 0),
        (" 1a", CmlErrorCode.BAD_SOURCE, 1),
        ("@nobody", CmlErrorCode.BAD_SOURCE, 0),
        ("@agent", CmlErrorCode.BAD_SOURCE, 0),
        ("@agent.", CmlErrorCode.BAD_SOURCE, 0),
        ("@agent.a.b", CmlErrorCode.BAD_SOURCE, 0),
        ("a :error", CmlErrorCode.BAD_SOURCE, 0),
        ("a: error", CmlErrorCode.BAD_SOURCE, 2),
        (" a:Error", CmlErrorCode.BAD_SOURCE, 3),
        ("a:", CmlErrorCode.BAD_SOURCE, 2),
        ("a:error:error", CmlErrorCode.BAD_SOURCE, 2),
        (" all", CmlErrorCode.RESERVED_ID, 1),
    ],
)
def test_what_is_no_source_is_refused(text: str, code: CmlErrorCode, offset: int) -> None:
    with pytest.raises(CmlError) as caught:
        parse_source(text)
    assert (caught.value.code, caught.value.offset) == (code, offset)


@pytest.mark.parametrize("source", ["", "[END]", "a b", "a:error", "@agent.x y", "any"])
def test_what_is_no_source_is_not_written(source: str) -> None:
    with pytest.raises(CmlError):
        format_source(source, Status.ERROR)
