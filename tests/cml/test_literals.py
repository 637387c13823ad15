from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.cml.attempts import attempt
from tests.cml.strategies import FEW, FRAGMENTS, literals, plain_text, texts

from asynclm.cml import literals as module
from asynclm.cml.blocks import CmlError, CmlErrorCode, Literal
from asynclm.cml.literals import (
    MAX_DEPTH,
    canonical,
    decode_json,
    render_literal,
    scan_members,
    scan_string,
    scan_value,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_like = st.lists(
    st.sampled_from(
        [
            *"[]{},:\"'\\ \n01.-+eE",
            "true",
            "None",
            "NaN",
            '"a"',
            "'b'",
            '\\"',
            "\\u00e9",
            "\\ud83d",
            "\\ude42",
            *FRAGMENTS,
        ]
    ),
    max_size=10,
).map("".join)


def outcome(scan: Any, text: str, python: bool) -> Any:
    found = attempt(scan, text, 0, python=python)
    if isinstance(found, CmlError):
        assert 0 <= found.offset <= len(text)
        return found.code, found.offset
    return found


@settings(max_examples=FEW)
@given(literals)
def test_canonical_text_is_read_to_itself(literal: Literal) -> None:
    for python in (True, False):
        assert scan_value(literal.json, 0, python=python) == (literal.json, len(literal.json))


@given(values, st.sampled_from([None, 1]), st.booleans())
def test_any_spelling_of_a_value_is_read_to_its_canonical_text(
    value: object, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert scan_value(text, 0, python=False) == (render_literal(value), len(text))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("abc'\" []{}:,é€🙂"), lambda v: st.lists(v), max_leaves=6
    )
)
def test_python_spellings_are_read_to_the_same_value(value: object) -> None:
    text = repr(value)
    assert scan_value(text, 0, python=True) == (render_literal(value), len(text))


@given(st.one_of(json_like, literals.map(lambda literal: literal.json + " ]")), st.booleans())
@example('{"a":1,"\\u0061":2}', False)
@example('["\\ud83d"]', False)
@example("[-0, 1e2, 100000000000000000000]", False)
@example("[1.5, 2]", False)
def test_the_fast_ways_say_what_the_scanner_says(text: str, python: bool) -> None:
    def scanner(text: str, at: int, *, python: bool) -> tuple[str, int]:
        return module._scan(text, at, python)

    assert outcome(scan_value, text, python) == outcome(scanner, text, python)


@given(json_like.map(str.strip))
def test_json_is_read_as_json_and_nothing_else_is(text: str) -> None:
    found = outcome(scan_value, text, False)
    try:
        value = json.loads(text)
    except ValueError:
        assert found[1] != len(text) or found[0] is CmlErrorCode.BAD_BODY
        return
    if isinstance(found[0], CmlErrorCode):
        assert "NaN" in text or "\\ud" in text or found[0] is CmlErrorCode.REPEATED_ARGUMENT
    else:
        assert found[1] == len(text)
        assert json.loads(found[0]) == value


@pytest.mark.parametrize(
    "number", ["0", "-0", "1.50", "1e5", "1E+05", "0.10", "12345678901234567890", "-1.0e-10", "1" * 5000]
)
def test_numbers_are_kept_as_they_were_spelled(number: str) -> None:
    assert scan_value(number, 0, python=False) == (number, len(number))
    assert scan_value(f"[ {number} ]", 0, python=False)[0] == f"[{number}]"


@pytest.mark.parametrize(
    ("text", "json_text"),
    [
        ('"\\u0041\\n\\/"', '"A\\n/"'),
        ('"\\ud83d\\ude42"', '"🙂"'),
        ("'it\\'s'", '"it\'s"'),
        ("'say \"hi\"'", '"say \\"hi\\""'),
        ("'\\\"'", '"\\""'),
        ("'\\\\'", '"\\\\"'),
        ("['a', {'b': None}]", '["a",{"b":null}]'),
        ("{ }", "{}"),
        ("[\n]", "[]"),
        ("[[ ], { }]", "[[],{}]"),
        ("True", "true"),
    ],
)
def test_canonical_text(text: str, json_text: str) -> None:
    assert scan_value(text, 0, python=True) == (json_text, len(text))


