"""What a tool declares of itself: the value type that sessions, tools and the wire share."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from asynclm.cml.copying import CopyFrom, copied_parameters
from asynclm.cml.schema_check import SchemaCheck

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
            self._check, self.copies  # noqa: B018 - made here, so that what is wrong with the schema is said at once
        except ValueError as error:
            raise ValueError(f"tool {self.name[:80]!r}: {error}") from None
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
    def copies(self) -> Mapping[str, CopyFrom]:
        """The parameters whose arguments are copied, and from where [CALL-100]."""
        return copied_parameters(self.parameters)

    @cached_property
    def _check(self) -> SchemaCheck:
        return SchemaCheck(self.parameters)

    def violation(self, arguments: Mapping[str, Any]) -> str | None:
        """Checks arguments against the schema.

        Returns:
            None if they fit, else one sentence that names the argument and what is allowed.
        """
        return self._check.violation(arguments)

    def to_json_schema_text(self) -> str:
        """The parameter schema as compact JSON text."""
        return json.dumps(self.parameters, ensure_ascii=False, separators=(",", ":"))
