"""Which parts of a schema the grammar holds, which it names as unenforced, and how tools become rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asynclm.cml.binding import bind
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine import guidance, schemas
from asynclm.engine.constraints import Constraint
from asynclm.engine.guidance import GrammarError
from asynclm.engine.schemas import ParameterSchemas
from asynclm.session.mask import BlockRule, Kind, Mask

TOKENIZER = ByteTokenizer()
CODEC = bind(TOKENIZER)
INSIDE = frozenset({Kind.TEXT, Kind.HEAD, Kind.END})
P = "f: parameters"


def compiled(parameters: dict[str, Any], language: BodyLanguage = BodyLanguage.PYTHON) -> Constraint:
    return Constraint(CODEC, TOKENIZER, (ToolSpec(name="f", parameters=parameters),), language)


def takes(constraint: Constraint, text: str) -> bool:
    session = constraint.session()
    mask = Mask(INSIDE, BlockRule.CALL, 1)
    for token_id in [*CODEC.encode_text(text), CODEC.control_ids[Control.END]]:
        if not session.allows(mask, token_id):
            return False
        session.accept(token_id)
    return True


def of(schema: object, **more: object) -> dict[str, Any]:
    """The parameters of a tool with one required parameter `x`."""
    return {"type": "object", "properties": {"x": schema}, "required": ["x"], **more}


HELD: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"type": "integer", "minimum": 5, "maximum": 12}, ["5", "12"], ["4", "13", "5.5", '"5"', "05"]),
    ({"type": "number"}, ["0", "-1.5e3"], ['"1"', "+1", "-NaN"]),
    ({"type": "boolean"}, ["true", "false"], ["True", "0", '"true"']),
    ({"type": "null"}, ["null"], ["None", "0"]),
    ({"type": "string", "minLength": 1, "maxLength": 2}, ['"a"', '"éé"'], ['""', '"abc"', "'a'"]),
    ({"type": "string", "pattern": "^[a-c]+$"}, ['"abc"'], ['"abd"', '""']),
    ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"today"', '"2024-13-01"']),
    ({"enum": ["red", "green", 3]}, ['"red"', "3"], ['"blue"', "4"]),
    ({"const": {"a": [1]}}, ['{"a":[1]}', '{"a": [1]}'], ["{}", '{"a":[2]}']),
    ({"type": ["string", "null"]}, ['"a"', "null"], ["1"]),
    ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, ["1", "true"], ['"1"']),
    (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        ["[1]", "[1, 2]"],
        ["[]", "[1,2,3]"],
    ),
    ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, ["[1]"], ["[1,2]", '["a"]']),
    (
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["b"]},
        ['{"b":"x"}', '{"a":1,"b":"x"}', '{"a": 1, "b": "x"}'],
        ["{}", '{"a":1}', '{"b":"x","c":1}', '{"b":1}', '{"b":"x","b":"y"}'],
    ),
    (
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        ['{"q":1}'],
        ['{"q":"x"}'],
    ),
    (
        {"description": "a", "title": "b", "default": 1, "examples": [2], "deprecated": True, "type": "integer"},
        ["7"],
        ["x1("],
    ),
]


@pytest.mark.parametrize(
    ("schema", "good", "bad"), HELD, ids=lambda v: json.dumps(v)[:40] if isinstance(v, dict) else ""
)
def test_schemas_are_held(schema: dict[str, Any], good: list[str], bad: list[str]):
    constraint = compiled(of(schema))
    assert [v for v in good if not takes(constraint, f"f(x={v})")] == []
    assert [v for v in bad if takes(constraint, f"f(x={v})")] == []
    assert takes(constraint, "f(x=ref.step[0])")


def test_schemas_are_held_in_json_calls():
    constraint = compiled(of({"type": "integer", "minimum": 5}), BodyLanguage.JSON)
    assert takes(constraint, '{"name":"f","arguments":{"x":5}}')
    assert not takes(constraint, '{"name":"f","arguments":{"x":4}}')


DEFINED = {"$defs": {"Leaf": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}}
TREE = {
    "$defs": {"Tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}}}
}


def test_definitions_are_followed():
    constraint = compiled(of({"type": "array", "items": {"$ref": "#/$defs/Leaf"}}, **DEFINED))
    assert takes(constraint, 'f(x=[{"n":1},{"n": 2}])')
    assert not takes(constraint, 'f(x=[{"m":1}])')
    assert constraint.unenforced == ()


def test_recursive_definitions_are_followed():
    constraint = compiled(of({"$ref": "#/$defs/Tree"}, **TREE))
    assert takes(constraint, 'f(x={"kids":[{},{"kids":[{}]}]})')
    assert not takes(constraint, 'f(x={"kids":[1]})')
    assert constraint.unenforced == ()


def test_definitions_that_nobody_uses_do_no_harm():
    constraint = compiled(of({"type": "integer"}, **{"$defs": {"Bad": {"not": {}}}}))
    assert constraint.unenforced == ()


UNENFORCED: list[tuple[dict[str, Any], list[str], str]] = [
    (of({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}), ["x/uniqueItems"], "[1,1]"),
    (of({"type": "string", "pattern": r"a\bb"}), ["x/pattern"], '"zz"'),
    (of({"type": "string", "format": "isbn"}), ["x/format"], '"zz"'),
    (of({"type": "integer", "not": {"const": 3}}), ["x/not"], "3"),
    (of({"type": "array", "items": {"type": "integer"}, "contains": {"const": 1}}), ["x/contains"], "[2]"),
    (of({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}), ["x/oneOf"], '"zzzz"'),
    (of({"if": {"type": "string"}, "then": {"maxLength": 2}, "type": "string"}), ["x/if", "x/then"], '"abc"'),
    (
        of({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True, "items": {"const": 1}}}}),
        ["x/properties/a/uniqueItems"],
        '{"a":[1,1]}',
    ),
    (of({"anyOf": [{"type": "null"}, {"type": "integer", "not": {"const": 3}}]}), ["x/anyOf/1/not"], "3"),
    (of({"type": "array", "prefixItems": [{"type": "string", "format": "isbn"}]}), ["x/prefixItems/0/format"], '["z"]'),
]


@pytest.mark.parametrize(
    ("parameters", "paths", "value"), UNENFORCED, ids=lambda v: v[0] if isinstance(v, list) else ""
)
def test_what_cannot_be_compiled_is_named_and_left_to_dispatch(
    parameters: dict[str, Any], paths: list[str], value: str
):
    constraint = compiled(parameters)
    named = [path for path in constraint.unenforced if not path.endswith(": unique keys")]
    assert named == [f"{P}/properties/{path}" for path in paths]
    assert takes(constraint, f"f(x={value})")
    assert not takes(constraint, "f()")


def test_the_rest_of_a_schema_is_still_held():
    constraint = compiled(of({"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 2}))
    assert takes(constraint, "f(x=[1,1])")
    assert not takes(constraint, "f(x=[1,2,3])")
    assert not takes(constraint, 'f(x=["a"])')


def test_definitions_are_relaxed_too():
    leaf = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    constraint = compiled(of({"$ref": "#/$defs/Leaf"}, **{"$defs": {"Leaf": leaf}}))
    assert constraint.unenforced == (f"{P}/$defs/Leaf/uniqueItems",)
    assert takes(constraint, "f(x=[1,1])")
    assert not takes(constraint, 'f(x=["a"])')


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("anyOf", [{"required": ["x"]}, {"required": ["y"]}]),
        ("dependentRequired", {"x": ["y"]}),
        ("minProperties", 1),
        ("patternProperties", {"^z": {"type": "integer"}}),
        ("not", {"required": ["y"]}),
    ],
)
def test_keywords_about_all_arguments_are_left_to_dispatch(keyword: str, value: object):
    parameters = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}, keyword: value}
    constraint = compiled(parameters)
    assert constraint.unenforced == (f"{P}/{keyword}",)
    assert takes(constraint, "f(y=1, x=2)")


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({}, ""),
        (True, ""),
        ({"type": "object"}, ""),
        ({"type": ["object", "null"]}, ""),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ""),
        ({"type": "array", "items": {"type": "object"}}, "/items"),
        ({"type": "array", "items": True}, "/items"),
    ],
)
def test_open_objects_are_named(schema: object, path: str):
    """No grammar can hold the keys of an open object to be unique; a key twice is a syntax error at dispatch."""
    assert compiled(of(schema)).unenforced == (f"{P}/properties/x{path}: unique keys",)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"enum": [{}]},
        {"type": "object", "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "integer"}}},
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        {"allOf": [{"type": "integer"}, {"minimum": 3}]},
    ],
)
def test_closed_schemas_are_held_whole(schema: dict[str, Any]):
    assert compiled(of(schema)).unenforced == ()


def test_joined_schemas_are_not_closed():
    """An object that two schemas describe together must not be held to the properties of one of them."""
    parts = [
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]},
    ]
    constraint = compiled(of({"allOf": parts}))
    assert takes(constraint, 'f(x={"a":1,"b":2})')
    assert not takes(constraint, 'f(x={"a":1})')


def test_arguments_come_in_any_order_each_once():
    properties = {name: {"type": "integer"} for name in "abc"}
    constraint = compiled({"type": "object", "properties": properties, "required": ["a", "c"]})
    for good in ("a=1, c=2", "c=1,a=2", "b=1, c=2, a=3", "a=1, b=2, c=3"):
        assert takes(constraint, f"f({good})"), good
    for bad in ("", "a=1", "a=1, b=2", "a=1, c=2, a=3", "a=1, c=2,", "a=1, c=2, d=3"):
        assert not takes(constraint, f"f({bad})"), bad


def test_a_required_parameter_needs_no_schema():
    constraint = compiled({"type": "object", "required": ["x"]})
    assert takes(constraint, "f(x=1)")
    assert takes(constraint, 'f(y=null, x={"a":1}, z=2)')
    assert not takes(constraint, "f(y=1)")


def test_a_parameter_that_nothing_fits_is_not_written():
    constraint = compiled({"type": "object", "properties": {"x": False, "y": {"type": "integer"}}})
    assert takes(constraint, "f(y=1)")
    assert not takes(constraint, "f(x=1)")


@pytest.mark.parametrize("language", BodyLanguage)
def test_tools_without_declared_parameters_take_any(language: BodyLanguage):
    constraint = compiled({"type": "object"}, language)
    good = ["f()", "f(a=1)", 'f(a=1, b="x", c=r)'] if language is BodyLanguage.PYTHON else []
    good += [] if good else ['{"name":"f","arguments":{}}', '{"name":"f","arguments":{"a b":1,"c":[]}}']
    assert [text for text in good if not takes(constraint, text)] == []
    assert constraint.unenforced == (f"{P}/additionalProperties: unique keys",)


def test_further_parameters_are_held_to_their_schema():
    constraint = compiled({"type": "object", "additionalProperties": {"type": "integer"}})
    assert takes(constraint, "f(a=1)")
    assert not takes(constraint, 'f(a="x")')


def test_more_parameters_than_bits():
    properties = {f"p{number}": {"type": "integer"} for number in range(65)}
    constraint = compiled({"type": "object", "properties": properties, "required": ["p0"]})
    assert constraint.unenforced == (f"{P}: more than 64 of them; their values and number",)
    assert takes(constraint, 'f(p64=1, p3="x")')
    del properties["p64"]
    full = compiled({"type": "object", "properties": properties, "required": ["p0"]})
    assert full.unenforced == ()
    assert takes(full, "f(p63=1, p0=2)")
    assert not takes(full, "f(p63=1)")


@pytest.mark.parametrize("name", ["get-weather", "a b", "a..b", "1a", "é", "a" * 65])
def test_python_calls_need_names(name: str):
    tool = ToolSpec(name=name, parameters=of({"type": "integer"}))
    with pytest.raises(ValueError, match="NAME"):
        Constraint(CODEC, TOKENIZER, (tool,))
    with pytest.raises(ValueError, match="NAME"):
        compiled({"type": "object", "properties": {name: {}}})
    constraint = Constraint(CODEC, TOKENIZER, (tool,), BodyLanguage.JSON)
    assert takes(constraint, f'{{"name":"{name}","arguments":{{"x":1}}}}')


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "$CALL", "é/漢"])
def test_json_calls_take_any_name(name: str):
    tool = ToolSpec(name=name, parameters={"type": "object", "properties": {name: {"type": "integer"}}})
    constraint = Constraint(CODEC, TOKENIZER, (tool,), BodyLanguage.JSON)
    quoted = json.dumps(name, ensure_ascii=False)
    assert takes(constraint, f'{{"name":{quoted},"arguments":{{{quoted}:1}}}}')
    assert takes(constraint, f'{{"name":{quoted},"arguments":{{}},"refs":{{{quoted}:"a.b"}}}}')


def test_no_tools_leave_the_built_in():
    constraint = Constraint(CODEC, TOKENIZER)
    assert takes(constraint, 'cml.cancel(id="a")')
    assert not takes(constraint, "f()")


def test_the_search_for_what_does_not_compile_is_bounded(monkeypatch: pytest.MonkeyPatch):
    calls = 0

    def refuses(schema: object) -> str:
        nonlocal calls
        calls += 1
        return "no" if schema else ""

    monkeypatch.setattr(schemas, "MAX_TRIES", 7)
    nested: dict[str, Any] = {"type": "integer"}
    for _ in range(5):
        nested = {"type": "object", "properties": {"a": nested, "b": nested}}
    found = ParameterSchemas(of(nested), refuses)
    assert calls == 7
    assert found.schemas["x"] in ({}, {"type": "object"})
    assert found.unenforced


def test_grammars_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guidance, "complaint", lambda _: "")
    with pytest.raises(GrammarError, match="does not compile"):
        compiled(of({"type": "string", "pattern": r"a\bb"}))
