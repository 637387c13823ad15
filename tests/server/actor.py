"""Plays a story against a server over a real socket, and holds what came of it against every rule."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import grpc
from tests.server.harness import PROMPT, Harness, RawSession
from tests.server.stories import CLIENT_TOOLS, Story

from asynclm.cml.control import Status
from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.session.effects import CallDispatched, CallEmitted, Finished, Probed
from asynclm.session.events import (
    CancelRequested,
    CreditGranted,
    FinishRequested,
    InterruptReceived,
    PauseChanged,
    ProbeRequested,
)
from asynclm.session.state import FinishReason, Scheduling
from asynclm.v1 import control_pb2
from asynclm.wire.start import StartRequest
from asynclm.wire.values import Instructions, OnDisconnect, Resumed, Started
from asynclm.wire.writing import write


class FuzzError(AssertionError):
    """A session did what it may not do, with all that was asked of it."""


@dataclass
class Actor:
    """Plays one story against a server."""

    harness: Harness
    story: Story
    session: RawSession = field(init=False)
    started: Started = field(init=False)
    start: StartRequest = field(init=False)
    _reading: asyncio.Task[None] = field(init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _nonces: int = 0

    async def play(self, name: str) -> None:
        """Plays it all.

        Raises:
            FuzzError: the stream breaks a rule, breaks off, or the session does not end.
        """
        try:
            async with asyncio.timeout(60):
                await self._play(name)
        except (TimeoutError, grpc.aio.AioRpcError, AssertionError) as error:
            raise FuzzError(f"{type(error).__name__}: {error}\n{self._transcript()}") from error

    async def _play(self, name: str) -> None:
        await self.harness.load(name, *self.story.script)
        settings = self.story.settings
        self.start = StartRequest(
            model=f"script:{name}",
            messages=PROMPT,
            instructions=Instructions.NONE,
            tools=CLIENT_TOOLS,
            credit=settings.credit,
            **settings.start,
        )
        self.session = RawSession(self.harness.inference.Session())
        await self.session.call.wait_for_connection()
        await self.session.send(self.start)
        self.started = await self.session.until(Started)
        self._reading = asyncio.create_task(self._read())
        for move, arguments in self.story.moves:
            if self._over:
                break
            with contextlib.suppress(asyncio.InvalidStateError):  # writing to a stream that has just ended
                await getattr(self, f"_{move}")(**arguments)
        with contextlib.suppress(asyncio.InvalidStateError):
            await self._end(self.story.ending)
        await self._run_out()
        await self._judge()

    @property
    def _over(self) -> bool:
        return self._reading.done()

    async def _read(self) -> None:
        while await self.session.next() is not None:
            self._news.set()
        self._news.set()

    # --- moves -----------------------------------------------------------------------------------------------

    async def _grant(self, tokens: int) -> None:
        if self.story.settings.credit is not None:
            await self.session.send(CreditGranted(tokens=tokens))

    async def _sync(self) -> None:
        self._nonces += 1
        nonce = str(self._nonces)
        await self.session.send(ProbeRequested(nonce=nonce))
        while not self._over and not any(p.nonce == nonce for p in self._reports(Probed)):
            self._news.clear()
            await self._news.wait()

    async def _result(self, which: int, payload: str, status: Status | None, scheduling: Scheduling | None) -> None:
        mine = [call for call in self._reports(CallDispatched) if call.client_owned and call.id is not None]
        emitted = [call for call in self._reports(CallEmitted) if call.id is not None]
        choice = mine or emitted
        if choice:
            source = choice[which % len(choice)].id
            event = InterruptReceived(source=source, payload=payload, status=status, scheduling=scheduling)
            await self.session.send(event)

    async def _indexed(self, index: int, payload: str, status: Status | None) -> None:
        await self.session.send(InterruptReceived(call_index=index, payload=payload, status=status))

    async def _speak(self, source: str, status: Status | None, scheduling: Scheduling | None) -> None:
        event = InterruptReceived(source=source, payload=f"says {source}", status=status, scheduling=scheduling)
        await self.session.send(event)

    async def _cancel(self, id: str | int) -> None:
        by_index = isinstance(id, int)
        await self.session.send(CancelRequested(call_index=id) if by_index else CancelRequested(id=id))

    async def _pause(self, paused: bool) -> None:
        await self.session.send(PauseChanged(paused=paused))

    async def _reconnect(self) -> None:
        """Breaks the stream off, takes the session up again, and sends again what did not get there [WIRE-099]."""
        before = self.session
        before.call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await self._reading
        after = before.events[-1].sequence
        now = await self.harness.resume(self.started.session_id, after, seq=before.seq)
        resumed = await now.until(Resumed)
        assert resumed.started == self.started
        assert resumed.last_event_seq >= after
        now.events, now.messages, now.start, now.sent = before.events, before.messages, before.start, before.sent
        self.session = now
        for number in range(resumed.last_client_seq + 1, now.seq + 1):
            await write(now.call, now.sent[number])
        self._reading = asyncio.create_task(self._read())

    async def _advance(self, ms: int) -> bool:
        request = scripted_model_pb2.AdvanceRequest(session_id=self.started.session_id, ms=ms)
        try:
            await self.harness.scripts.Advance(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return False
        return True

    # --- the end ---------------------------------------------------------------------------------------------

    async def _end(self, ending: str) -> None:
        if self._over:
            return
        match ending:
            case "finish" | "finish_cancel" | "finish_detach":
                pending = {"finish": None, "finish_cancel": True, "finish_detach": False}[ending]
                await self.session.send(FinishRequested(cancel_pending=pending))
            case "half_close":
                await self.session.call.done_writing()
            case "abort":
                request = control_pb2.AbortSessionsRequest(session_ids=[self.started.session_id])
                await self.harness.control.AbortSessions(request)
            case "drop":
                self.session.call.cancel()

    async def _run_out(self) -> None:
        """Left alone, every session comes to its end: by its timers, or by running out of tokens [SES-081]."""
        record = self.harness.server.hub.registry.get(self.started.session_id)
        assert record is not None
        loop = self.harness.server.hub.loop
        for _ in range(2_000):
            if record.done.is_set():
                break
            with contextlib.suppress(KeyError):
                look = loop.inspect(self.started.session_id, lambda m: (m.can_step, m.next_timer_ms, m.state))
                can_step, timer, state = await asyncio.wrap_future(look)
                assert can_step or timer is not None, f"nothing can ever happen in {state}"
                if not can_step:
                    await self._advance(1_000)
        assert record.done.is_set(), "the session does not end"
        assert record.finished is not None

    async def _judge(self) -> None:
        record = self.harness.server.hub.registry.get(self.started.session_id)
        assert record is not None
        assert record.finished is not None
        if self.session.call.cancelled():
            self._dropped(record.finished)
            await self._reconnect()  # a finished session can be read to its end [WIRE-098]
        await self._reading
        assert await self.session.call.code() is grpc.StatusCode.OK
        assert not (broken := self.session.broken()), "\n".join(map(str, broken))
        detail = await self.harness.control.GetSession(
            control_pb2.GetSessionRequest(session_id=self.started.session_id)
        )
        finished = self.session.events[-1].report
        assert [row.index for row in detail.calls] == [row.index for row in finished.calls]
        assert detail.last_event_seq == self.session.events[-1].sequence

    def _dropped(self, finished: Finished) -> None:
        """A dropped session goes on, or ends at once; in no case is it half-closed."""
        assert self.story.ending == "drop", "the stream ended without Finished"
        assert finished.reason is not FinishReason.FINISHED_BY_CLIENT, "a broken stream was taken for a half-close"
        if self.started.on_disconnect is OnDisconnect.DETACH:
            assert finished.reason is not FinishReason.DISCONNECTED, "the grace period was not waited for"

    # --- telling ---------------------------------------------------------------------------------------------

    def _reports(self, kind: type[Any]) -> list[Any]:
        return [event.report for event in self.session.events if isinstance(event.report, kind)]

    def _transcript(self) -> str:
        lines = [f"settings: {self.story.settings}", f"script: {self.story.script}", f"ending: {self.story.ending}"]
        session = getattr(self, "session", None)
        if session is not None:
            lines += [f"sent {number}: {event}" for number, event in session.sent.items()]
            lines += [f"{e.sequence} @{e.token_index} {e.time_ms} ms {e.report}" for e in session.events[1:]]
        return "\n".join(lines)