B, R = CmlErrorCode.BAD_BODY, CmlErrorCode.REPEATED_ARGUMENT


@pytest.mark.parametrize(
    ("text", "code", "offset"),
    [
        ("", B, 0),
        ("nul", B, 0),
        ("NaN", B, 0),
        ("[Infinity]", B, 1),
        ("[1,]", B, 3),
        ("[1 2]", B, 3),
        ("[1", B, 2),
        ("[", B, 1),
        ("{1: 2}", B, 1),
        ('{"a"}', B, 4),
        ('{"a":1 "b":2}', B, 7),
        ('{"a":1, }', B, 8),
        ('{"a": 1, "a": 2}', R, 9),
        ('[{"a": 1, "\\u0061": 2}]', R, 10),
        ('"abc', B, 0),
        ('"a\nb"', B, 0),
        ('"\\x41"', B, 0),
        ('"\\u12"', B, 0),
        ('"\\ud83d"', B, 0),
        ('["a", "\\ude42"]', B, 6),
        ('"\ud83d"', B, 0),
        ("'a'", B, 0),
        ("True", B, 0),
        ("+1", B, 0),
        (".5", B, 0),
        ("-", B, 0),
    ],
)
def test_what_is_not_json_is_refused_where_it_goes_wrong(text: str, code: CmlErrorCode, offset: int) -> None:
    assert outcome(scan_value, text, False) == (code, offset)


def test_python_strings_have_json_escapes_and_no_others() -> None:
    for text in ("'\\x41'", "'a", "'a\nb'", '"\\\'"', "'\\ud83d'"):
        assert outcome(scan_value, text, True) == (B, 0)


def test_nesting_is_limited_however_it_is_read() -> None:
    fits = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert scan_value(fits, 0, python=False) == (fits, len(fits))
    assert outcome(scan_value, f"[{fits}]", False) == (B, MAX_DEPTH)
    assert outcome(scan_value, "[" + fits.replace("[]", "['x']") + "]", True) == (B, MAX_DEPTH)
    assert outcome(scan_value, "[" * 100_000 + "]" * 100_000, False) == (B, MAX_DEPTH)
    assert outcome(scan_value, '{"a":' * 100_000, False) == (B, 5 * MAX_DEPTH)
    wide = "[" + ",".join(['{"a":[1]}'] * 100) + "]"
    assert scan_value(wide, 0, python=False) == (wide, len(wide))


@given(plain_text)
def test_strings(text: str) -> None:
    spelled = json.dumps(text)
    assert scan_string(spelled + ",", 0, python=False) == (render_literal(text), len(spelled))


@pytest.mark.parametrize("text", ["", "1", "a", "'a'"])
def test_what_is_no_string_is_refused(text: str) -> None:
    assert outcome(scan_string, text, False) == (B, 0)


def test_members_are_read_one_by_one() -> None:
    seen: list[tuple[str, int, int]] = []
    text = '  { "a" : 1 , "\\u0062":[2] } '

    def read(key: str, at: int, value_at: int) -> int:
        seen.append((key, at, value_at))
        return scan_value(text, value_at, python=False)[1]

    assert scan_members(text, 2, read) == len(text) - 1
    assert seen == [("a", 4, 10), ("b", 14, 23)]
    assert scan_members("{ }", 0, read) == 3


@pytest.mark.parametrize(("text", "offset"), [("[]", 0), ("{", 1), ('{"a":1', 6), ('{"a":1,}', 7)])
def test_members_of_what_is_no_object_are_refused(text: str, offset: int) -> None:
    with pytest.raises(CmlError) as caught:
        scan_members(text, 0, lambda key, at, value_at: value_at + 1)
    assert (caught.value.code, caught.value.offset) == (B, offset)


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud83d", ["\udc00"], {"\ud83d": 1}])
def test_what_json_cannot_hold_is_not_written(value: object) -> None:
    with pytest.raises(ValueError):
        render_literal(value)


def test_only_json_types_are_written() -> None:
    with pytest.raises(TypeError):
        render_literal({"a": object()})


def test_canonical_refuses_half_of_a_surrogate_pair() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        canonical(decode_json('"\\ud83d"'))
