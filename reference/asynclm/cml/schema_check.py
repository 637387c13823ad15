"""Checks values against a peer's JSON schema, at a bounded cost.

A schema comes from a peer, a value from a model: between them they can ask for more work than there is time for, by
patterns that backtrack, references that double at every level, or comparisons of all with all. Whoever checks does so
beside other sessions, so a check that costs too much is given up [CALL-094]. Work is counted, never timed: the same
check ends the same way everywhere.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing.exceptions import Unresolvable

from asynclm.cml.patterns import MOST_INSTRUCTIONS, Pattern
from asynclm.cml.schema_references import DATA, NAMED, check_references, nodes, registry_of

MOST_WORK = 50_000
"""Units of work that one check may take, of some microseconds each: some tenths of a second at most."""

MOST_ERRORS = 100
"""Errors that are looked at to find the first."""

MOST_MIXED = 1_000
"""Entries of a list whose uniqueness is checked by comparing all with all."""

_VALUE_BYTES = 64
"""A keyword may write the value that it looks at into an error, so it costs a unit for as many of its characters."""

_SCHEMA_BYTES = 256
"""A keyword may go through what it lists, and write it into an error: a unit for as many of its characters."""

_SEARCH_STEPS = 1_000
"""Instructions times bytes of a pattern's search that make a unit."""

_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
"""Keywords that look at what all others looked at."""


class TooCostlyError(Exception):
    """A check would take too long."""


