"""Payloads and arguments: whether a text is JSON of the shape that is asked for."""

from __future__ import annotations

import json
from typing import Any

from asynclm.v1 import types_pb2

_MAX_DEPTH = 64
_ERROR = {"type": str, "message": str, "retryable": bool}


def fits(status: int, payload: str) -> bool:
    """Whether a payload is JSON of the shape that its status asks for [INT-013, LIM-007]."""
    try:
        value = _read(payload)
        if _depth(value) > _MAX_DEPTH:
            return False
    except (ValueError, RecursionError):
        return False
    if status == types_pb2.STATUS_ERROR:
        return isinstance(value, dict) and all(isinstance(value.get(k), t) for k, t in _ERROR.items())
    if status == types_pb2.STATUS_PROGRESS:
        return isinstance(value, dict) and _progresses(value)
    return True


def members(text: str) -> dict[str, Any] | None:
    """The members of a JSON object, numbers as they were spelled; None if the text is none."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _Number(str):
    """A number as it was spelled, which is no string."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and str.__eq__(self, other)

    __hash__ = str.__hash__


def _read(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse, parse_int=float)


def _progresses(value: dict[str, Any]) -> bool:
    message, fraction = value.get("message"), value.get("fraction")
    if message is None and fraction is None:
        return False
    right = fraction is None or (isinstance(fraction, float) and 0.0 <= fraction <= 1.0)
    return right and (message is None or isinstance(message, str))


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _refuse(word: str) -> None:
    raise ValueError(word)
