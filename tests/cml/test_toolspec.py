from __future__ import annotations

import json
from typing import Any

import pytest

from asynclm.cml.toolspec import EMPTY_SCHEMA, SideEffects, ToolSpec

SCHEMA = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "n": {"type": "integer", "minimum": 1}},
    "required": ["to"],
    "additionalProperties": False,
}


def test_a_tool_without_parameters_takes_none() -> None:
    tool = ToolSpec(name="now")
    assert tool.parameters == EMPTY_SCHEMA
    assert tool.violation({}) is None
    assert tool.violation({"x": 1}) is not None
    assert (tool.properties, tool.required, tool.side_effects) == ({}, (), SideEffects.EXTERNAL)


def test_arguments_are_held_against_the_schema() -> None:
    tool = ToolSpec(name="mail.send", parameters=SCHEMA, parameter_order=("to", "n"))
    assert tool.required == ("to",)
    assert set(tool.properties) == {"to", "n"}
    assert tool.violation({"to": "a", "n": 1}) is None
    assert tool.violation({"to": "a", "n": 0}) == "n: 0 is less than the minimum of 1"
    assert (tool.violation({}) or "").startswith("arguments: 'to' is a required property")
    assert json.loads(tool.to_json_schema_text()) == SCHEMA


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "empty"),
        ({"name": "cml"}, "reserved"),
        ({"name": "cml.cancel"}, "reserved"),
        ({"name": "f", "timeout_ms": 0}, "timeout_ms is 0"),
        ({"name": "f", "expected_duration_ms": -1}, "expected_duration_ms is -1"),
        ({"name": "f", "parameters": {"type": "array"}}, "type 'object'"),
        ({"name": "f", "parameters": {"properties": {"x": {"type": "nonsense"}}}}, "parameters/properties/x/type"),
        ({"name": "f", "parameters": SCHEMA, "parameter_order": ("to", "cc")}, r"parameter_order names \['cc'\]"),
    ],
)
def test_what_no_tool_may_declare_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ToolSpec(**fields)


def test_a_name_that_only_begins_like_the_reserved_prefix_is_free() -> None:
    assert ToolSpec(name="cmlx").name == "cmlx"


def test_durations_may_be_left_out_or_given() -> None:
    tool = ToolSpec(name="f", timeout_ms=5, expected_duration_ms=1)
    assert (tool.timeout_ms, tool.expected_duration_ms) == (5, 1)