class _Budget:
    """What is left for one check.

    Args:
        asked: sizes of the parts of the schema, by identity.
        value: what is checked.
    """

    def __init__(self, asked: Mapping[int, int], value: object) -> None:
        self._left = MOST_WORK
        self._asked = asked
        self._sizes: dict[int, int] = {}
        self._patterns: dict[str, Pattern] = {}
        _measure(value, self._sizes)

    def pay(self, units: int) -> None:
        """Takes from what is left."""
        self._left -= units
        if self._left < 0:
            raise TooCostlyError

    def keyword(self, asked: object, value: object) -> None:
        """Pays for one keyword, with what it asks for, on one value."""
        size = len(value) if isinstance(value, str) else self._sizes.get(id(value), 0)
        self.pay(1 + size // _VALUE_BYTES + self._asked.get(id(asked), 0) // _SCHEMA_BYTES)

    def search(self, text: str, value: str) -> bool:
        """Whether a pattern stands in a value."""
        pattern = self._patterns.get(text)
        if pattern is None:
            pattern = self._patterns[text] = Pattern(text)
            self.pay(10 + pattern.size // 10)
        self.pay(pattern.size * len(value) // _SEARCH_STEPS)
        return pattern.found_in(value)


def _measure(value: object, sizes: dict[int, int]) -> int:
    """Characters of a value, about; notes those of its containers by identity."""
    if isinstance(value, Mapping):
        size = sum(len(key) + 8 + _measure(inner, sizes) for key, inner in value.items())
    elif isinstance(value, list):
        size = sum(_measure(item, sizes) for item in value)
    else:
        return (len(value) if isinstance(value, str) else 0) + 8
    sizes[id(value)] = size
    return size


_budget: ContextVar[_Budget] = ContextVar("budget")

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def _counted(keyword: Keyword) -> Keyword:
    def look(validator: Any, asked: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
        _budget.get().keyword(asked, instance)
        return keyword(validator, asked, instance, schema)

    return look


def _all_with_all(keyword: Keyword) -> Keyword:
    """The same keyword, paid for as one that looks for each entry of a value in a list of them."""

    def look(validator: Any, asked: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
        if isinstance(instance, dict | list):
            _budget.get().pay(len(instance) ** 2 // _SEARCH_STEPS)
        return keyword(validator, asked, instance, schema)

    return look


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _budget.get().search(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for pattern, subschema in patterns.items():
            for key, value in instance.items():
                if _budget.get().search(pattern, key):
                    yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, value in instance.items():
        if key in known or any(_budget.get().search(pattern, key) for pattern in patterns):
            continue
        if isinstance(allowed, dict):
            yield from validator.descend(value, allowed, path=key)
        elif not allowed:
            yield ValidationError(f"Additional properties are not allowed ({key!r} was unexpected)")


def _unique_items(validator: Any, unique: bool, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if unique and isinstance(instance, list):
        spelled = [json.dumps(_canonical(item), sort_keys=True) for item in instance]
        if len(set(spelled)) < len(spelled):
            yield ValidationError("it has non-unique elements")


def _canonical(value: object) -> object:
    """Numbers that are equal in JSON become alike."""
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


_OWN: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}


class SchemaCheck:
    """A JSON schema of a peer, ready to check values against.

    Raises:
        ValueError: it is no valid schema, it refers to places outside itself, or it cannot be checked at a bounded
            cost; the message opens with the place.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        draft: Any = validator_for(schema, default=jsonschema.Draft202012Validator)
        _check_lists(schema)
        try:
            # Patterns are looked at below, by what will search them.
            draft.check_schema(dict(schema), format_checker=jsonschema.FormatChecker(formats=()))
        except SchemaError as error:
            path = "/".join(str(p) for p in error.absolute_path)
            raise ValueError(f"parameters/{path}: {error.message[:200]}") from None
        # A part that names its draft would be checked by that draft's own keywords, which count nothing.
        self._schema = _prepared(schema)
        check_references(self._schema, "parameters")
        _check_patterns(self._schema)
        keywords: dict[str, Keyword] = {name: _OWN.get(name, known) for name, known in draft.VALIDATORS.items()}
        keywords |= {name: _all_with_all(keywords[name]) for name in _UNEVALUATED if name in keywords}
        make: Any = extend
        self._sizes: dict[int, int] = {}
        _measure(self._schema, self._sizes)
        counted = make(draft, {name: _counted(keyword) for name, keyword in keywords.items()})
        self._validator = counted(self._schema, registry=registry_of(self._schema))

    def violation(self, value: object) -> str | None:
        """What is wrong with a value, as a sentence that names the place; None if nothing is."""
        token = _budget.set(_Budget(self._sizes, value))
        try:
            errors = list(itertools.islice(self._validator.iter_errors(value), MOST_ERRORS))
        except (Unresolvable, RecursionError):
            return "arguments: the schema has a reference that leads nowhere or to itself"
        except TooCostlyError:
            return "arguments: too much to check against the schema; send less, or something simpler"
        finally:
            _budget.reset(token)
        if not errors:
            return None
        first = min(errors, key=lambda error: [str(p) for p in error.absolute_path])
        where = ".".join(str(p) for p in first.absolute_path) or "arguments"
        return f"{where}: {first.message[:300]}"


def _prepared(node: Any, *, named: bool = False) -> Any:
    """A schema without the names of drafts, and with the keywords that look at others' work after these.

    What the others look at is counted, so that one which costs too much is found before those go over it again.
    """
    if isinstance(node, list):
        return [_prepared(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if named:
        return {key: _prepared(value) for key, value in node.items()}
    kept = {
        key: value if key in DATA else _prepared(value, named=key in NAMED)
        for key, value in node.items()
        if key != "$schema"
    }
    return {**{key: value for key, value in kept.items() if key not in _UNEVALUATED}, **kept}


def _check_lists(schema: Mapping[str, Any]) -> None:
    """Refuses long lists of unlike things where a schema's own schema wants entries to be unique."""
    for path, node in nodes(schema, "parameters"):
        for key, value in node.items():
            if isinstance(value, list) and len(value) > MOST_MIXED and len({type(entry) for entry in value}) > 1:
                raise ValueError(f"{path}/{key}: more than {MOST_MIXED} entries of several types")


def _check_patterns(schema: Mapping[str, Any]) -> None:
    """Refuses patterns that cannot be searched, and a keyword that searches them by means that know no end."""
    left = MOST_INSTRUCTIONS
    names: set[str] = set()
    for path, node in nodes(schema, "parameters"):
        names.update(node)
        named = node.get("patternProperties")
        patterns = [(f"{path}/patternProperties", key) for key in named] if isinstance(named, Mapping) else []
        if isinstance(node.get("pattern"), str):
            patterns.append((f"{path}/pattern", node["pattern"]))
        for place, pattern in patterns:
            try:
                left -= Pattern(pattern).size
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            if left < 0:
                raise ValueError(f"{place}: the patterns of this schema are too large together")
    if {"patternProperties", "unevaluatedProperties"} <= names:
        raise ValueError(
            "parameters: unevaluatedProperties with patternProperties cannot be checked; use additionalProperties"
        )
