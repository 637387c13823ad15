"""Opens sessions: from a `Start` to a session in the engine loop, and everything else that acts on sessions by id."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence

import grpc

from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import ContextLengthError, Engine, EngineError
from asynclm.engine.hosted import HostedModel, hosted
from asynclm.engine.hosted_loop import HostedLoop
from asynclm.engine.loop import EngineLoop
from asynclm.engine.running import SessionRequest
from asynclm.engine.script import SCRIPT_PREFIX, Script, ScriptStore, step_ids
from asynclm.server.attachment import Attachment
from asynclm.server.describe import describe
from asynclm.server.hosted_preparation import HostedPreparation
from asynclm.server.kept_events import KeepLimits
from asynclm.server.metrics import Family, families
from asynclm.server.options import ServerOptions
from asynclm.server.preparation import Preparation, Prepared
from asynclm.server.registry import Registry, SessionRecord
from asynclm.server.streams import OpenedStream, Streams
from asynclm.server.tool_host import LocalToolHost
from asynclm.session.events import Event, FinishRequested
from asynclm.session.state import FinishReason
from asynclm.tools.toolset import ToolSet
from asynclm.wire.errors import (
    PROMPT_TOO_LONG,
    FieldError,
    StatusError,
)
from asynclm.wire.start import StartRequest
from asynclm.wire.values import OfferedTool, OnDisconnect, ServerInfo, Started


class SessionHub:
    """The server's engine, loop, tools, scripts and sessions. Lives on the event loop; the engine has its own thread.

    Args:
        engine: what decodes.
        options: settings of the server.
        tools: the server's own tools.
    """

    def __init__(self, engine: Engine | HostedModel, options: ServerOptions, tools: ToolSet) -> None:
        self.engine = engine
        self.options = options
        self.scripts = ScriptStore(max_scripts=options.limits.max_scripts)
        self.registry = Registry(
            max_sessions=options.limits.max_sessions,
            keep_finished=options.limits.keep_finished,
            keep_bytes=options.limits.keep_finished_bytes,
            tell=lambda session_id, held: self.loop.post(session_id, held),
        )
        self.tool_host = LocalToolHost(tools, max_concurrency=options.limits.max_concurrent_tools)
        self.loop = HostedLoop(self.tool_host) if hosted(engine) else EngineLoop(self.tool_host)
        self.tool_host.connect(self.loop.post)
        self.streams = Streams(self.registry, self.loop, options.resume_grace_s)
        self.draining = False
        length = engine.info.context_length
        if not hosted(engine):  # the memory of a hosted model is not this server's
            length = min(options.session_limits.context_length, length)
        self.session_limits = dataclasses.replace(options.session_limits, context_length=length)
        prepares = (options, self.session_limits, self.scripts, self.own_tools, self.tool_host.durations)
        self._preparation = HostedPreparation(engine, *prepares) if hosted(engine) else Preparation(engine, *prepares)

    @property
    def own_tools(self) -> tuple[ToolSpec, ...]:
        """What the server's own tools declare."""
        return self.tool_host.tools.specs

    def describe(self) -> ServerInfo:
        """What this server is and can do."""
        return describe(self.engine, self.options, self.session_limits, self.own_tools)

    def metrics(self) -> tuple[Family, ...]:
        """What this server measures, as it stands; may be called from any thread."""
        return families(self.loop.snapshot(), self.engine.stats())

    async def load(self, script: Script) -> list[int]:
        """Loads a script; the number of units of each of its steps [SCR-003].

        Raises:
            ScriptError: there is no room for another, or the engine cannot play it.
        """
        self.scripts.load(script)
        if hosted(self.engine):
            return await self.engine.load(script)
        return [len(step_ids(step, self.engine.codec)) for step in script.steps]

    def start(self) -> None:
        """Starts the engine's thread."""
        self.loop.start()

    async def close(self) -> None:
        """Ends every session, the engine and the tools."""
        self.streams.close()
        await asyncio.to_thread(self.loop.stop)
        await asyncio.to_thread(self.tool_host.close)
        self.engine.shutdown()

    async def open(self, start: StartRequest, *, resumable: bool = True) -> OpenedStream:
        """Opens a session, with a stream on it.

        Args:
            start: what is asked for.
            resumable: whether it can be taken up again, if the server offers that at all.

        Raises:
            FieldError: a field of the start is not allowed.
            StatusError: the server is draining or full, or the model is unknown.
        """
        self._check_room()
        ready = await self._preparation.prepare(start)
        self._check_room()
        limits = self.options.limits
        keep = KeepLimits(limits.max_kept_events, limits.max_kept_bytes) if resumable and self.streams.resumes else None
        record = self.registry.add(start.model or ready.engine.info.model, start.labels, keep)
        record.attachment = attachment = Attachment(record.stream.attach())
        request = SessionRequest(
            session_id=record.session_id,
            engine=ready.engine,
            prompt_ids=ready.prompt_ids,
            config=ready.config,
            sampling=start.sampling,
            constraint=ready.constraint.session(),
            sink=record.stream.sink,
            script=ready.script,
            adapter=ready.adapter,
            manual_clock=ready.manual_clock,
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
        record.started = started = self._started(record, start, ready)
        record.stream.announce(started)
        return OpenedStream(record, started, attachment)

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
        """Gives an event to a session."""
        self.loop.post(record.session_id, event)

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

    def _started(self, record: SessionRecord, start: StartRequest, ready: Prepared) -> Started:
        client_owned = {spec.name for spec in start.tools}
        description = self.describe()
        config = ready.config
        return Started(
            session_id=record.session_id,
            model=record.model,
            capabilities=description.capabilities,
            binding=description.models[0].binding,
            grammar_hash=description.grammar_hash,
            prompt_tokens=config.prompt_tokens,
            limits=config.limits,
            unenforced_schema_keywords=ready.constraint.unenforced,
            emulated=description.emulated,
            unit=description.unit,
            tools=tuple(OfferedTool(t.name, t.name in client_owned) for t in config.tools),
            mode=config.mode,
            on_end=config.on_end,
            on_disconnect=start.on_disconnect or (OnDisconnect.DETACH if record.resumable else OnDisconnect.CANCEL),
            constraints=config.constraints,
            body_language=config.body_language,
            credit=config.credit,
            delivery=config.delivery_in_force,
            coalesce_ms=config.coalesce_ms,
        )
