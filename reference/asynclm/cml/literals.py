"""Literals of call bodies: one scanner for JSON and for python_call's spellings [CML-022, CML-023].

A literal is read to canonical JSON text: no white space, `"…"` strings without needless escapes, numbers as they were
spelled. Plain scalars take one regular expression and JSON containers the C scanner of `json`; whatever these two do
not vouch for is read by `_scan`, which alone decides what is wrong and where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from asynclm.cml.blocks import CmlError, CmlErrorCode
from asynclm.cml.ids import WHITESPACE, shown

MAX_DEPTH = 64
"""Levels of nested lists and objects in one argument; more is BAD_BODY."""

NUMBER_PATTERN = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
PLAIN_STRING_PATTERN = r'"[ !#-\[\]-\ud7ff\ue000-\U0010ffff]*+"'
"""A string whose source is its canonical text: no escapes, no surrogates."""

WORDS = {"true": "true", "false": "false", "null": "null"}
"""JSON's words."""
PYTHON_WORDS = {**WORDS, "True": "true", "False": "false", "None": "null"}
"""python_call's words, with their JSON text."""

_SINGLE_QUOTED = re.compile(r"'([^'\\]*+(?:\\.[^'\\]*+)*+)'", re.DOTALL)
_SINGLE_PART = re.compile(r"\\.|\"", re.DOTALL)
_SIMPLE = re.compile(f"{PLAIN_STRING_PATTERN}|{NUMBER_PATTERN}")
_NUMBER = re.compile(NUMBER_PATTERN)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+", re.ASCII)
_SPACE = re.compile(r"[ \t\r\n]*+")


def bad_body(text: str, offset: int, wanted: str) -> CmlError:
    """The error for a body that goes wrong at `offset`."""
    found = shown(text[offset : offset + 20]) if offset < len(text) else "the end"
    return CmlError(f"body at {found}: {wanted}", code=CmlErrorCode.BAD_BODY, offset=offset)


def skip(text: str, at: int) -> int:
    """The position after the white space at `at`."""
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def scan_value(text: str, at: int, *, python: bool) -> tuple[str, int]:
    """Reads the literal that starts at `at`.

    Args:
        text: the body.
        at: where the literal starts, after any white space.
        python: whether python_call's spellings are allowed.

    Returns:
        Its canonical JSON text, and the position after it.

    Raises:
        CmlError: BAD_BODY, or REPEATED_ARGUMENT for an object key given twice, with the offset in `text`.
    """
    match = _SIMPLE.match(text, at)
    if match is not None:
        return match.group(), match.end()
    if text.startswith('"', at):
        return scan_string(text, at, python=python)
    if text.startswith(("[", "{"), at):
        try:
            value, end = _DECODER.raw_decode(text, at)
            if text.count("[", at, end) + text.count("{", at, end) <= MAX_DEPTH or _depth(value) <= MAX_DEPTH:
                return canonical(value), end
        except (ValueError, RecursionError):
            pass
    return _scan(text, at, python)


def scan_string(text: str, at: int, *, python: bool) -> tuple[str, int]:
    """Reads the string that starts at `at`, to canonical JSON text, and gives the position after it.

    Raises:
        CmlError: BAD_BODY, with the offset in `text`.
    """
    try:
        if python and text.startswith("'", at):
            value, end = _read_single_quoted(text, at)
        elif text.startswith('"', at):
            value, end = _DECODER.raw_decode(text, at)
        else:
            raise bad_body(text, at, "a string is expected here")
    except json.JSONDecodeError:
        message = "a string needs its closing quote, JSON's escapes, and no raw control characters"
        raise bad_body(text, at, message) from None
    if not (value.isascii() or _is_unicode(value)):
        raise bad_body(text, at, "a string has half of a surrogate pair, which is no character")
    return _encode_string(value), end


def scan_members(text: str, at: int, read: Callable[[str, int, int], int], *, python: bool = False) -> int:
    """Reads the object that starts at `at`, member by member.

    Args:
        text: the body.
        at: where `{` should stand.
        read: takes a key, its position and the position of its value, and gives the position after the value.
        python: whether python_call's spellings are allowed.

    Returns:
        The position after the object.

    Raises:
        CmlError: BAD_BODY, or REPEATED_ARGUMENT for a key given twice, with the offset in `text`.
    """
    if not text.startswith("{", at):
        raise bad_body(text, at, "an object {…} is expected here")
    at = skip(text, at + 1)
    if text.startswith("}", at):
        return at + 1
    keys: set[str] = set()
    while True:
        at = skip(text, at)
        key, value_at = _key(text, at, keys, python)
        at = skip(text, read(json.loads(key), at, value_at))
        if text.startswith("}", at):
            return at + 1
        if not text.startswith(",", at):
            raise bad_body(text, at, "',' or '}' is expected here")
        at += 1


