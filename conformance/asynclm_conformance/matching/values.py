"""Holding what came against what was written down: only what is given counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asynclm.conformance.v1 import suite_pb2
from asynclm.wire.errors import shorten
from asynclm_conformance.faults import RpcStatus

Difference = tuple[str, str, str]
"""Where, what was wanted, what was there."""


def difference(given: Any, actual: Any, where: str) -> Difference | None:
    """The first place at which `actual` lacks what is given; members that are not given do not count.

    Args:
        given: values as in JSON; None asks for a member to be absent or null.
        actual: what came, as `to_dict` gives it.
        where: the path so far.
    """
    if given is None:
        return None if actual in (None, "", [], {}) else (where, "absent", _shown(actual))
    if isinstance(given, Mapping):
        if not isinstance(actual, Mapping):
            return where, _shown(given), _shown(actual)
        for key, value in given.items():
            wrong = difference(value, actual.get(key), f"{where}.{key}")
            if wrong is not None:
                return wrong
        return None
    if isinstance(given, list):
        if not isinstance(actual, list) or len(given) != len(actual):
            return where, _shown(given), _shown(actual)
        for number, (value, found) in enumerate(zip(given, actual, strict=True)):
            wrong = difference(value, found, f"{where}[{number}]")
            if wrong is not None:
                return wrong
        return None
    return None if _same(given, actual) else (where, _shown(given), _shown(actual))


def order_difference(lists: Mapping[str, list[Any]], actual: Mapping[str, Any], where: str) -> Difference | None:
    """The first list that lacks an element that is given, behind those given before it; others may stand between."""
    for name, elements in lists.items():
        rest = iter(actual.get(name) or [])
        for number, given in enumerate(elements):
            if not any(difference(given, found, where) is None for found in rest):
                return (
                    f"{where}.{name}",
                    f"{_shown(given)} behind {_shown(elements[:number])}",
                    _shown(actual.get(name)),
                )
    return None


def absence(paths: Sequence[str], actual: Mapping[str, Any], where: str) -> Difference | None:
    """The first field that is not there, or has its type's default value; in a list each element has to have it."""
    for path in paths:
        if not all(_has_value(value) for value in _values(path.split("."), actual)):
            return f"{where}.{path}", "a value", "absent, or its type's default"
    return None


def _values(names: Sequence[str], actual: Any) -> Iterator[Any]:
    """What stands at a path; None where it does not lead to anything."""
    if isinstance(actual, list):
        for element in actual or [None]:
            yield from _values(names, element)
    elif not names or not isinstance(actual, Mapping):
        yield None if names else actual
    else:
        yield from _values(names[1:], actual.get(names[0]))


def _has_value(value: Any) -> bool:
    return bool(value) and value != "0" and not str(value).endswith("_UNSPECIFIED")


def _same(given: Any, actual: Any) -> bool:
    """Whether two scalars are equal; 64-bit integers are strings in the JSON mapping."""
    if isinstance(given, bool) or isinstance(actual, bool):
        return given is actual
    if isinstance(given, int | float) and isinstance(actual, str):
        return str(given) == actual
    if isinstance(given, str) and isinstance(actual, int | float):
        return given == str(actual)
    return bool(given == actual)


def fault_difference(fault: suite_pb2.Fault, status: RpcStatus) -> Difference | None:
    """Where a status is not what it has to be."""
    if status.code != fault.code:
        return "status", fault.code, str(status)
    if fault.reason and (status.reason, status.domain) != (fault.reason, "asynclm"):
        return "google.rpc.ErrorInfo", f"reason {fault.reason}, domain asynclm", f"{status} (domain {status.domain!r})"
    if fault.field and not any(fault.field in found for found in status.fields):
        return "google.rpc.BadRequest", f"a violation of a field with {fault.field!r} in its path", str(status)
    for text in fault.mentions:
        if text not in status.message:
            return "the status's message", f"a mention of {text!r}", repr(status.message)
    return None


def _shown(value: Any) -> str:
    return "absent" if value is None else shorten(value, 500)
