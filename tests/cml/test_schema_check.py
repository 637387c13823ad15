"""A peer's schema and a model's arguments cannot ask for more work than there is time for."""

from __future__ import annotations

from typing import Any

import pytest

from asynclm.cml import schema_check
from asynclm.cml.schema_check import SchemaCheck
from asynclm.cml.toolspec import ToolSpec

DRAFT = "https://json-schema.org/draft/2020-12/schema"
COSTLY = "too much to check"


def of(schema: dict[str, Any], **more: Any) -> SchemaCheck:
    """The schema of one argument, `v`."""
    return SchemaCheck({"type": "object", "properties": {"v": schema}, **more})


@pytest.mark.parametrize(
    ("schema", "value", "violation"),
    [
        ({"pattern": "^[a-z]+$"}, "abc", None),
        ({"pattern": "^[a-z]+$"}, "ABC", "v: 'ABC' does not match '^[a-z]+$'"),
        ({"pattern": "^[a-z]+$"}, 7, None),
        ({"uniqueItems": True}, [1, 2, "1", [1], {"a": 1}], None),
        ({"uniqueItems": True}, [1, 1.0], "v: it has non-unique elements"),
        ({"uniqueItems": True}, [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}], "v: it has non-unique elements"),
        ({"uniqueItems": True}, [True, 1, 0, False], None),
        ({"uniqueItems": False}, [1, 1], None),
        ({"uniqueItems": True}, "aa", None),
        ({"patternProperties": {"^x": {"type": "integer"}}}, {"x": 1, "y": "z"}, None),
        ({"patternProperties": {"^x": {"type": "integer"}}}, {"x": "1"}, "v.x: '1' is not of type 'integer'"),
        ({"patternProperties": {"^x": {}}}, 7, None),
        ({"patternProperties": {"^x": {}}, "additionalProperties": False}, {"x": 1}, None),
        (
            {"patternProperties": {"^x": {}}, "additionalProperties": False},
            {"y": 1},
            "v: Additional properties are not allowed ('y' was unexpected)",
        ),
        ({"additionalProperties": {"type": "integer"}}, {"y": "1"}, "v.y: '1' is not of type 'integer'"),
        ({"additionalProperties": True}, {"y": "1"}, None),
        ({"additionalProperties": False}, 7, None),
        ({"unevaluatedProperties": False}, {"y": 1}, "v: Unevaluated properties are not allowed ('y' was unexpected)"),
        ({"unevaluatedProperties": False, "unevaluatedItems": False}, 7, None),
        ({"const": {"pattern": "("}}, {"pattern": "("}, None),
    ],
)
def test_keywords_mean_what_they_mean_elsewhere(schema: dict[str, Any], value: object, violation: str | None) -> None:
    assert of(schema).violation({"v": value}) == violation


def test_of_several_errors_the_first_by_its_place_is_told() -> None:
    check = SchemaCheck({"properties": {"b": {"type": "string"}, "a": {"type": "string"}}})
    assert check.violation({"b": 1, "a": 1}) == "a: 1 is not of type 'string'"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "nonsense"}, "parameters/type: "),
        ({"$ref": "#/$defs/none"}, "no such place"),
        ({"properties": {"v": {"pattern": "("}}}, "parameters/properties/v/pattern: pattern '\\('"),
        ({"properties": {"default": {"pattern": "("}}}, "parameters/properties/default/pattern"),
        ({"items": {"anyOf": [{"pattern": "(?=a)b"}]}}, "parameters/items/anyOf/0/pattern.*no look-around"),
        ({"pattern": r"(a)\1"}, "no back-references"),
        ({"pattern": "a{1,2000}"}, "1000 repetitions"),
        ({"pattern": "\ud800"}, "surrogate"),
        ({"pattern": r"\p{L}{900}"}, "too large"),
        ({"patternProperties": {"(": {}}}, "parameters/patternProperties: pattern"),
        ({"anyOf": [{"pattern": r"\p{L}{4}" + str(n)} for n in range(20)]}, "too large together"),
        ({"required": [1, "a"] * 1_000}, "parameters/required: more than 1000 entries of several types"),
        ({"allOf": [{"patternProperties": {"a": {}}}], "unevaluatedProperties": False}, "cannot be checked"),
    ],
)
def test_what_cannot_be_checked_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SchemaCheck(schema)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^\d{3}-\w+$", "123-ab", "123-ab\n"),
        (r"^\u0041\/$", "A/", "B/"),
        (r"^\u{1F600}$", "\U0001f600", "x"),
        (r"^\uD83D\uDE00$", "\U0001f600", "x"),
        (r"^[\cA-\cC]$", "\x02", "B"),
        (r"^\p{L}+$", "né", "n1"),
        (r"^\p{Script=Greek}\P{gc=Lu}$", "αβ", "αB"),
        (r"^.$", "\ud800", "ab"),
    ],
)
def test_patterns_are_read_in_the_dialect_of_schemas(pattern: str, good: str, bad: str) -> None:
    assert of({"pattern": pattern}).violation({"v": good}) is None
    assert "does not match" in (of({"pattern": pattern}).violation({"v": bad}) or "")


