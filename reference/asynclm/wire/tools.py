"""Tool declarations, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from asynclm.cml.control import NAME, BodyLanguage
from asynclm.cml.toolspec import SideEffects, ToolSpec
from asynclm.v1 import types_pb2
from asynclm.wire import enums
from asynclm.wire.errors import BAD_TOOL, FieldError, shorten

MAX_DEPTH = 64
"""Levels of nesting that a schema may have [LIM-007]."""

_PYTHON_NAMES = (
    "under python_call a name is 1 to 64 letters, digits and _, not starting with a digit; a function's may be several "
    "joined by dots; json_call takes any name"
)


def tool_to_pb(spec: ToolSpec) -> types_pb2.ToolSpec:
    """A tool's declaration."""
    return types_pb2.ToolSpec(
        name=spec.name,
        description=spec.description or None,
        parameters_json=spec.to_json_schema_text(),
        parameter_order=spec.parameter_order,
        expected_duration_ms=spec.expected_duration_ms,
        timeout_ms=spec.timeout_ms,
        cacheable=spec.cacheable,
        idempotent=spec.idempotent,
        cancellable=spec.cancellable,
        side_effects=enums.SIDE_EFFECTS.number(spec.side_effects),
    )


def tool_from_pb(pb: types_pb2.ToolSpec, field: str = "tool") -> ToolSpec:
    """A tool's declaration as a peer gives it.

    Args:
        pb: the message.
        field: its path, for errors.

    Raises:
        FieldError: a field is not allowed.
    """
    given: dict[str, Any] = {}
    if pb.HasField("parameters_json"):
        given["parameters"] = _schema(pb.parameters_json, f"{field}.parameters_json")
    for name in ("description", "expected_duration_ms", "timeout_ms", "cacheable", "idempotent", "cancellable"):
        if pb.HasField(name):
            given[name] = getattr(pb, name)
    side_effects = enums.SIDE_EFFECTS.given(pb.side_effects, f"{field}.side_effects") or SideEffects.EXTERNAL
    try:
        return ToolSpec(name=pb.name, parameter_order=tuple(pb.parameter_order), side_effects=side_effects, **given)
    except ValueError as error:
        raise FieldError(field, f"is not a tool: {error}", BAD_TOOL) from None
    except RecursionError:
        raise FieldError(f"{field}.parameters_json", "is nested too deeply", BAD_TOOL) from None


def tools_from_pb(items: Iterable[types_pb2.ToolSpec], field: str = "tools") -> tuple[ToolSpec, ...]:
    """Tool declarations as a peer gives them.

    Raises:
        FieldError: one is not allowed, or two have one name.
    """
    found: dict[str, ToolSpec] = {}
    for position, item in enumerate(items):
        spec = tool_from_pb(item, f"{field}[{position}]")
        if spec.name in found:
            raise FieldError(
                f"{field}[{position}].name", f"is {shorten(spec.name)}, which is declared already", BAD_TOOL
            )
        found[spec.name] = spec
    return tuple(found.values())


def check_names(specs: Iterable[ToolSpec], language: BodyLanguage, field: str = "tools") -> None:
    """Checks that calls of these tools can be written in a body language; `json_call` takes any name.

    Raises:
        FieldError: a tool or a parameter is not a NAME [CML-010].
    """
    if language is not BodyLanguage.PYTHON:
        return
    for position, spec in enumerate(specs):
        if not all(NAME.fullmatch(part) for part in spec.name.split(".")):
            raise FieldError(
                f"{field}[{position}].name",
                f"is {shorten(spec.name)}; {_PYTHON_NAMES}",
                BAD_TOOL,
            )
        for parameter in spec.properties:
            if not NAME.fullmatch(parameter):
                raise FieldError(
                    f"{field}[{position}].parameters_json",
                    f"names a parameter {shorten(parameter)}; {_PYTHON_NAMES}",
                    BAD_TOOL,
                )


def _schema(text: str, field: str) -> dict[str, Any]:
    try:
        schema = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise FieldError(field, f"is nested deeper than {MAX_DEPTH} levels", BAD_TOOL) from None
    except ValueError as error:
        raise FieldError(field, f"is {shorten(text)}, not JSON: {error}", BAD_TOOL) from None
    if not isinstance(schema, dict):
        raise FieldError(field, f"is {shorten(text)}; a JSON schema of an object is required", BAD_TOOL)
    if _deeper_than(schema, MAX_DEPTH):
        raise FieldError(field, f"is nested deeper than {MAX_DEPTH} levels", BAD_TOOL)
    return schema


def _deeper_than(value: object, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inside is not None and (levels == 0 or any(_deeper_than(item, levels - 1) for item in inside))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
