"""JSON schemas of parameters, made ready for constrained decoding: what the grammar cannot hold is taken out and named.

Nothing is lost by it: arguments are checked against the whole schema before a call is dispatched ([CALL-021]).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = dict[str, Any]
Complaint = Callable[[Mapping[str, Any]], str]
"""What a grammar compiler has against a schema; empty if it compiles."""

MAX_TRIES = 500
"""Schemas compiled at most to find what one tool's parameters have that does not; after that nothing more is kept."""

_ONE = ("items", "additionalProperties")
_LISTED = ("prefixItems", "allOf", "anyOf", "oneOf")
_NAMED = ("properties", "patternProperties")
_DEFINITIONS = ("$defs", "definitions")
_COMBINING = frozenset({"allOf", "anyOf", "oneOf", "$ref", "if", "not"})
_DECIDING = frozenset({"const", "enum", "allOf", "anyOf", "oneOf", "$ref"})


class ParameterSchemas:
    """The schemas of one tool's parameters.

    Attributes:
        schemas: for each declared or required parameter, a schema that compiles.
        required: names of the parameters that must be given.
        additional: the schema of further parameters of any name, or None if there are none to write.
        unenforced: paths of what was taken out, from `parameters`.
    """

    def __init__(self, parameters: Mapping[str, Any], complaint: Complaint) -> None:
        self._compiler = complaint
        self._tries = MAX_TRIES
        self._found: dict[str, None] = {}
        definitions = {name: dict(parameters[name]) for name in _DEFINITIONS if parameters.get(name)}
        self._definitions = self._relaxed_definitions(definitions) if _uses_definitions(parameters) else {}
        properties: dict[str, Any] = dict(parameters.get("properties", {}))
        self.required = tuple(dict.fromkeys(parameters.get("required", ())))
        for name in self.required:
            properties.setdefault(name, parameters.get("additionalProperties", True))
        self.schemas = {
            name: self._ready(schema, f"parameters/properties/{name}")
            for name, schema in properties.items()
            if schema is not False
        }
        self.additional = self._additional(parameters)
        self._found.update({f"parameters/{keyword}": None for keyword in parameters if keyword in _ASSERTIONS})

    @property
    def unenforced(self) -> tuple[str, ...]:
        """Paths of what the grammar does not hold, in document order."""
        return tuple(self._found)

    def _additional(self, parameters: Mapping[str, Any]) -> Schema | None:
        """Tools that declare no parameter at all take any; others are held to what they declare."""
        if "properties" in parameters or parameters.get("additionalProperties") is False:
            return None
        return self._ready(parameters.get("additionalProperties", True), "parameters/additionalProperties")

    def _ready(self, schema: Any, path: str) -> Schema:
        """A schema that compiles, with the definitions it needs."""
        plain: Schema = {} if schema is True else dict(schema)
        if not _intersects(plain) and not any(map(_intersects, self._all_definitions())):
            plain = _close(plain)
        context = self._definitions if _uses_definitions(plain) else {}
        if self._complaint({**context, **plain}):
            plain = self._relax(plain, path, context)
        for open_path in _open_objects(plain, path):
            self._found[f"{open_path}: unique keys"] = None
        return {**context, **plain}

    def _all_definitions(self) -> Iterator[Any]:
        for group in self._definitions.values():
            yield from group.values()

    def _relaxed_definitions(self, groups: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Definitions that compile each by itself, whatever the others say."""
        anything: dict[str, dict[str, Schema]] = {
            group: {name: {} for name in names} for group, names in groups.items()
        }
        closing = not any(_intersects(schema) for names in groups.values() for schema in names.values())
        relaxed: dict[str, dict[str, Any]] = {}
        for group, names in groups.items():
            relaxed[group] = {}
            for name, schema in names.items():
                path = f"parameters/{group}/{name}"
                closed = _close(schema) if closing else schema
                relaxed[group][name] = self._relax(closed, path, anything)
                for open_path in _open_objects(relaxed[group][name], path):
                    self._found[f"{open_path}: unique keys"] = None
        return relaxed

    def _complaint(self, schema: Mapping[str, Any]) -> str:
        if self._tries == 0:
            return "too much in these parameters does not compile"
        self._tries -= 1
        return self._compiler(schema)

    def _relax(self, schema: Any, path: str, context: Mapping[str, Any]) -> Any:
        """Takes out, innermost first, the keywords that do not compile."""
        if not isinstance(schema, dict) or not self._complaint({**context, **schema}):
            return schema
        if self._tries == 0:
            self._found[path] = None
            return {}
        kept: Schema = {}
        for keyword, value in schema.items():
            inner = self._relax_inside(keyword, value, f"{path}/{keyword}", context)
            if not self._complaint({**context, **kept, keyword: inner}):
                kept[keyword] = inner
                continue
            self._found[f"{path}/{keyword}"] = None
            if keyword == "oneOf" and not self._complaint({**context, **kept, "anyOf": inner}):
                kept["anyOf"] = inner
        return kept

    def _relax_inside(self, keyword: str, value: Any, path: str, context: Mapping[str, Any]) -> Any:
        if keyword in _ONE:
            return self._relax(value, path, context)
        if keyword in _LISTED:
            return [self._relax(schema, f"{path}/{i}", context) for i, schema in enumerate(value)]
        if keyword in _NAMED:
            return {name: self._relax(schema, f"{path}/{name}", context) for name, schema in value.items()}
        return value


_ASSERTIONS = frozenset(
    {
        *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "$ref", "$dynamicRef", "const", "enum"),
        *("patternProperties", "propertyNames", "minProperties", "maxProperties"),
        *("dependentRequired", "dependentSchemas", "dependencies"),
    }
)
"""Keywords about all arguments together, which the rules of a tool do not look at."""


def _inner(schema: Any) -> Iterator[tuple[str, Any]]:
    """The subschemas that describe parts of a value or the value itself, with their paths."""
    if not isinstance(schema, dict):
        return
    for keyword in _ONE:
        if keyword in schema:
            yield keyword, schema[keyword]
    for keyword in _LISTED:
        for index, inner in enumerate(schema.get(keyword, ())):
            yield f"{keyword}/{index}", inner
    for keyword in _NAMED:
        for name, inner in schema.get(keyword, {}).items():
            yield f"{keyword}/{name}", inner


def _uses_definitions(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    return "$ref" in schema or any(_uses_definitions(inner) for _, inner in _inner(schema))


def _intersects(schema: Any) -> bool:
    """Whether a schema joins others, so that closing one of them would exclude what another demands."""
    if not isinstance(schema, dict):
        return False
    joined = len(schema.get("allOf", ())) + ("$ref" in schema) + ("properties" in schema)
    return joined > 1 or any(_intersects(inner) for _, inner in _inner(schema))


def _close(schema: Any) -> Any:
    """Holds objects that declare properties to these: models would fill open ones with noise."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for keyword in _ONE:
        if keyword in closed:
            closed[keyword] = _close(closed[keyword])
    for keyword in _LISTED:
        if keyword in closed:
            closed[keyword] = [_close(inner) for inner in closed[keyword]]
    for keyword in _NAMED:
        if keyword in closed:
            closed[keyword] = {name: _close(inner) for name, inner in closed[keyword].items()}
    deciding = _COMBINING | {"additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties"}
    if closed.get("properties") and deciding.isdisjoint(closed):
        closed["additionalProperties"] = False
    return closed


def _open_objects(schema: Any, path: str) -> Iterator[str]:
    """Paths of objects whose keys the schema leaves open; no grammar can hold such keys to be unique."""
    if isinstance(schema, dict):
        kinds = schema.get("type", "object" if _DECIDING.isdisjoint(schema) else "")
        may_be_object = "object" in ([kinds] if isinstance(kinds, str) else kinds)
        if may_be_object and schema.get("additionalProperties") is not False:
            yield path
        for step, inner in _inner(schema):
            if not (step.startswith("allOf/") and _narrows_only(inner)):
                yield from _open_objects(inner, f"{path}/{step}")
    elif schema is True:
        yield path


def _narrows_only(schema: Any) -> bool:
    """Whether a part of `allOf` says nothing of what kind of value it is; then the other parts do."""
    return not isinstance(schema, dict) or (_DECIDING | {"type", "properties"}).isdisjoint(schema)