def canonical(value: Any) -> str:
    """The canonical JSON text of a value that the C scanner read.

    Raises:
        ValueError: it has half of a surrogate pair.
    """
    kind = type(value)
    if kind is int or kind is float:
        return repr(value)
    text = _encode_string(value) if kind is str else _ENCODER.encode(value)
    if not (text.isascii() or _is_unicode(text)):
        raise ValueError("half of a surrogate pair")
    return text


def render_literal(value: object) -> str:
    """The canonical JSON text of a Python value, as a `Literal` holds it.

    Raises:
        ValueError: it is not JSON: NaN or an infinity, half of a surrogate pair, or a value that contains itself.
        TypeError: it holds something that JSON has no value for.
    """
    text = _STRICT_ENCODER.encode(value)
    if not _is_unicode(text):
        raise ValueError("half of a surrogate pair is no character")
    return text


def decode_json(text: str) -> Any:
    """Decodes JSON text whose numbers `canonical` spells as written; for the fast paths only.

    Raises:
        ValueError, RecursionError: it is not JSON, or has something that the fast paths leave to `_scan`.
    """
    text = text.strip(WHITESPACE)
    value, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise ValueError("more than one value")
    return value


def _scan(text: str, at: int, python: bool) -> tuple[str, int]:
    """Reads any literal, with a stack of its own: nesting costs no recursion."""
    out: list[str] = []
    stack: list[set[str] | None] = []  # the keys seen in each open object; None for an open list
    while True:
        if text.startswith(("[", "{"), at):
            opening = text[at]
            if len(stack) == MAX_DEPTH:
                raise bad_body(text, at, f"lists and objects may nest {MAX_DEPTH} deep")
            after = skip(text, at + 1)
            if text.startswith("]" if opening == "[" else "}", after):
                out.append("[]" if opening == "[" else "{}")
                at = after + 1
            else:
                out.append(opening)
                stack.append(None if opening == "[" else set())
                at = _next(text, after, stack[-1], out, python)
                continue
        else:
            scalar, at = _scan_scalar(text, at, python)
            out.append(scalar)
        while stack:
            at = skip(text, at)
            if text.startswith(",", at):
                out.append(",")
                at = _next(text, skip(text, at + 1), stack[-1], out, python)
                break
            closing = "]" if stack[-1] is None else "}"
            if not text.startswith(closing, at):
                raise bad_body(text, at, f"',' or '{closing}' is expected here")
            out.append(closing)
            stack.pop()
            at += 1
        else:
            return "".join(out), at


def _next(text: str, at: int, keys: set[str] | None, out: list[str], python: bool) -> int:
    """Moves to the next value of the innermost list or object, over its key if it has one."""
    if keys is None:
        return at
    key, at = _key(text, at, keys, python)
    out.append(f"{key}:")
    return at


def _key(text: str, at: int, keys: set[str], python: bool) -> tuple[str, int]:
    """Reads `key :`, and gives the key's canonical text and the position of the value."""
    key, end = scan_string(text, at, python=python)
    if key in keys:
        raise CmlError(f"key {shown(key)} is given twice", code=CmlErrorCode.REPEATED_ARGUMENT, offset=at)
    keys.add(key)
    end = skip(text, end)
    if not text.startswith(":", end):
        raise bad_body(text, end, "':' is expected here")
    return key, skip(text, end + 1)


def _scan_scalar(text: str, at: int, python: bool) -> tuple[str, int]:
    if text.startswith(('"', "'"), at):
        return scan_string(text, at, python=python)
    match = _NUMBER.match(text, at)
    if match is not None:
        return match.group(), match.end()
    words = PYTHON_WORDS if python else WORDS
    match = _WORD.match(text, at)
    if match is not None and match.group() in words:
        return words[match.group()], match.end()
    raise bad_body(text, at, "a JSON value is expected here")


def _read_single_quoted(text: str, at: int) -> tuple[str, int]:
    """Reads a '…' string by way of the "…" string that means the same."""
    match = _SINGLE_QUOTED.match(text, at)
    if match is None:
        raise json.JSONDecodeError("no closing quote", text, at)
    value: str = _DECODER.decode('"' + _SINGLE_PART.sub(_requote, match.group(1)) + '"')
    return value, match.end()


def _requote(match: re.Match[str]) -> str:
    part = match.group()
    if part == '"':
        return '\\"'
    return "'" if part == "\\'" else part


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(value: Any) -> int:
    depth = 0
    level = [value]
    while level:
        depth += 1
        inner = (child for v in level for child in (v.values() if isinstance(v, dict) else v))
        level = [child for child in inner if isinstance(child, (dict, list))]
    return depth


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("repeated key")
    return members


def _int(spelled: str) -> int:
    if len(spelled) > 15 or spelled == "-0":
        raise ValueError("a number that `int` would respell")
    return int(spelled)


def _float(spelled: str) -> float:
    value = float(spelled)
    if repr(value) != spelled:
        raise ValueError("a number that `float` would respell")
    return value


def _refuse(spelled: str) -> Any:
    raise ValueError(f"{spelled} is not JSON")


_encode_string = json.encoder.encode_basestring
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
_STRICT_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_int, parse_float=_float, parse_constant=_refuse)
