"""One session as its client sees it: numbers and sends client events, keeps what comes, waits for what has to come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from asynclm.v1 import inference_pb2, session_pb2, types_pb2
from asynclm.wire.writing import write
from asynclm_conformance.faults import OK, UNDECODABLE, PlayError, RpcStatus, status_of
from asynclm_conformance.play.log import WireLog

if TYPE_CHECKING:
    from asynclm.v1 import inference_pb2_grpc

MOST_PATIENCE = 12
"""A target that sends something else all the time is waited for so many times as long as one that sends nothing."""

MOST_EVENTS = 100_000
"""Events that a target may send in one session of a case; a target that sends more is cut off."""


class SessionStream:
    """A session on a stream.

    Args:
        stub: of the target's `Inference`.
        log: takes what goes over the wire.
        name: the session's, in the case.
        patience_s: for how long an event that has to come is waited for while nothing else comes.
        step: the step that is being played, from 1.
        answers: payloads that are sent at once for the client's calls, by function.

    Attributes:
        events: every numbered event, in order; those that a resumed stream repeats once.
        steps: the step during which each event came, by the event's number.
        sent: the client's events by number, `Start` left out.
        resumed: the `Resumed` events.
        status: how the stream ended; None while it is open.
        dropped: whether the client has broken it off.
        replayed: how many known events the last resumed stream has sent again.
        replay_faults: what was wrong with resumed streams: the number of the event, or 0 for Resumed, and what it is.
    """

    def __init__(
        self,
        stub: inference_pb2_grpc.InferenceAsyncStub,
        log: WireLog,
        name: str,
        *,
        patience_s: float,
        step: Callable[[], int],
        answers: Mapping[str, str],
    ) -> None:
        self._stub = stub
        self._log = log
        self._name = name
        self._patience_s = patience_s
        self._answers = answers
        self._step = step
        self._call: Any = None
        self._reading: asyncio.Task[RpcStatus] | None = None
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._next_seq = 1
        self._nonces = 0
        self._applied = 0
        self._due: int | None = None
        self._closed = False
        self.start = session_pb2.Start()
        self.events: list[session_pb2.ServerEvent] = []
        self.steps: dict[int, int] = {}
        self.sent: dict[int, session_pb2.ClientEvent] = {}
        self.resumed: list[session_pb2.Resumed] = []
        self.replay_faults: list[tuple[int, str]] = []
        self.status: RpcStatus | None = None
        self.dropped = False
        self.replayed = 0

    # --- opening and ending ----------------------------------------------------------------------------------

    async def open(self, start: session_pb2.Start) -> None:
        """Starts the session and waits for its first event, or for the end of the rpc."""
        self.start = start
        self._call = self._stub.Session(None)
        self._read()
        await self.send(session_pb2.ClientEvent(start=start))
        await self.wait(lambda: bool(self.events), "Started, or a status")

    async def generate(self, start: session_pb2.Start) -> None:
        """The same by Generate: the client has no side of its own."""
        self.start.CopyFrom(start)
        self.start.on_disconnect = types_pb2.ON_DISCONNECT_CANCEL  # whatever it says [WIRE-102]
        self._closed = True
        self._call = self._stub.Generate(inference_pb2.GenerateRequest(start=start))
        self._log.note(self._name, "Generate")
        self._read()
        await self.wait(lambda: bool(self.events), "Started, or a status")

    async def resume(self, last_event_seq: int | None) -> None:
        """Takes the session up on a new stream and waits for `Resumed`, or for the end of the rpc."""
        seen = self.events[-1].sequence if self.events else 0
        request = session_pb2.ResumeRequest(
            session_id=self.session_id, last_event_seq=seen if last_event_seq is None else last_event_seq
        )
        self._due = request.last_event_seq + 1
        self._call = self._stub.Resume(None)
        self.status, self.dropped, self._closed = None, False, False
        self.replayed = 0
        before = len(self.resumed)
        self._read()
        event = session_pb2.ClientEvent(client_seq=0, resume=request)
        self._log.client(self._name, event)
        await self._write(event)
        await self.wait(lambda: len(self.resumed) > before, "Resumed, or a status")

    def take_aside(self) -> asyncio.Task[RpcStatus]:
        """The stream as it is, for how it ends once another has taken its place."""
        assert self._reading is not None, "it was never opened"
        return self._reading

    def drop(self) -> None:
        """Breaks the stream off."""
        self.dropped = True
        self._log.note(self._name, "the client breaks the stream off")
        self._call.cancel()

    async def half_close(self) -> None:
        """Ends the client's events.

        Raises:
            PlayError: the target does not take it.
        """
        self._closed = True
        self._log.note(self._name, "the client closes its side")
        async with self._taken("the end of the client's events"):
            with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
                await self._call.done_writing()

    async def close(self) -> None:
        """Lets go of the stream, whatever its state."""
        if self._call is not None:
            self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        """The session's id; empty before `Started`."""
        first = self.events[0] if self.events else None
        return first.started.session_id if first is not None and first.HasField("started") else ""

    @property
    def open_for_writing(self) -> bool:
        """Whether the client can still send something."""
        return self._call is not None and self.status is None and not self._closed and not self.dropped

    @property
    def finished(self) -> bool:
        """Whether `Finished` has come."""
        return any(event.HasField("finished") for event in self.events[-1:])

    # --- sending ---------------------------------------------------------------------------------------------

    async def send(self, event: session_pb2.ClientEvent) -> None:
        """Sends a client event, with the next number unless it has one.

        Raises:
            PlayError: the target does not take it.
        """
        event = _copied(event)
        if event.client_seq == 0:
            event.client_seq = self._next_seq
        if event.client_seq == self._next_seq:
            self._next_seq += 1
            if not event.HasField("start"):
                self.sent[event.client_seq] = event
        self._log.client(self._name, event)
        await self._write(event)

    async def probe(self) -> session_pb2.Probed | None:
        """Asks for the state at rest; None where the stream ends first, or cannot be asked any more."""
        if not self.open_for_writing:
            return None
        self._nonces += 1
        nonce = f"{self._name}-{self._nonces}"
        asked = self._next_seq
        await self.send(session_pb2.ClientEvent(probe=session_pb2.Probe(nonce=nonce)))
        await self.wait(lambda: self._answer(nonce) is not None, f"Probed {nonce}")
        answer = self._answer(nonce)
        if answer is not None:  # and so has everything before it been applied [WIRE-081]
            self._applied = asked
        if answer is not None and answer.state == types_pb2.STATE_FINISHED:
            await self.end()
        return answer

    async def _write(self, event: session_pb2.ClientEvent) -> None:
        """Writes one event, first come, first served; if the stream has just ended, how it did is what is judged."""
        async with self._writing:
            try:
                async with self._taken(f"the client's {event.WhichOneof('event')}"):
                    await self._call.wait_for_connection()
                    await write(self._call, event)
            except grpc.aio.AioRpcError:
                pass  # reading tells why
            except asyncio.CancelledError:  # the call was, or this task
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise

    @contextlib.asynccontextmanager
    async def _taken(self, what: str) -> AsyncIterator[None]:
        """A target that reads nothing lets the client write until the transport is full, and then no more."""
        try:
            async with asyncio.timeout(self._patience_s):
                yield
        except TimeoutError:
            raise PlayError(
                f"{what} was not taken within {self._patience_s:g} s",
                want="a target that reads its stream",
                got=f"{what} waits in the transport",
                timed_out=True,
            ) from None

    def _answer(self, nonce: str) -> session_pb2.Probed | None:
        for event in reversed(self.events):
            if event.HasField("probed") and event.probed.nonce == nonce:
                return event.probed
        return None

    # --- receiving -------------------------------------------------------------------------------------------

    async def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Waits until something holds, or the stream has ended.

        Raises:
            PlayError: neither came.
        """
        loop, patience_s = asyncio.get_running_loop(), self._patience_s
        began = last_s = loop.time()
        try:
            async with asyncio.timeout(patience_s) as limit:
                while not holds() and self.status is None:
                    self._news.clear()
                    await self._news.wait()
                    last_s = loop.time()
                    limit.reschedule(min(last_s, began + (MOST_PATIENCE - 1) * patience_s) + patience_s)
        except TimeoutError:
            last = self.events[-1].WhichOneof("event") if self.events else "nothing"
            behind = f" of {last}" if last_s > began else ""
            raise PlayError(
                f"{what} did not come within {patience_s:g} s{behind}",
                want=what,
                got=f"nothing after {last}",
                timed_out=True,
            ) from None

    async def end(self) -> RpcStatus:
        """Waits for the end of the rpc.

        Raises:
            PlayError: it does not end.
        """
        await self.wait(lambda: False, "the end of the rpc")
        assert self.status is not None
        return self.status

    def _read(self) -> None:
        self._reading = asyncio.create_task(self._read_all(self._call))

    async def _read_all(self, call: Any) -> RpcStatus:
        status = RpcStatus("UNKNOWN", "the runner could not read on")
        try:
            status = await self._read_events(call)
        except grpc.aio.AioRpcError as error:
            status = status_of(error)
        except PlayError as error:  # an answer to a call could not be sent
            call.cancel()
            status = RpcStatus("CANCELLED", f"by the runner: {error.message}")
        except asyncio.CancelledError:
            status = RpcStatus("CANCELLED", "by the runner")
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        finally:
            if call is self._call:
                self.status = status
            self._log.note(self._name, f"the rpc ends: {status}")
            self._news.set()
        return status

    async def _read_events(self, call: Any) -> RpcStatus:
        async for event in call:
            if event is None:
                call.cancel()
                return UNDECODABLE
            self._take(event)
            await self._answer_call(event)
            if len(self.events) > MOST_EVENTS:
                self._log.note(self._name, f"cut off after {MOST_EVENTS} events")
                call.cancel()
        return OK

    def _take(self, event: session_pb2.ServerEvent) -> None:
        self._log.server(self._name, event)
        self._news.set()
        if event.HasField("resumed"):
            self.resumed.append(event.resumed)
            told = event.resumed.last_client_seq
            if not self._applied <= told < self._next_seq:
                wanted = f"{self._applied} to {self._next_seq - 1}"
                self.replay_faults.append((0, f"Resumed.last_client_seq is {told}, not {wanted}"))
            return
        due, self._due = self._due, None
        if due is not None and event.sequence != due:
            self.replay_faults.append((event.sequence, f"the first event is {event.sequence}; asked for was {due}"))
        if self.resumed and self.events and event.sequence <= self.events[-1].sequence:
            known = next((old for old in self.events if old.sequence == event.sequence), None)
            self.replayed += 1
            if known != event:
                self.replay_faults.append((event.sequence, f"event {event.sequence} is not what was sent before"))
            return
        self.events.append(event)
        self.steps.setdefault(event.sequence, self._step())

    async def _answer_call(self, event: session_pb2.ServerEvent) -> None:
        call = event.call_dispatched
        if not event.HasField("call_dispatched") or not call.client_owned or not call.HasField("id"):
            return
        payload = self._answers.get(call.function)
        if payload is not None and self.open_for_writing:
            await self.send(session_pb2.ClientEvent(interrupt=session_pb2.Interrupt(source=call.id, payload=payload)))


def _copied(event: session_pb2.ClientEvent) -> session_pb2.ClientEvent:
    copy = session_pb2.ClientEvent()
    copy.CopyFrom(event)
    return copy
