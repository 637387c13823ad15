"""What a `Start` asks for, checked and made ready: model, prompt, settings, masks. Nothing is opened yet [WIRE-012]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from asynclm.cml.blocks import CmlError
from asynclm.cml.copying import CopyFrom
from asynclm.cml.text_form import parse
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import Engine, model_names
from asynclm.engine.constraints import Constraint, compile_constraint, effective_constraints
from asynclm.engine.guidance import GrammarUnavailableError
from asynclm.engine.script import Script, ScriptStore, parse_model_name
from asynclm.engine.scripted import beside
from asynclm.prompt.build import with_section
from asynclm.prompt.encode import encode_prompt
from asynclm.prompt.instructions import system_section, tool_section
from asynclm.prompt.template import CmlPart, Part, TextPart
from asynclm.server.options import ServerLimits, ServerOptions
from asynclm.session.config import Constraints, Limits, SessionConfig
from asynclm.tools.durations import UsualDurations
from asynclm.wire.errors import (
    BAD_CML,
    BAD_TOOL,
    PROMPT_TOO_LONG,
    UNSUPPORTED,
    FieldError,
    FieldViolation,
    StatusError,
    shorten,
)
from asynclm.wire.start import StartRequest
from asynclm.wire.values import Instructions


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a session needs, short of a place in the engine.

    Attributes:
        engine: what computes it.
        script: what forces its tokens, or None; `weights`: on the real weights.
        adapter: the adapter that computes it, or None for the model as it is.
        prompt_ids: the whole prompt.
        config: its settings.
        constraint: its masks.
        manual_clock: its time moves by `Advance` only.
    """

    engine: Engine
    script: Script | None
    weights: bool
    adapter: str | None
    prompt_ids: tuple[int, ...]
    config: SessionConfig
    constraint: Constraint
    manual_clock: bool


class Preparation:
    """Makes sessions ready, or says what is wrong with their `Start`.

    Args:
        engine: the server's.
        options: settings of the server.
        limits: the limits of a session, which its `Start` may lower.
        scripts: the scripts that are loaded.
        own_tools: what the server's own tools declare.
        durations: what those took lately.
    """

    def __init__(
        self,
        engine: Engine,
        options: ServerOptions,
        limits: Limits,
        scripts: ScriptStore,
        own_tools: Sequence[ToolSpec],
        durations: UsualDurations,
    ) -> None:
        self._engine = engine
        self._options = options
        self._limits = limits
        self._scripts = scripts
        self._own_tools = own_tools
        self._durations = durations
        self._scripted = (
            engine
            if engine.info.name == "scripted"
            else beside(engine.tokenizer, engine.codec, engine.template, engine.info.context_length)
        )

    async def prepare(self, start: StartRequest) -> Prepared:
        """Checks all of a `Start`; what takes long is done in threads.

        Raises:
            FieldError: a field is not allowed.
            StatusError: the model is unknown.
        """
        check_size(start, self._options.limits)
        start = start.with_delivery(self._options.delivery, self._options.coalesce_ms)
        engine, script, weights, adapter = self._resolve_model(start.model)
        tools = start.offered(self._own_tools)
        _check_copies(start, tools)
        limits = start.limits_in_force(self._limits)
        prompt_ids = await asyncio.to_thread(_encode_prompt, start, tools, engine)
        check_prompt(len(prompt_ids), limits, start)
        constraints = _constraints(start)
        constraint = await asyncio.to_thread(_compile, constraints, start, tools, engine)
        # Not before: what a tool took is no part of the prompt, which must be the same every time.
        timed = [*start.tools, *self._durations.fill_in(tools[len(start.tools) :])]
        config = start.session_config(
            tools=timed, limits=limits, prompt_tokens=len(prompt_ids), constraints=constraints
        )
        manual = script is not None and not weights
        return Prepared(engine, script, weights, adapter, tuple(prompt_ids), config, constraint, manual)

    def _resolve_model(self, model: str | None) -> tuple[Engine, Script | None, bool, str | None]:
        name = model or self._engine.info.model
        script_id, weights = parse_model_name(name)
        if script_id is None:
            adapters = model_names(self._engine.info)
            if name not in adapters or self._engine is self._scripted:
                raise self._unknown_model(name)
            return self._engine, None, False, adapters[name]
        script = self._scripts.get(script_id) if self._options.scripts else None
        if script is None or (weights and self._engine is self._scripted):
            raise self._unknown_model(name)
        return (self._engine if weights else self._scripted), script, weights, None

    def _unknown_model(self, name: str) -> StatusError:
        served = [] if self._engine is self._scripted else list(model_names(self._engine.info))
        if self._options.scripts:
            served.append("script:<id> of a loaded script")
        message = f"start.model is {shorten(name)}; this server has: {', '.join(served)}"
        violation = FieldViolation("start.model", message.removeprefix("start.model "))
        return StatusError(grpc.StatusCode.NOT_FOUND, message, "UNKNOWN_MODEL", (violation,))


