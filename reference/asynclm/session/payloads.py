"""Payloads: what the runtime writes, and the check of what others send [INT-013, INT-014].

JSON is checked and kept as it was spelled, never re-serialised.
"""

from __future__ import annotations

import json
from typing import Any

from asynclm.cml.control import Status
from asynclm.cml.literals import MAX_DEPTH
from asynclm.session.state import ErrorType

_FAULTS = (Status.ERROR, Status.TIMEOUT, Status.CANCELLED)


def error_payload(
    kind: ErrorType, message: str, *, retryable: bool = False, call_id: str | None = None, call: int | None = None
) -> str:
    """An error as JSON text.

    Args:
        kind: its class.
        message: one sentence for the model: what is wrong and what is allowed.
        retryable: whether the same call, made again unchanged, may succeed.
        call_id: the id as the model wrote it, when `@runtime` speaks of a call.
        call: the call's index, when `@runtime` speaks of a call.
    """
    fields: dict[str, Any] = {"type": kind.value, "message": message, "retryable": retryable}
    if call_id is not None:
        fields["id"] = call_id
    if call is not None:
        fields["call"] = call
    return json.dumps(fields, ensure_ascii=False)


def payload_bytes(payload: str) -> int | None:
    """Length in UTF-8, or None if the text is not Unicode (it holds a lone surrogate)."""
    try:
        return len(payload.encode())
    except UnicodeEncodeError:
        return None


def json_fault(status: Status, payload: str) -> str | None:
    """Checks a result's payload.

    Returns:
        None if it fits its status, else one sentence that says what is wrong and what is allowed.
    """
    try:
        value = json.loads(payload, parse_int=_number, parse_float=_number, parse_constant=_no_constant)
        if payload.count("[") + payload.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise RecursionError
    except RecursionError:
        return f"payload: JSON nested deeper than {MAX_DEPTH} levels"
    except ValueError as error:
        return f"payload: not JSON: {error}"
    if status in _FAULTS:
        return _fault_shape(status, value)
    if status is Status.PROGRESS:
        return _progress_shape(value)
    return None


def _fault_shape(status: Status, value: object) -> str | None:
    if (
        isinstance(value, dict)
        and isinstance(value.get("type"), str)
        and isinstance(value.get("message"), str)
        and isinstance(value.get("retryable"), bool)
    ):
        return None
    return f'payload of status {status.value}: must be {{"type": text, "message": text, "retryable": true or false}}'


def _progress_shape(value: object) -> str | None:
    if isinstance(value, dict):
        message, fraction = value.get("message"), value.get("fraction")
        told = message is not None or fraction is not None
        in_range = fraction is None or (isinstance(fraction, float) and 0.0 <= fraction <= 1.0)
        if told and in_range and (message is None or isinstance(message, str)):
            return None
    return 'payload of status progress: must be {"message": text, "fraction": 0 to 1}, at least one of them'


def _depth(value: object) -> int:
    """Levels of nested lists and objects."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, (list, dict))]:
        depth += 1
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return depth


def _number(spelling: str) -> float:
    # Spelled numbers are not bounded: float() takes any length, int() refuses over 4,300 digits.
    return float(spelling)


def _no_constant(spelling: str) -> None:
    raise ValueError(f"{spelling} is no JSON value")
