"""A typed Python function's parameters as a pydantic model: their JSON schema, and arguments bound to them."""

from __future__ import annotations

import inspect
import json
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, PydanticJsonSchemaWarning
from pydantic_core import from_json

from asynclm.tools.context import ToolContext
from asynclm.tools.errors import InvalidArgumentsError

_MAX_REPORTED = 3
"""Violations named in one error message."""


class ToolDefinitionError(TypeError):
    """A function cannot become a tool; the message names the function, the parameter and what is allowed."""


class _Schema(GenerateJsonSchema):
    """JSON schema without the titles that pydantic makes up: they repeat the names and cost prompt tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def generate(self, schema: Any, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        found = super().generate(schema, mode)
        found.pop("title", None)
        for name, definition in found.get("$defs", {}).items():
            if definition.get("title") == name.rpartition("__")[2]:
                del definition["title"]
        return found


@dataclass(frozen=True, slots=True)
class BoundArguments:
    """Arguments as the function takes them."""

    positional: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True)
class Signature:
    """The parameters of a tool's function.

    Attributes:
        model: one field for each parameter, under its name for the model as alias; closed.
        schema: JSON schema of the arguments, a closed object.
        order: names that positional arguments bind to.
        context_parameter: the parameter that takes the `ToolContext`, or None.
    """

    model: type[BaseModel]
    schema: Mapping[str, Any]
    order: tuple[str, ...]
    context_parameter: str | None
    _parameters: tuple[inspect.Parameter, ...]

    def bind(self, arguments_json: str, context: ToolContext) -> BoundArguments:
        """Validates arguments, coerces them to the annotated types, and fills in defaults.

        Raises:
            InvalidArgumentsError: they do not fit.
        """
        try:
            from_json(arguments_json, allow_inf_nan=False)  # the model alone would let NaN into nested models
            values = self.model.model_validate_json(arguments_json)
        except ValidationError as error:
            raise InvalidArgumentsError(_describe(error)) from None
        except ValueError as error:
            raise InvalidArgumentsError(f"arguments: not JSON: {str(error)[:300]}") from None
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for i, parameter in enumerate(self._parameters):
            is_context = parameter.name == self.context_parameter
            value = context if is_context else getattr(values, _field_name(i))
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                positional.append(value)
            else:
                keywords[parameter.name] = value
        return BoundArguments(tuple(positional), keywords)


def inspect_signature(
    function: Callable[..., Any], descriptions: Mapping[str, str], local_names: Mapping[str, Any] | None = None
) -> Signature:
    """Reads a function's signature.

    Args:
        function: the tool's function.
        descriptions: text for each parameter (from its docstring); one in `Field(description=…)` comes first.
        local_names: names that annotations written as text may use beyond the function's module.

    Raises:
        ToolDefinitionError: a parameter has no annotation or one without a JSON schema, or there are `*` parameters.
    """
    name = getattr(function, "__name__", repr(function))
    hints = _type_hints(function, name, local_names)
    parameters = tuple(inspect.signature(function).parameters.values())
    context_parameter = None
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for i, parameter in enumerate(parameters):
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise ToolDefinitionError(f"tool {name}: parameter *{parameter.name}: every parameter needs a name")
        if parameter.name not in hints:
            raise ToolDefinitionError(f"tool {name}: parameter {parameter.name!r} has no annotation")
        annotation = hints[parameter.name]
        if _is_context(annotation):
            if context_parameter is not None:
                raise ToolDefinitionError(f"tool {name}: two parameters take the ToolContext; one is allowed")
            context_parameter = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[_field_name(i)] = (_with_alias(annotation, parameter.name), default)
        names[_field_name(i)] = parameter.name
    model, schema = _build(name, fields)
    order = tuple(
        str(model.model_fields[_field_name(i)].alias)
        for i, parameter in enumerate(parameters)
        if parameter.name != context_parameter and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    )
    for key, own_name in names.items():
        property_schema = schema["properties"][model.model_fields[key].alias]
        text = descriptions.get(own_name)
        if text and "description" not in property_schema:
            property_schema["description"] = text
    return Signature(model, schema, order, context_parameter, parameters)


def _type_hints(function: Callable[..., Any], name: str, local_names: Mapping[str, Any] | None) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return typing.get_type_hints(target, localns=dict(local_names or {}), include_extras=True)
    except NameError as error:
        raise ToolDefinitionError(f"tool {name}: annotation: {error}; define or import it at module level") from None


def _build(name: str, fields: dict[str, Any]) -> tuple[type[BaseModel], dict[str, Any]]:
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    try:
        model = create_model(name, __config__=config, **fields)
        with warnings.catch_warnings():
            # A default that JSON cannot hold is left out of the schema; the function still has it.
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            schema = model.model_json_schema(schema_generator=_Schema)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError) as error:
        first = str(error).splitlines()[0]
        raise ToolDefinitionError(f"tool {name}: a parameter's type has no JSON schema: {first[:300]}") from None
    schema.setdefault("properties", {})
    return model, schema


def _field_name(position: int) -> str:
    """Parameters may have names that pydantic keeps for itself (`schema`, `_x`); fields have names of their own."""
    return f"p{position}"


def _with_alias(annotation: Any, name: str) -> Any:
    """The name for the model, unless the annotation has a `Field(alias=…)` of its own, which comes later and wins."""
    if typing.get_origin(annotation) is typing.Annotated:
        return typing.Annotated[(annotation.__origin__, Field(alias=name), *annotation.__metadata__)]
    return typing.Annotated[annotation, Field(alias=name)]


def _is_context(annotation: object) -> bool:
    if annotation is ToolContext:
        return True
    options = typing.get_args(annotation)
    return ToolContext in options and all(option in (ToolContext, type(None)) for option in options)


def _describe(error: ValidationError) -> str:
    parts = []
    for violation in error.errors(include_url=False, include_context=False)[:_MAX_REPORTED]:
        where = ".".join(str(step) for step in violation["loc"]) or "arguments"
        given = violation.get("input")
        shown = "" if violation["type"] in ("missing", "json_invalid") else f" (given {_cut(given)})"
        parts.append(f"{where}: {violation['msg']}{shown}")
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def _cut(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