def check_size(start: StartRequest, limits: ServerLimits) -> None:
    """Refuses more tools, or more text, than the server takes.

    Raises:
        FieldError: there are too many.
    """
    if len(start.tools) > limits.max_tools:
        message = f"has {len(start.tools)} tools; at most {limits.max_tools} are allowed"
        raise FieldError("start.tools", message, BAD_TOOL)
    size = sum(
        len((p.text if isinstance(p, TextPart) else p.cml).encode("utf-8", "surrogatepass"))
        for m in start.messages
        for p in m.parts
    )
    if size > limits.max_prompt_bytes:
        raise FieldError("start.messages", f"has {size} bytes of text; at most {limits.max_prompt_bytes} are allowed")


def _encode_prompt(start: StartRequest, tools: Sequence[ToolSpec], engine: Engine) -> list[int]:
    if start.prompt_ids is not None:
        vocab = engine.tokenizer.vocab_size
        for position, token_id in enumerate(start.prompt_ids):
            if token_id >= vocab:
                raise FieldError(
                    f"start.prompt_ids[{position}]", f"is {token_id}; the vocabulary has ids 0 to {vocab - 1}"
                )
        return list(start.prompt_ids)
    _check_cml(start)
    messages = with_section(start.messages, instructions_section(start, tools))
    try:
        segments = engine.template.render(messages)
        return encode_prompt(segments, engine.tokenizer, engine.codec, start.body_language)
    except ValueError as error:
        raise FieldError("start.messages", f"does not fit the model's chat template: {error}") from None


def _check_cml(start: StartRequest) -> None:
    """Refuses a cml part that is not well formed, by its place [CML-073]."""
    for number, message in enumerate(start.messages):
        for position, part in enumerate(message.parts):
            if not isinstance(part, CmlPart):
                continue
            try:
                parse(part.cml, start.body_language)
            except CmlError as error:
                field = f"start.messages[{number}].parts[{position}].cml"
                raise FieldError(field, f"is not well formed at character {error.offset}: {error}", BAD_CML) from None


def check_prompt(length: int, limits: Limits, start: StartRequest) -> None:
    """Refuses a prompt that leaves no room for an answer.

    Raises:
        FieldError: it is too long.
    """
    if length >= limits.context_length:
        field = "start.messages" if start.prompt_ids is None else "start.prompt_ids"
        raise FieldError(
            field,
            f"makes a prompt of {length} tokens; prompt and answer together have {limits.context_length}",
            PROMPT_TOO_LONG,
        )


def _check_copies(start: StartRequest, tools: Sequence[ToolSpec]) -> None:
    """Refuses tools that copy from the request where it is not known what the user said [CALL-105]."""
    if start.prompt_ids is None:
        return
    for tool in tools:
        for name, origin in tool.copies.items():
            if origin is not CopyFrom.RESULTS:
                raise FieldError(
                    "start.tools",
                    f"has {shorten(tool.name)}, whose parameter {shorten(name)} is copied from the request; "
                    "give messages, not prompt_ids",
                    BAD_TOOL,
                )


def _compile(constraints: Constraints, start: StartRequest, tools: Sequence[ToolSpec], engine: Engine) -> Constraint:
    grammar = constraints is Constraints.GRAMMAR
    try:
        return compile_constraint(engine.codec, engine.tokenizer, tuple(tools), start.body_language, grammar=grammar)
    except ValueError as error:
        raise FieldError("start.tools", f"cannot be made into a grammar: {error}", BAD_TOOL) from None


def _constraints(start: StartRequest) -> Constraints:
    try:
        return effective_constraints(start.constraints)
    except GrammarUnavailableError as error:
        raise FieldError(
            "start.constraints", f"is GRAMMAR, which this server cannot give: {error}", UNSUPPORTED
        ) from None


def instructions_section(start: StartRequest, tools: Sequence[ToolSpec], *, hosted: bool = False) -> tuple[Part, ...]:
    """What is written into the prompt beside the messages."""
    if start.instructions is Instructions.FULL:
        return system_section(tools, start.mode, start.body_language, hosted=hosted)
    if start.instructions is Instructions.TOOLS and tools:
        return (TextPart(f"# Functions\n\n{tool_section(tools, start.body_language)}"),)
    return ()
