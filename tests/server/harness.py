"""A real server on a real socket, and the generated stubs to talk to it: no client library in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from asynclm.conformance.v1 import scripted_model_pb2_grpc
from asynclm.engine.script import ScriptStep
from asynclm.prompt.template import Message, Role, TextPart
from asynclm.server.app import Server
from asynclm.v1 import control_pb2_grpc, inference_pb2_grpc, session_pb2
from asynclm.wire.client_events import ClientInput, ResumeAsked, client_event_to_pb
from asynclm.wire.received import from_server_event
from asynclm.wire.scripts import script_to_pb
from asynclm.wire.start import StartRequest
from asynclm.wire.values import ReceivedEvent
from asynclm.wire.writing import write
from asynclm_conformance.ambient import Violation, check

PATIENCE_S = 60
PROMPT = (Message(Role.USER, (TextPart("Hello"),)),)


@dataclass
class RawSession:
    """One Session stream: writes client events in order, keeps what it has read.

    Attributes:
        events: what the server sent, read; `messages` the same as it came.
        start: what the session was asked for.
        sent: the client's other events by their numbers.
    """

    call: Any
    events: list[ReceivedEvent] = field(default_factory=list)
    messages: list[session_pb2.ServerEvent] = field(default_factory=list)
    start: session_pb2.Start = field(default_factory=session_pb2.Start)
    sent: dict[int, session_pb2.ClientEvent] = field(default_factory=dict)
    seq: int = 0

    async def send(self, value: ClientInput) -> None:
        self.seq += 1
        pb = client_event_to_pb(value, self.seq)
        if isinstance(value, StartRequest):
            self.start = pb.start
        else:
            self.sent[self.seq] = pb
        await write(self.call, pb)

    async def send_raw(self, pb: session_pb2.ClientEvent) -> None:
        await self.call.write(pb)

    async def next(self) -> ReceivedEvent | None:
        pb = await self.call.read()
        if pb is grpc.aio.EOF:
            return None
        event = from_server_event(pb)
        self.messages.append(pb)
        self.events.append(event)
        return event

    async def until(self, kind: type) -> Any:
        """Reads up to the next report of a kind and returns it."""
        while (event := await self.next()) is not None:
            if isinstance(event.report, kind):
                return event.report
        status = await self.call.code()
        raise AssertionError(f"the stream ended ({status}: {await self.call.details()}) without {kind.__name__}")

    async def drop(self) -> None:
        """Breaks the stream off; what has arrived and not been read is lost."""
        self.call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            while await self.call.read() is not grpc.aio.EOF:
                pass

    async def all(self) -> list[Any]:
        """Reads to the end."""
        while await self.next() is not None:
            pass
        return [e.report for e in self.events]

    def broken(self) -> list[Violation]:
        """What the stream, which is over, does not keep of the rules that always hold."""
        return check(self.messages, self.start, self.sent)

    @property
    def kinds(self) -> list[str]:
        return [type(e.report).__name__ for e in self.events]


@dataclass
class Harness:
    """A server and its stubs."""

    server: Server
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.inference = inference_pb2_grpc.InferenceStub(self.channel)
        self.control = control_pb2_grpc.ControlStub(self.channel)
        self.scripts = scripted_model_pb2_grpc.ScriptedModelStub(self.channel)

    async def load(self, script_id: str, *steps: ScriptStep) -> list[int]:
        return list((await self.scripts.LoadScript(script_to_pb(script_id, steps))).ids_per_step)

    async def session(self, model: str | None = "script:s", **start: Any) -> RawSession:
        raw = RawSession(self.inference.Session())
        await raw.call.wait_for_connection()
        start.setdefault("messages", PROMPT)
        await raw.send(StartRequest(model=model, **start))
        return raw

    async def resume(self, session_id: str, after: int = 0, *, seq: int = 1) -> RawSession:
        """Takes a session up again after an event, as a client that has sent so many of its own."""
        raw = RawSession(self.inference.Resume(), seq=seq)
        await raw.call.wait_for_connection()
        await raw.send_raw(client_event_to_pb(ResumeAsked(session_id, after), 0))
        return raw


async def turns(holds: Callable[[], bool]) -> None:
    """Lets the event loop turn until something holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


Serve = Callable[..., Any]
"""Starts a server: `await serve([tools], limits=…, **options)`."""
