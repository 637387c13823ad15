"""Opens sessions: from a `Start` to a session in the engine loop, and everything else that acts on sessions by id."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from asynclm.cml.blocks import CmlError
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import ContextLengthError, Engine, EngineError
from asynclm.engine.constraints import Constraint, compile_constraint, effective_constraints
from asynclm.engine.guidance import GrammarUnavailableError
from asynclm.engine.loop import EngineLoop
from asynclm.engine.running import SessionRequest
from asynclm.engine.script import SCRIPT_PREFIX, Script, ScriptStore, parse_model_name
from asynclm.engine.scripted import beside
from asynclm.prompt.build import with_section
from asynclm.prompt.encode import encode_prompt
from asynclm.prompt.instructions import system_section, tool_section
from asynclm.prompt.template import Part, TextPart
from asynclm.server.describe import describe
from asynclm.server.options import ServerOptions
from asynclm.server.registry import Registry, SessionRecord
from asynclm.server.tool_host import LocalToolHost
from asynclm.session.config import Constraints, Limits
from asynclm.session.events import Event, FinishRequested, HalfClosed, OutputHeld
from asynclm.session.state import FinishReason
from asynclm.tools.toolset import ToolSet
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
from asynclm.wire.values import Instructions, OfferedTool, OnDisconnect, ServerInfo, Started


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session that has just been opened, and what to tell its client first."""

    record: SessionRecord
    started: Started
    on_disconnect: OnDisconnect


