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


def test_a_refusal_names_the_path() -> None:
    """[CALL-093]"""
    with pytest.raises(ValueError, match=r"parameters/properties/a/anyOf/1/\$ref '#/\$defs/nobody': "):
        tool({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/nobody"}]})


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
    ("parameter", "message"),
    [
        ({"$id": "http://localhost/inner", "$ref": "elsewhere"}, "lead inside the schema"),
        ({"properties": {"default": {"$id": "http://localhost/x", "$ref": "#/nowhere"}}}, "no such place"),
        ({"$ref": "#/properties/b/const"}, "no schema"),
        ({"prefixItems": [{"$ref": "#/properties/b/examples/0"}]}, "no schema"),
    ],
)
def test_a_reference_from_or_to_an_odd_place_is_refused(parameter: dict[str, Any], message: str) -> None:
    """References below an address of their own are relative to it; what is data was never looked at as a schema."""
    b = {"const": {"type": "integer"}, "examples": [{"type": "integer"}]}
    with pytest.raises(ValueError, match=message):
        ToolSpec(name="f", parameters={"type": "object", "properties": {"a": parameter, "b": b}})


def test_references_below_an_address_are_relative_to_it() -> None:
    inner = {"$id": "http://localhost/inner", "$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    assert tool(inner).violation({"a": 1}) is None
    assert "not of type" in (tool(inner).violation({"a": "1"}) or "")
    assert tool({"$ref": "#/$defs/all"}, **{"$defs": {"all": True}}).violation({"a": 1}) is None


def test_a_reference_to_itself_shows_at_a_call_and_fails_it() -> None:
    assert "leads nowhere or to itself" in (tool({"$ref": "#/properties/a"}).violation({"a": 1}) or "")
