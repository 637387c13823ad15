"""Typed functions as tools."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from typing_extensions import TypedDict

from asynclm.cml.toolspec import SideEffects, ToolSpec
from asynclm.tools import (
    InvalidArgumentsError,
    Tool,
    ToolContext,
    ToolDefinitionError,
    ToolKind,
    ToolSet,
    tool,
)
from asynclm.tools.docstring import parse_docstring


class Unit(enum.Enum):
    C = "C"
    F = "F"


class Place(pydantic.BaseModel):
    """Where."""

    name: str = Field(description="Its name.")
    height: float = 0.0


class Options(TypedDict, total=False):
    limit: int


@dataclasses.dataclass
class Span:
    start: datetime.date
    days: int


@tool(expected_duration_ms=120, timeout_ms=2000, cacheable=True)
def forecast(
    place: Place,
    unit: Unit = Unit.C,
    *,
    days: Annotated[int, Field(ge=1, le=14)] = 3,
    tags: set[str] | None = None,
    context: ToolContext,
) -> dict[str, Any]:
    """Gives a forecast
    for a place.

    It covers two weeks.

    Args:
        place: where to look.
        unit (Unit): of temperatures,
            as in the place.
        days: how many.

    Returns:
        A table.
    """
    return {"place": place, "unit": unit, "days": days, "tags": tags, "id": context.call_id}


def bind(item: Tool, arguments: Any) -> Any:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return item.bind(text, ToolContext(call_id="c"))()


def test_the_spec_of_a_function() -> None:
    spec = forecast.spec
    assert spec.name == forecast.name == "forecast"
    assert spec.description == "Gives a forecast for a place.\n\nIt covers two weeks."
    assert (spec.expected_duration_ms, spec.timeout_ms) == (120, 2000)
    assert (spec.cacheable, spec.idempotent, spec.cancellable) == (True, True, True)
    assert spec.side_effects is SideEffects.NONE
    assert spec.parameter_order == ("place", "unit")
    assert spec.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["place"],
        "properties": {
            "place": {"$ref": "#/$defs/Place", "description": "where to look."},
            "unit": {"$ref": "#/$defs/Unit", "default": "C", "description": "of temperatures, as in the place."},
            "days": {"type": "integer", "minimum": 1, "maximum": 14, "default": 3, "description": "how many."},
            "tags": {
                "anyOf": [{"type": "array", "items": {"type": "string"}, "uniqueItems": True}, {"type": "null"}],
                "default": None,
            },
        },
        "$defs": {
            "Place": {
                "type": "object",
                "description": "Where.",
                "properties": {
                    "name": {"type": "string", "description": "Its name."},
                    "height": {"type": "number", "default": 0.0},
                },
                "required": ["name"],
            },
            "Unit": {"type": "string", "enum": ["C", "F"]},
        },
    }


def test_arguments_become_the_annotated_types() -> None:
    result = bind(forecast, {"place": {"name": "Bern"}, "unit": "F", "tags": ["a", "a"]})
    assert result == {"place": Place(name="Bern"), "unit": Unit.F, "days": 3, "tags": {"a"}, "id": "c"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "place: Field required"),
        ({"place": {"name": "x"}, "days": 99}, r"days: Input should be less than or equal to 14 \(given 99\)"),
        ({"place": {}}, "place.name: Field required"),
        ({"place": {"name": "x"}, "unit": "K"}, r"unit: Input should be 'C' or 'F' \(given \"K\"\)"),
        ({"place": {"name": "x"}, "nonsense": 1}, "nonsense: Extra inputs are not permitted"),
        ({"place": {"name": "x"}, "context": {}}, "context: Extra inputs are not permitted"),
        ({"place": {"name": "x" * 999}, "days": "y" * 999}, "days: .*…"),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, "; and 2 more$"),
        ("[1]", "arguments: Input should be an object"),
        ("{", "arguments: not JSON: EOF"),
        ('{"place": {"name": "\\ud800"}}', "arguments: not JSON: .*surrogate|arguments: not JSON: .*hex escape"),
        ('{"place": {"name": "x", "height": NaN}}', "arguments: not JSON"),
        ('{"place": {"name": "x"}, "x": Infinity}', "arguments: not JSON"),
    ],
)
def test_arguments_that_do_not_fit(arguments: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=message):
        bind(forecast, arguments)


def test_many_types() -> None:
    @tool
    def f(
        when: datetime.datetime,
        amount: decimal.Decimal,
        kind: Literal["a", "b"],
        span: Span,
        options: Options,
        rows: list[tuple[int, str]],
        where: Path = Path("/tmp"),
        renamed: Annotated[int, Field(alias="from")] = 0,
    ) -> list[Any]:
        return [when, amount, kind, span, options, rows, where, renamed]

    given_ = {
        "when": "2026-01-02T03:04:05Z",
        "amount": "1.10",
        "kind": "b",
        "span": {"start": "2026-01-02", "days": 2},
        "options": {"limit": 5},
        "rows": [[1, "x"]],
        "from": 7,
    }
    assert f.spec.violation(given_) is None
    assert f.spec.parameter_order[-1] == "from"
    assert bind(f, given_) == [
        datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        decimal.Decimal("1.10"),
        "b",
        Span(datetime.date(2026, 1, 2), 2),
        {"limit": 5},
        [(1, "x")],
        Path("/tmp"),
        7,
    ]


def test_names_that_pydantic_keeps_for_itself() -> None:
    @tool
    def f(schema: str, model_config: int, _x: int, copy: bool, json: str = "j") -> list[Any]:
        return [schema, model_config, _x, copy, json]

    assert bind(f, {"schema": "s", "model_config": 1, "_x": 2, "copy": True}) == ["s", 1, 2, True, "j"]
    assert set(f.spec.properties) == {"schema", "model_config", "_x", "copy", "json"}


def test_positional_only_and_keyword_only_parameters() -> None:
    @tool
    def f(a: int, /, b: int, context: ToolContext, *, c: int) -> list[Any]:
        return [a, b, c, context.call_id]

    assert f.spec.parameter_order == ("a", "b")
    assert bind(f, {"a": 1, "b": 2, "c": 3}) == [1, 2, 3, "c"]


def test_a_mutable_default_is_not_shared() -> None:
    @tool
    def f(items: list[int] = []) -> list[int]:  # noqa: B006
        items.append(1)
        return items

    assert bind(f, {}) == bind(f, {}) == [1]


def test_an_optional_context() -> None:
    @tool
    def f(context: ToolContext | None = None) -> str | None:
        return context.call_id if context else None

    assert (bind(f, {}), f()) == ("c", None)
    assert f.spec.properties == {}
    assert f.spec.parameters["additionalProperties"] is False


def test_types_local_to_a_function_are_found() -> None:
    class Local(pydantic.BaseModel):
        x: int

    @tool
    def f(value: Local) -> int:
        return value.x

    assert bind(f, {"value": {"x": 4}}) == 4


def bad_no_annotation(x) -> None: ...  # type: ignore[no-untyped-def]
def bad_star(*x: int) -> None: ...
def bad_stars(**x: int) -> None: ...
def bad_type(x: Iterator[object] | type[Any] | threading.Lock) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def bad_schema(x: ToolSet) -> None: ...
def bad_contexts(a: ToolContext, b: ToolContext) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (bad_no_annotation, "tool bad_no_annotation: parameter 'x' has no annotation"),
        (bad_star, r"parameter \*x: every parameter needs a name"),
        (bad_stars, r"parameter \*x: every parameter needs a name"),
        (bad_type, "name 'threading' is not defined; define or import it"),
        (bad_schema, "a parameter's type has no JSON schema"),
        (bad_contexts, "two parameters take the ToolContext"),
        (3, "@tool takes a function, not int"),
    ],
)
def test_functions_that_cannot_be_tools(function: Any, message: str) -> None:
    with pytest.raises(ToolDefinitionError, match=message):
        tool(function)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cml.cancel"}, "the prefix 'cml.' is reserved"),
        ({"expected_duration_ms": 0}, "expected_duration_ms is 0"),
        ({"timeout_ms": -1}, "timeout_ms is -1"),
        ({"side_effects": "some"}, "'some' is not a valid SideEffects"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):

        @tool(**options)
        def f() -> None: ...


def test_options_are_taken() -> None:
    @tool(name="a.b", description="d", idempotent=True, cancellable=False, side_effects="local")
    def f() -> None:
        """Not this."""

    assert (f.spec.name, f.spec.description, f.spec.idempotent, f.spec.cancellable) == ("a.b", "d", True, False)
    assert f.spec.side_effects is SideEffects.LOCAL
    assert f.with_spec(expected_duration_ms=9).spec.expected_duration_ms == 9


def test_the_default_promises_nothing() -> None:
    @tool
    def f() -> None: ...

    assert (f.spec.cacheable, f.spec.idempotent, f.spec.side_effects) == (False, False, SideEffects.EXTERNAL)


def test_kinds() -> None:
    def sync() -> None: ...
    async def coroutine() -> None: ...
    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncIterator[int]:
        yield 1

    class Callable:
        async def __call__(self, x: int) -> int:
            return x

    kinds = [tool(f).kind for f in (sync, coroutine, generator, async_generator, Callable())]
    assert kinds == [
        ToolKind.SYNC,
        ToolKind.ASYNC,
        ToolKind.SYNC_GENERATOR,
        ToolKind.ASYNC_GENERATOR,
        ToolKind.ASYNC,
    ]


def test_a_bound_method_and_a_decorated_function_are_tools() -> None:
    class Account:
        balance = 5

        def pay(self, amount: int) -> int:
            self.balance -= amount
            return self.balance

    @tool
    @functools.lru_cache
    def cached(x: int) -> int:
        """Wrapped."""
        return x

    assert bind(tool(Account().pay), {"amount": 2}) == 3
    assert (bind(cached, {"x": 1}), cached.spec.description) == (1, "Wrapped.")


def test_a_tool_stays_a_function() -> None:
    @tool
    def add(a: int, b: int = 1) -> int:
        """Adds."""
        return a + b

    assert (add(2), add.__name__, add.__doc__, repr(add)) == (3, "add", "Adds.", "<Tool add (sync)>")


def test_a_tool_from_a_ready_spec() -> None:
    spec = ToolSpec(name="f", parameters={"type": "object", "properties": {"x": {"type": "integer"}}})
    made = Tool.from_spec(spec, lambda arguments, context: [arguments, context.call_id])
    assert bind(made, {"x": 1}) == [{"x": 1}, "c"]
    for bad, message in [("[]", "an object is required"), ("{", "not JSON"), ('{"x": "y"}', "x: 'y' is not of type")]:
        with pytest.raises(InvalidArgumentsError, match=message):
            bind(made, bad)


def test_a_set_has_unique_names() -> None:
    def a() -> None: ...
    def b() -> None: ...

    tools = ToolSet([a, tool(b)])
    assert (tools.names, len(tools), "a" in tools, tools.get("c")) == (("a", "b"), 2, True, None)
    assert [spec.name for spec in (tools | ToolSet([forecast])).specs] == ["a", "b", "forecast"]
    with pytest.raises(ValueError, match="'a' is declared twice"):
        tools.add(a)


def test_docstrings_without_args() -> None:
    def one() -> None:
        """Only this."""

    def none() -> None: ...

    def odd() -> None:
        """Title.

        Note: inline text is no section.

        Args:
            a: one
               two

               three
            *rest (list[int], optional): all: of them

        Not indented: ends it.
        """

    assert (parse_docstring(one).description, dict(parse_docstring(one).parameters)) == ("Only this.", {})
    assert parse_docstring(none).description == ""
    parsed = parse_docstring(odd)
    assert parsed.description == "Title.\n\nNote: inline text is no section."
    assert parsed.parameters["a"] == "one two three"
    assert parsed.parameters["rest"] == "all: of them"


ARGUMENTS = st.dictionaries(
    st.sampled_from(["place", "unit", "days", "tags", "x"]),
    st.one_of(
        st.integers(-2, 20),
        st.sampled_from(["C", "F", "x", ""]),
        st.none(),
        st.booleans(),
        st.lists(st.sampled_from(["a", "b"]), unique=True, max_size=2),
        st.fixed_dictionaries({}, optional={"name": st.text(), "height": st.integers()}),
    ),
    max_size=4,
)


@given(ARGUMENTS)
@settings(max_examples=60)
def test_what_the_schema_allows_the_function_takes(arguments: dict[str, Any]) -> None:
    """The runtime validates by the schema and the executor by pydantic; the schema is never the wider one."""
    try:
        jsonschema.validate(arguments, dict(forecast.spec.parameters))
    except jsonschema.ValidationError:
        return
    bind(forecast, arguments)