class SessionHub:
    """The server's engine, loop, tools, scripts and sessions. Lives on the event loop; the engine has its own thread.

    Args:
        engine: what decodes.
        options: settings of the server.
        tools: the server's own tools.
    """

    def __init__(self, engine: Engine, options: ServerOptions, tools: ToolSet) -> None:
        self.engine = engine
        self.options = options
        self.scripts = ScriptStore()
        self.registry = Registry(
            max_sessions=options.limits.max_sessions,
            keep_finished=options.limits.keep_finished,
            keep_bytes=options.limits.keep_finished_bytes,
            make_room=lambda session_id: self.loop.post(session_id, OutputHeld(held=False)),
        )
        self.tool_host = LocalToolHost(tools, max_concurrency=options.limits.max_concurrent_tools)
        self.loop = EngineLoop(self.tool_host)
        self.tool_host.connect(self.loop.post)
        self.draining = False
        self._scripted = (
            engine
            if engine.info.name == "scripted"
            else beside(engine.tokenizer, engine.codec, engine.template, engine.info.context_length)
        )
        self.session_limits = dataclasses.replace(
            options.session_limits,
            context_length=min(options.session_limits.context_length, engine.info.context_length),
        )

    @property
    def own_tools(self) -> tuple[ToolSpec, ...]:
        """What the server's own tools declare."""
        return self.tool_host.tools.specs

    def describe(self) -> ServerInfo:
        """What this server is and can do."""
        return describe(self.engine, self.options, self.session_limits, self.own_tools)

    def start(self) -> None:
        """Starts the engine's thread."""
        self.loop.start()

    async def close(self) -> None:
        """Ends every session, the engine and the tools."""
        await asyncio.to_thread(self.loop.stop)
        await asyncio.to_thread(self.tool_host.close)
        self.engine.shutdown()

    async def open(self, start: StartRequest) -> OpenedSession:
        """Opens a session.

        Raises:
            FieldError: a field of the start is not allowed.
            StatusError: the server is draining or full, or the model is unknown.
        """
        self._check_room()
        self._check_size(start)
        engine, script, weights = self._resolve_model(start.model)
        tools = start.offered(self.own_tools)
        limits = start.limits_in_force(self.session_limits)
        prompt_ids = await asyncio.to_thread(self._encode_prompt, start, tools, engine)
        self._check_prompt(len(prompt_ids), limits, start)
        constraints = _constraints(start)
        constraint = await asyncio.to_thread(self._compile, constraints, start, tools, engine)
        config = start.session_config(
            tools=tools, limits=limits, prompt_tokens=len(prompt_ids), constraints=constraints
        )
        self._check_room()
        record = self.registry.add(start.model or engine.info.model, start.labels)
        request = SessionRequest(
            session_id=record.session_id,
            engine=engine,
            prompt_ids=tuple(prompt_ids),
            config=config,
            sampling=start.sampling,
            constraint=constraint.session(),
            sink=record.stream.sink,
            script=script,
            manual_clock=script is not None and not weights,
        )
        try:
            await self._open_in_loop(request)
        except ContextLengthError as error:
            self.registry.remove(record.session_id)
            raise FieldError("start.messages", f"is too long: {error}", PROMPT_TOO_LONG) from None
        except EngineError as error:
            self.registry.remove(record.session_id)
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), "ENGINE_FULL") from None
        except BaseException:
            self.registry.remove(record.session_id)
            raise
        return OpenedSession(
            record,
            self._started(record, start, config.constraints, tools, limits, len(prompt_ids), constraint),
            start.on_disconnect or OnDisconnect.CANCEL,
        )

    async def _open_in_loop(self, request: SessionRequest) -> None:
        """Opens a session in the loop; one that nobody waits for any more is ended as dropped."""
        opening = asyncio.ensure_future(asyncio.wrap_future(self.loop.open(request)))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            self.loop.post(request.session_id, FinishRequested(reason=FinishReason.DISCONNECTED, cancel_pending=True))
            await asyncio.wait([opening])
            opening.exception()  # looked at: it could not be opened, which is as good
            raise

    def post(self, record: SessionRecord, event: Event) -> None:
        """Gives an event to a session; a fault of the peer fails its stream."""
        self.loop.post(record.session_id, event, record.stream.fail)

    def refuse(self, record: SessionRecord, error: Exception) -> None:
        """Ends a session's stream for a fault of its client, behind all that its earlier events bring [WIRE-035]."""
        self.loop.call(lambda: record.stream.fail(error))

    async def caught_up(self) -> None:
        """Returns when the engine has applied everything that it was given so far."""
        await asyncio.wrap_future(self.loop.call(lambda: None))

    def leave(self, opened: OpenedSession) -> None:
        """The client's stream is gone."""
        record = opened.record
        record.attached = False
        record.stream.discard()
        if record.finished is not None:
            return
        if opened.on_disconnect is OnDisconnect.DETACH:
            self.post(record, HalfClosed())
        else:
            self.post(record, FinishRequested(reason=FinishReason.DISCONNECTED, cancel_pending=True))

    async def abort(self, session_ids: Sequence[str], message: str) -> list[str]:
        """Ends sessions ABORTED; those that are unknown or finished are no error.

        Returns:
            The ids of those that this call ended.
        """
        running = [r for i in dict.fromkeys(session_ids) if (r := self.registry.get(i)) and r.finished is None]
        for record in running:
            self.post(record, FinishRequested(reason=FinishReason.ABORTED, message=message, cancel_pending=True))
        await self._ends(running)
        return [r.session_id for r in running if r.finished and r.finished.reason is FinishReason.ABORTED]

    async def drain(self, seconds: float) -> None:
        """Takes no more sessions, gives the open ones so long to finish, then ends them DRAINED."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ends(self.registry.open_sessions)
        left = self.registry.open_sessions
        for record in left:
            message = "the server is shutting down"
            self.post(record, FinishRequested(reason=FinishReason.DRAINED, message=message, cancel_pending=True))
        await self._ends(left)

    @staticmethod
    async def _ends(records: Sequence[SessionRecord]) -> None:
        for record in records:
            await record.done.wait()

    async def reset_scripts(self) -> None:
        """Ends every session on a script and forgets every script."""
        ids = [r.session_id for r in self.registry.open_sessions if r.model.startswith(SCRIPT_PREFIX)]
        await self.abort(ids, "the scripts were reset")
        self.scripts.reset()

    # --- opening, step by step ---------------------------------------------------------------------------------

    def _check_room(self) -> None:
        if self.draining:
            raise StatusError(grpc.StatusCode.UNAVAILABLE, "the server is shutting down; try another", "DRAINING")
        if self.registry.full:
            most = self.options.limits.max_sessions
            raise StatusError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{most} sessions are open, the most; try later",
                "TOO_MANY_SESSIONS",
            )

    def _check_size(self, start: StartRequest) -> None:
        limits = self.options.limits
        if len(start.tools) > limits.max_tools:
            message = f"has {len(start.tools)} tools; at most {limits.max_tools} are allowed"
            raise FieldError("start.tools", message, BAD_TOOL)
        size = sum(
            len((p.text if isinstance(p, TextPart) else p.cml).encode("utf-8", "surrogatepass"))
            for m in start.messages
            for p in m.parts
        )
        if size > limits.max_prompt_bytes:
            raise FieldError(
                "start.messages", f"has {size} bytes of text; at most {limits.max_prompt_bytes} are allowed"
            )

    def _resolve_model(self, model: str | None) -> tuple[Engine, Script | None, bool]:
        name = model or self.engine.info.model
        script_id, weights = parse_model_name(name)
        if script_id is None:
            if name != self.engine.info.model or self.engine.info.name == "scripted":
                raise self._unknown_model(name)
            return self.engine, None, False
        script = self.scripts.get(script_id) if self.options.scripts else None
        if script is None or (weights and self.engine is self._scripted):
            raise self._unknown_model(name)
        return (self.engine if weights else self._scripted), script, weights

    def _unknown_model(self, name: str) -> StatusError:
        served = [] if self.engine is self._scripted else [self.engine.info.model]
        if self.options.scripts:
            served.append("script:<id> of a loaded script")
        message = f"start.model is {shorten(name)}; this server has: {', '.join(served)}"
        violation = FieldViolation("start.model", message.removeprefix("start.model "))
        return StatusError(grpc.StatusCode.NOT_FOUND, message, "UNKNOWN_MODEL", (violation,))

    def _encode_prompt(self, start: StartRequest, tools: Sequence[ToolSpec], engine: Engine) -> list[int]:
        if start.prompt_ids is not None:
            vocab = engine.tokenizer.vocab_size
            for position, token_id in enumerate(start.prompt_ids):
                if token_id >= vocab:
                    raise FieldError(
                        f"start.prompt_ids[{position}]", f"is {token_id}; the vocabulary has ids 0 to {vocab - 1}"
                    )
            return list(start.prompt_ids)
        messages = with_section(start.messages, _section(start, tools))
        try:
            segments = engine.template.render(messages)
            return encode_prompt(segments, engine.tokenizer, engine.codec, start.body_language)
        except CmlError as error:
            raise FieldError("start.messages", f"has a cml part that is not well formed: {error}", BAD_CML) from None
        except ValueError as error:
            raise FieldError("start.messages", f"does not fit the model's chat template: {error}") from None

    def _check_prompt(self, length: int, limits: Limits, start: StartRequest) -> None:
        if length >= limits.context_length:
            field = "start.messages" if start.prompt_ids is None else "start.prompt_ids"
            raise FieldError(
                field,
                f"makes a prompt of {length} tokens; prompt and answer together have {limits.context_length}",
                PROMPT_TOO_LONG,
            )

    def _compile(
        self, constraints: Constraints, start: StartRequest, tools: Sequence[ToolSpec], engine: Engine
    ) -> Constraint:
        grammar = constraints is Constraints.GRAMMAR
        try:
            return compile_constraint(
                engine.codec, engine.tokenizer, tuple(tools), start.body_language, grammar=grammar
            )
        except ValueError as error:
            raise FieldError("start.tools", f"cannot be made into a grammar: {error}", BAD_TOOL) from None

    def _started(
        self,
        record: SessionRecord,
        start: StartRequest,
        constraints: Constraints,
        tools: Sequence[ToolSpec],
        limits: Limits,
        prompt_tokens: int,
        constraint: Constraint,
    ) -> Started:
        client_owned = {spec.name for spec in start.tools}
        description = self.describe()
        return Started(
            session_id=record.session_id,
            model=record.model,
            capabilities=description.capabilities,
            binding=description.models[0].binding,
            grammar_hash=description.grammar_hash,
            prompt_tokens=prompt_tokens,
            limits=limits,
            unenforced_schema_keywords=constraint.unenforced,
            emulated=description.emulated,
            unit=description.unit,
            tools=tuple(OfferedTool(t.name, t.name in client_owned) for t in tools),
            mode=start.mode,
            on_end=start.on_end,
            on_disconnect=start.on_disconnect or OnDisconnect.CANCEL,
            constraints=constraints,
            body_language=start.body_language,
            credit=start.credit,
        )


def _constraints(start: StartRequest) -> Constraints:
    try:
        return effective_constraints(start.constraints)
    except GrammarUnavailableError as error:
        raise FieldError(
            "start.constraints", f"is GRAMMAR, which this server cannot give: {error}", UNSUPPORTED
        ) from None


def _section(start: StartRequest, tools: Sequence[ToolSpec]) -> tuple[Part, ...]:
    if start.instructions is Instructions.FULL:
        return system_section(tools, start.mode, start.body_language)
    if start.instructions is Instructions.TOOLS and tools:
        return (TextPart(f"# Functions\n\n{tool_section(tools, start.body_language)}"),)
    return ()
