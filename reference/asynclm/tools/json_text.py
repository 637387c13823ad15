"""Python values to JSON text: what tools return, as the payload of an interrupt [INT-013]."""

from __future__ import annotations

import json
import math
import os
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from asynclm.cml.detokenise import scrub
from asynclm.tools.errors import UnserializableError

MAX_DEPTH = 200
"""Deepest nesting of a result; deeper ones break the JSON parsers of peers."""

JsonValue = None | bool | int | float | str | list[Any] | dict[str, Any]


def to_json_text(value: object) -> str:
    """Serialises a value to JSON text that any parser takes: no NaN, no Infinity, valid UTF-8.

    Beyond JSON's own types: pydantic models, dataclasses, named tuples, enums, dates and times (ISO 8601), `Decimal`
    (as a string), `UUID`, paths, UTF-8 bytes, sets (sorted where they can be), iterators, and whatever has `tolist()`
    (NumPy, torch). Lone surrogates become U+FFFD.

    Raises:
        UnserializableError: JSON cannot hold the value; the message names the place in it and the type.
    """
    try:
        return json.dumps(_plain(value, "result", 0), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise UnserializableError(f"result: nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        if isinstance(error, UnserializableError):
            raise
        raise UnserializableError(f"result: {error}") from None  # an int of more digits than Python prints


def _plain(value: object, path: str, depth: int) -> JsonValue:
    if depth > MAX_DEPTH:
        raise UnserializableError(f"{_short(path)}: nested deeper than {MAX_DEPTH}, or containing itself")
    # Exact types: subclasses (enums, named tuples, ordered dicts) have a serialisation of their own below.
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value  # type: ignore[return-value]
    if kind is str:
        return scrub(value)  # type: ignore[arg-type]
    if kind is float:
        return _finite(value, path)  # type: ignore[arg-type]
    if kind is list or kind is tuple:
        items: list[object] = list(value)  # type: ignore[call-overload]
        return [_plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(items)]
    if kind is dict:
        return _plain_dict(value, path, depth)  # type: ignore[arg-type]
    if isinstance(value, set | frozenset):
        return [_plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(_ordered(value))]
    return _plain(_convert(value, path), path, depth + 1)


def _plain_dict(value: dict[object, object], path: str, depth: int) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key, path)
        if name in plain:
            raise UnserializableError(f"{_short(path)}: two keys are both {name[:40]!r} in JSON")
        plain[name] = _plain(item, f"{path}.{name[:40]}", depth + 1)
    return plain


def _key(key: object, path: str) -> str:
    if isinstance(key, str):
        return scrub(str.__str__(key))
    plain = key if key is None or isinstance(key, bool | int | float) else _plain(key, f"{path} key", 1)
    if isinstance(plain, str):
        return plain
    if plain is None or isinstance(plain, bool | int):
        return json.dumps(plain)
    if isinstance(plain, float):
        return json.dumps(_finite(plain, f"{path} key"))
    raise UnserializableError(f"{_short(path)}: a key of type {type(key).__name__} is not text; JSON keys are")


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise UnserializableError(f"{_short(path)}: {value} is not a JSON number; return None or text instead")
    return value


def _ordered(value: set[Any] | frozenset[Any]) -> list[Any]:
    """Equal sets give equal text wherever their items can be compared."""
    try:
        return sorted(value)
    except TypeError:
        return list(value)


def _convert(value: object, path: str) -> object:
    """One level of conversion by pydantic's serialiser, or by `tolist()`."""
    try:
        converted: object = to_jsonable_python(value, fallback=_fallback)
    except (PydanticSerializationError, ValueError, TypeError) as error:
        # Unicode errors are ValueErrors: bytes that are not UTF-8.
        kind = type(value).__name__
        raise UnserializableError(f"{_short(path)}: JSON cannot hold this {kind}: {str(error)[:200]}") from None
    if type(converted) is type(value) and converted is value:
        raise UnserializableError(f"{_short(path)}: JSON cannot hold a value of type {type(value).__name__}")
    return converted


def _fallback(value: object) -> object:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    tolist = getattr(value, "tolist", None)
    if callable(tolist) and not isinstance(value, type):
        return tolist()
    raise TypeError(f"type {type(value).__module__}.{type(value).__qualname__} has no JSON form")


def _short(path: str) -> str:
    return path if len(path) <= 120 else f"{path[:60]}…{path[-59:]}"
