"""`@tool`: a typed Python function becomes a tool that the model can call."""

from __future__ import annotations

import enum
import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, overload

from asynclm.cml.toolspec import SideEffects, ToolSpec
from asynclm.tools.context import ToolContext
from asynclm.tools.docstring import parse_docstring
from asynclm.tools.errors import InvalidArgumentsError
from asynclm.tools.signature import Signature, ToolDefinitionError, inspect_signature


class ToolKind(enum.Enum):
    """How a tool's function runs."""

    SYNC = "sync"
    """In a thread of its own."""
    SYNC_GENERATOR = "sync_generator"
    """In a thread, yielding updates."""
    ASYNC = "async"
    """As a task on the executor's event loop."""
    ASYNC_GENERATOR = "async_generator"
    """As a task, yielding updates."""

    @property
    def threaded(self) -> bool:
        """Whether it runs in a thread."""
        return self in (ToolKind.SYNC, ToolKind.SYNC_GENERATOR)


Bound = Callable[[], Any]
"""A call ready to run: its function with validated arguments; gives a value, a coroutine, or a generator."""


class Tool:
    """A function and what it declares of itself. Make one with `@tool`, or `Tool.from_spec` for a ready schema.

    Calling a tool calls its function, so that it stays usable as such.

    Attributes:
        spec: what the model and the runtime see.
        function: the function itself.
        kind: how it runs.
    """

    def __init__(
        self,
        spec: ToolSpec,
        function: Callable[..., Any],
        bind: Callable[[str, ToolContext], Bound],
        kind: ToolKind,
    ) -> None:
        self.spec = spec
        self.function = function
        self.kind = kind
        self._bind = bind
        functools.update_wrapper(self, function)

    @classmethod
    def from_spec(cls, spec: ToolSpec, function: Callable[[dict[str, Any], ToolContext], Any]) -> Tool:
        """Makes a tool from a ready spec, for tools whose schema comes from elsewhere (a server of tools, say).

        Args:
            spec: the tool's declaration; its JSON schema alone validates the arguments.
            function: takes the arguments as plain JSON values, and the context; of any kind that `@tool` takes.
        """

        def bind(arguments_json: str, context: ToolContext) -> Bound:
            arguments = _plain_arguments(spec, arguments_json)
            return lambda: function(arguments, context)

        return cls(spec, function, bind, _kind(function))

    @property
    def name(self) -> str:
        """The tool's name, for the model."""
        return self.spec.name

    def bind(self, arguments_json: str, context: ToolContext) -> Bound:
        """Validates the arguments of one call.

        Args:
            arguments_json: the final arguments, JSON text of an object.
            context: the call's context, given to the function if it asks for one.

        Raises:
            InvalidArgumentsError: the arguments do not fit the parameters.
        """
        return self._bind(arguments_json, context)

    def with_spec(self, **changes: Any) -> Tool:
        """The same tool with fields of its spec changed (`expected_duration_ms`, say)."""
        return Tool(replace(self.spec, **changes), self.function, self._bind, self.kind)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function, without validation."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name} ({self.kind.value})>"


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    expected_duration_ms: int | None = None,
    timeout_ms: int | None = None,
    cacheable: bool = False,
    idempotent: bool | None = None,
    cancellable: bool = True,
    side_effects: SideEffects | str | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    expected_duration_ms: int | None = None,
    timeout_ms: int | None = None,
    cacheable: bool = False,
    idempotent: bool | None = None,
    cancellable: bool = True,
    side_effects: SideEffects | str | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Makes a `Tool` of a typed function: `@tool`, or `@tool(expected_duration_ms=300, cacheable=True)`.

    The parameters' annotations give the JSON schema (any type that pydantic has a schema for; `Annotated[…, Field(…)]`
    for descriptions and bounds), the docstring gives the description and, from its `Args` section, each parameter's. A
    parameter annotated `ToolContext` receives the call's context. Sync functions run in a thread, async ones on the
    executor's loop, which they must not block; generators of either sort yield `Partial`, `Progress` and at the end
    `Result` (without one the result is null).

    Args:
        function: the function, where the decorator stands without parentheses.
        name: the tool's name for the model; the function's by default.
        description: for the model; the docstring's text by default.
        expected_duration_ms: what it usually takes; longer calls are started first, and shown first to the model.
        timeout_ms: time from dispatch after which the call resolves `timeout`.
        cacheable: equal arguments give equal results, whoever asks; results are reused between sessions.
        idempotent: running twice is as good as running once; by default what `cacheable` says.
        cancellable: a cancel takes effect at once.
        side_effects: `none`, `local` or `external`; by default `none` for cacheable tools, else `external`.

    Raises:
        ToolDefinitionError: the function has a parameter without annotation, or of a type without JSON schema.
        ValueError: an option is out of range.
    """
    local_names = _caller_names()

    def make(target: Callable[..., Any]) -> Tool:
        if not callable(target):
            raise ToolDefinitionError(f"@tool takes a function, not {type(target).__name__}")
        docstring = parse_docstring(target)
        signature = inspect_signature(target, docstring.parameters, local_names)
        effects = side_effects or (SideEffects.NONE if cacheable else SideEffects.EXTERNAL)
        spec = ToolSpec(
            name=name or str(getattr(target, "__name__", type(target).__name__)),
            description=docstring.description if description is None else description,
            parameters=signature.schema,
            parameter_order=signature.order,
            expected_duration_ms=expected_duration_ms,
            timeout_ms=timeout_ms,
            cacheable=cacheable,
            idempotent=cacheable if idempotent is None else idempotent,
            cancellable=cancellable,
            side_effects=SideEffects(effects),
        )
        return Tool(spec, target, _binder(target, signature), _kind(target))

    return make if function is None else make(function)


def _binder(function: Callable[..., Any], signature: Signature) -> Callable[[str, ToolContext], Bound]:
    def bind(arguments_json: str, context: ToolContext) -> Bound:
        bound = signature.bind(arguments_json, context)
        return lambda: function(*bound.positional, **bound.keywords)

    return bind


def _kind(function: Callable[..., Any]) -> ToolKind:
    target = function if inspect.isroutine(function) else type(function).__call__
    if inspect.isasyncgenfunction(target):
        return ToolKind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(target):
        return ToolKind.ASYNC
    return ToolKind.SYNC_GENERATOR if inspect.isgeneratorfunction(target) else ToolKind.SYNC


def _plain_arguments(spec: ToolSpec, arguments_json: str) -> dict[str, Any]:
    try:
        arguments = json.loads(arguments_json)
    except ValueError as error:
        raise InvalidArgumentsError(f"arguments: not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise InvalidArgumentsError(f"arguments: an object is required, not {type(arguments).__name__}")
    violation = spec.violation(arguments)
    if violation is not None:
        raise InvalidArgumentsError(violation)
    return arguments


def _caller_names() -> Mapping[str, Any]:
    """Names local to where `@tool` stands, for annotations that `from __future__ import annotations` made text."""
    frame = sys._getframe(2)
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)
