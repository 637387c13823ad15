"""What a tool declares of itself: the value type that sessions, tools and the wire share."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing.exceptions import Unresolvable

from asynclm.cml.schema_references import REGISTRY, check_references

EMPTY_SCHEMA: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
"""The schema of a tool without parameters."""


class SideEffects(enum.StrEnum):
    """What running a tool may change; travels with cancel outcomes [CALL-076]."""

    NONE = "none"
    LOCAL = "local"
    EXTERNAL = "external"


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """A tool as the model and the runtime see it.

    Attributes:
        name: the function's name; under `python_call` dotted NAMEs [CML-014].
        description: one or two sentences for the model.
        parameters: JSON schema (draft 2020-12) of the arguments, an object schema.
        parameter_order: parameter names that positional arguments bind to; empty: positional arguments are refused.
        expected_duration_ms: what the tool usually takes, in milliseconds, or None.
        timeout_ms: time from dispatch after which the call resolves `timeout`, or None for the server's maximum.
        cacheable: equal arguments give equal results, which may be reused.
        idempotent: running twice is as good as running once.
        cancellable: a cancel takes effect at once.
        side_effects: what running it may change.

    Raises:
        ValueError: a field is out of range, or `parameters` is not a valid JSON schema of an object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(EMPTY_SCHEMA))
    parameter_order: tuple[str, ...] = ()
    expected_duration_ms: int | None = None
    timeout_ms: int | None = None
    cacheable: bool = False
    idempotent: bool = False
    cancellable: bool = True
    side_effects: SideEffects = SideEffects.EXTERNAL

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("tool name: empty; give the function's name")
        if self.name == "cml" or self.name.startswith("cml."):
            raise ValueError(f"tool name {self.name[:80]!r}: the prefix 'cml.' is reserved")
        for label, value in (
            ("expected_duration_ms", self.expected_duration_ms),
            ("timeout_ms", self.timeout_ms),
        ):
            if value is not None and value <= 0:
                raise ValueError(f"tool {self.name[:80]!r}: {label} is {value}; it must be a positive number of ms")
        if self.parameters.get("type", "object") != "object":
            raise ValueError(f"tool {self.name[:80]!r}: parameters must be a JSON schema of type 'object'")
        try:
            self._validator.check_schema(dict(self.parameters))
        except SchemaError as error:
            path = "/".join(str(p) for p in error.absolute_path)
            raise ValueError(f"tool {self.name[:80]!r}: parameters/{path}: {error.message[:200]}") from None
        try:
            check_references(self.parameters)
        except ValueError as error:
            raise ValueError(f"tool {self.name[:80]!r}: parameters: {error}") from None
        unknown = [p for p in self.parameter_order if p not in self.properties]
        if unknown:
            raise ValueError(f"tool {self.name[:80]!r}: parameter_order names {unknown[:5]}, not in parameters")

    @property
    def properties(self) -> Mapping[str, Any]:
        """The schema of each declared parameter."""
        found: Mapping[str, Any] = self.parameters.get("properties", {})
        return found

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the parameters that must be given."""
        return tuple(self.parameters.get("required", ()))

    @cached_property
    def _validator(self) -> Any:
        return validator_for(self.parameters, default=jsonschema.Draft202012Validator)(
            self.parameters, registry=REGISTRY
        )

    def violation(self, arguments: Mapping[str, Any]) -> str | None:
        """Checks arguments against the schema.

        Returns:
            None if they fit, else one sentence that names the argument and what is allowed.
        """
        try:
            errors = sorted(self._validator.iter_errors(arguments), key=lambda e: [str(p) for p in e.absolute_path])
        except (Unresolvable, RecursionError):
            return f"arguments: the schema of {self.name[:80]} has a reference that leads nowhere or to itself"
        if not errors:
            return None
        first = errors[0]
        where = ".".join(str(p) for p in first.absolute_path) or "arguments"
        return f"{where}: {first.message[:300]}"

    def to_json_schema_text(self) -> str:
        """The parameter schema as compact JSON text."""
        return json.dumps(self.parameters, ensure_ascii=False, separators=(",", ":"))
