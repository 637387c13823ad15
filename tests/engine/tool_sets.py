"""Random tools: their schemas use every keyword there is, those that llguidance compiles and those that it does not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from asynclm.cml.copying import CopyFrom
from asynclm.cml.toolspec import ToolSpec

Schema = dict[str, Any]

PATTERNS = ("^[a-z]+$", "^[A-Z]{2}-[0-9]{1,3}$", "x", r"^\d+(\.\d+)?$", "^(a|bc)*$", r"\bword\b")
FORMATS = ("date", "time", "date-time", "uuid", "email", "ipv4", "uri", "isbn", "hostname", "duration")
NAMES = ("a", "b", "name", "to", "kind", "x1", "list_of")
VALUES: tuple[Any, ...] = ("red", 'a "b"', "", 3, -1.5, True, None, [1], {"k": "v"})


class Maker:
    """Makes tool sets; the same seed makes the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def tools(self) -> tuple[ToolSpec, ...]:
        """One to six tools."""
        names = self.random.sample(["f", "get", "get_all", "mail.send", "mail.list", "g2", "look_up"], self.pick(1, 6))
        return tuple(ToolSpec(name=name, parameters=self.parameters()) for name in names)

    def parameters(self) -> Schema:
        definitions = {f"D{i}": self.schema(1) for i in range(self.pick(0, 2))}
        properties = {name: self.parameter(definitions) for name in self.some(NAMES, 5)}
        made: Schema = {"type": "object", "properties": properties, "required": self.some(list(properties), 3)}
        if self.chance(0.1):
            del made["properties"], made["required"]
        if definitions:
            made["$defs"] = definitions
        for keyword, value, chance in (
            ("additionalProperties", lambda: self.random.choice([False, True, {"type": "integer"}]), 0.4),
            ("minProperties", lambda: 1, 0.1),
            ("maxProperties", lambda: 3, 0.1),
            ("dependentRequired", lambda: {"a": ["b"]}, 0.1),
            ("propertyNames", lambda: {"maxLength": 20}, 0.1),
            ("patternProperties", lambda: {"^x": self.schema(2)}, 0.1),
            ("anyOf", lambda: [{"required": [name]} for name in self.some(NAMES, 2)] or [True], 0.1),
        ):
            if self.chance(chance):
                made[keyword] = value()
        return made

    def parameter(self, definitions: Schema) -> Any:
        if definitions and self.chance(0.2):
            return {"$ref": f"#/$defs/{self.random.choice(list(definitions))}"}
        if self.chance(0.12):
            return {"type": "string", "x-asynclm-copy": self.random.choice(list(CopyFrom)).value}
        return self.random.choice([True, {}]) if self.chance(0.05) else self.schema(0)

    def schema(self, depth: int) -> Schema:
        kinds: list[Callable[[int], Schema]] = [self.string, self.number, self.choice, self.simple]
        if depth < 3:
            kinds += [self.array, self.object, self.combined]
        made = self.random.choice(kinds)(depth)
        if self.chance(0.2):
            made |= {"title": "T", "description": "d", "default": None, "examples": [1], "deprecated": True}
        return made

    def string(self, _: int) -> Schema:
        return self.with_some(
            {"type": "string"},
            minLength=lambda: self.pick(0, 3),
            maxLength=lambda: self.pick(3, 12),
            pattern=lambda: self.random.choice(PATTERNS),
            format=lambda: self.random.choice(FORMATS),
        )

    def number(self, _: int) -> Schema:
        return self.with_some(
            {"type": self.random.choice(["integer", "number"])},
            minimum=lambda: self.pick(-10, 5),
            maximum=lambda: self.pick(6, 40),
            exclusiveMinimum=lambda: -3,
            exclusiveMaximum=lambda: 100,
            multipleOf=lambda: self.random.choice([2, 5, 0.5]),
        )

    def choice(self, _: int) -> Schema:
        if self.chance(0.3):
            return {"const": self.random.choice(VALUES)}
        return {"enum": self.random.sample(VALUES, self.pick(1, 4))}

    def simple(self, _: int) -> Schema:
        kinds = ["boolean", "null", "string", "integer", "number"]
        return {"type": self.random.choice([*kinds, self.random.sample(kinds, 2)])}

    def array(self, depth: int) -> Schema:
        inner = lambda: self.schema(depth + 1)  # noqa: E731
        return self.with_some(
            {"type": "array", "maxItems": self.pick(1, 4)},
            items=inner,
            prefixItems=lambda: [inner()],
            minItems=lambda: 1,
            uniqueItems=lambda: True,
            contains=lambda: {"type": "integer"},
            minContains=lambda: 1,
            maxContains=lambda: 2,
            unevaluatedItems=lambda: False,
        )

    def object(self, depth: int) -> Schema:
        properties = {name: self.schema(depth + 1) for name in self.some(NAMES, 3)}
        return self.with_some(
            {"type": "object", "properties": properties},
            required=lambda: self.some(list(properties), 2),
            additionalProperties=lambda: self.random.choice([False, True, {"type": "null"}]),
            patternProperties=lambda: {"^y": {"type": "integer"}},
            propertyNames=lambda: {"pattern": "^[a-z_0-9]*$"},
            minProperties=lambda: 1,
            maxProperties=lambda: 2,
            dependentSchemas=lambda: {"a": {"required": ["b"]}},
        )

    def combined(self, depth: int) -> Schema:
        inner = lambda: self.schema(depth + 1)  # noqa: E731
        makers: tuple[Callable[[], Schema], ...] = (
            lambda: {"anyOf": [inner(), inner()]},
            lambda: {"oneOf": [inner(), inner()]},
            lambda: {"allOf": [{"type": "integer"}, {"minimum": 3}]},
            lambda: {"allOf": [inner(), {"not": {"const": "red"}}]},
            lambda: {"type": "integer", "not": {"const": 3}},
            lambda: {"if": {"type": "string"}, "then": {"maxLength": 2}, "else": inner()},
        )
        return self.random.choice(makers)()

    def with_some(self, schema: Schema, **more: Callable[[], Any]) -> Schema:
        """The schema with each further keyword now and then."""
        return {**schema, **{keyword: value() for keyword, value in more.items() if self.chance(0.2)}}

    def some(self, of: Any, most: int) -> list[Any]:
        return self.random.sample(of, min(self.pick(0, most), len(of)))

    def pick(self, least: int, most: int) -> int:
        return self.random.randint(least, most)

    def chance(self, share: float) -> bool:
        return self.random.random() < share