def doubling(levels: int) -> dict[str, Any]:
    """A small schema whose check takes two to the power of `levels` steps."""
    steps = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(levels)}
    return {"$defs": {**steps, f"d{levels}": {}}, "properties": {"v": {"$ref": "#/$defs/d0"}}}


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less work than a check may take, so that tests take less."""
    monkeypatch.setattr(schema_check, "MOST_WORK", 5_000)


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("draft", [{}, {"$schema": DRAFT}])
def test_references_that_double_at_every_level_are_given_up(draft: dict[str, Any]) -> None:
    assert SchemaCheck({**draft, **doubling(3)}).violation({"v": 1}) is None
    assert COSTLY in (SchemaCheck({**draft, **doubling(64)}).violation({"v": 1}) or "")


@pytest.mark.usefixtures("little")
def test_a_schema_in_itself_that_names_its_draft_is_counted_too() -> None:
    """`$ref: "#"` leads to the part that names the draft; what the draft's own keywords do is not counted."""
    twice = {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}
    check = SchemaCheck({"$schema": DRAFT, "type": "object", "properties": {"v": twice}})
    value: dict[str, Any] = {}
    for _ in range(40):
        value = {"v": value}
    assert COSTLY in (check.violation(value) or "")


def test_a_pattern_that_would_backtrack_for_ever_is_searched_at_once() -> None:
    pattern = r"^(([a-z])+.)+[A-Z]([a-z])+$"
    assert (of({"pattern": pattern}).violation({"v": "a" * 50_000}) or "").startswith("v: 'aaa")
    assert "does not match" in (of({"propertyNames": {"pattern": pattern}}).violation({"v": {"a" * 99: 1}}) or "")


@pytest.mark.usefixtures("little")
def test_a_large_pattern_on_a_long_text_is_given_up() -> None:
    check = of({"pattern": "(a|b)*a(a|b){500}c"})
    assert "does not match" in (check.violation({"v": "ab" * 50}) or "")
    assert COSTLY in (check.violation({"v": "ab" * 50_000}) or "")


@pytest.mark.usefixtures("little")
def test_many_large_patterns_are_given_up() -> None:
    check = of({"anyOf": [{"pattern": r"\p{L}" + str(n)} for n in range(40)]})
    assert COSTLY in (check.violation({"v": "x"}) or "")


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("keyword", ["unevaluatedProperties", "unevaluatedItems"])
def test_what_nothing_looked_at_is_looked_for_at_a_price(keyword: str) -> None:
    of_kind: Any = (lambda n: dict.fromkeys(map(str, range(n)))) if "Prop" in keyword else lambda n: [None] * n
    check = of({keyword: {"type": "null"}})
    assert check.violation({"v": of_kind(10)}) is None
    assert COSTLY in (check.violation({"v": of_kind(4_000)}) or "")


@pytest.mark.usefixtures("little")
def test_what_was_looked_at_is_counted_before_what_was_not() -> None:
    """`unevaluatedProperties` goes over it all again by means that count nothing."""
    both = {f"d{i}": {"dependentSchemas": {key: {"$ref": f"#/$defs/d{i + 1}"} for key in "ab"}} for i in range(64)}
    schema = {"unevaluatedProperties": False, "$defs": {**both, "d64": {}}, "$ref": "#/$defs/d0"}
    assert COSTLY in (SchemaCheck(schema).violation({"a": 1, "b": 1}) or "")


def test_an_anchor_is_found_without_looking_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check = SchemaCheck(
        {"properties": {"v": {"items": {"$ref": "#n"}}}, "$defs": {"n": {"$anchor": "n", "type": "null"}}}
    )
    monkeypatch.setattr("referencing.Registry.crawl", None)
    assert check.violation({"v": [None] * 10}) is None


@pytest.mark.usefixtures("little")
def test_a_large_value_costs_more_than_a_small_one() -> None:
    """Every error would hold all of it."""
    branches = {"anyOf": [{"type": "integer"}] * 500}
    assert "is not valid under any" in (of(branches).violation({"v": "x" * 100}) or "")
    assert COSTLY in (of(branches).violation({"v": "x" * 100_000}) or "")
    assert COSTLY in (of(branches).violation({"v": {"w": ["x" * 100_000]}}) or "")


@pytest.mark.usefixtures("little")
def test_a_long_list_of_choices_costs_more_than_a_short_one() -> None:
    choices = {"items": {"enum": [str(number) for number in range(2_000)]}}
    assert of(choices).violation({"v": ["1"] * 10}) is None
    assert COSTLY in (of(choices).violation({"v": ["1"] * 1_000}) or "")


def test_a_reference_to_itself_leads_nowhere() -> None:
    check = SchemaCheck({"properties": {"v": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}})
    assert "leads nowhere or to itself" in (check.violation({"v": 1}) or "")


def test_values_of_an_ordinary_size_are_checked() -> None:
    check = of({"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}})
    assert check.violation({"v": [{"n": number} for number in range(5_000)]}) is None


def test_a_tool_refuses_its_schema_by_name() -> None:
    with pytest.raises(ValueError, match="tool 'f': parameters: "):
        ToolSpec(name="f", parameters={"allOf": [{"patternProperties": {"a": {}}}], "unevaluatedProperties": False})
