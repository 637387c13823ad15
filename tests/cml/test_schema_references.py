"""References in a tool's schema stay inside it: nothing is fetched, and nothing hangs."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from asynclm.cml.toolspec import ToolSpec


def tool(parameter: Any, **more: Any) -> ToolSpec:
    return ToolSpec(name="f", parameters={"type": "object", "properties": {"a": parameter}, **more})


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"fetched {args}")

    monkeypatch.setattr(urllib.request, "urlopen", fetch)


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
@pytest.mark.parametrize("target", ["http://localhost/x", "file:///etc/passwd", "other.json", "//host/x"])
def test_a_reference_to_elsewhere_is_refused(keyword: str, target: str) -> None:
    with pytest.raises(ValueError, match="lead inside the schema"):
        tool({"anyOf": [{"type": "null"}, {keyword: target}]})


@pytest.mark.parametrize("target", ["#/$defs/nobody", "#nobody"])
def test_a_reference_to_nowhere_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="no such place"):
        tool({"$ref": target})


def test_references_inside_the_schema_are_followed() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#/$defs/tree"}}, "additionalProperties": False}
    spec = tool({"$ref": "#/$defs/tree"}, **{"$defs": {"tree": tree}})
    assert spec.violation({"a": {"child": {"child": {}}}}) is None
    assert "other" in (spec.violation({"a": {"child": {"other": 1}}}) or "")


def test_what_only_looks_like_a_reference_is_data() -> None:
    spec = tool({"const": {"$ref": "http://localhost/x"}}, required=["a"])
    assert spec.violation({"a": {"$ref": "http://localhost/x"}}) is None
    assert ToolSpec(name="f", parameters={"properties": {"$ref": {"type": "integer"}}}).violation({"$ref": 1}) is None


@pytest.mark.parametrize(
    "parameter",
    [
        {"$ref": "#/properties/a"},
        {"$id": "http://localhost/inner", "$ref": "elsewhere"},
        {"type": "object", "properties": {"default": {"$id": "http://localhost/x", "$ref": "#/nowhere"}}},
    ],
)
def test_what_shows_only_at_a_call_fails_that_call(parameter: dict[str, Any]) -> None:
    assert "leads nowhere or to itself" in (tool(parameter).violation({"a": {"default": 1}}) or "")
