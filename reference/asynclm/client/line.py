"""A session's way to its server: one stream, and another one if it breaks, on which everything arrives once, in order.

Where the server offers `Resume` and keeps the session (`on_disconnect` DETACH), a stream that breaks is replaced by
another one: what the server did not get is sent again, and what the client did not get is asked for [WIRE-099]. What
has come is acknowledged now and then, so that the server need not keep it [WIRE-093].
"""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Callable
from typing import Any

import grpc

from asynclm.client.errors import ProtocolError
from asynclm.v1 import session_pb2
from asynclm.wire import (
    AckReceived,
    Capability,
    ClientInput,
    OnDisconnect,
    ResumeAsked,
    Resumed,
    Started,
    client_event_to_pb,
    from_server_event,
)
from asynclm.wire.writing import write

RETRY_SECONDS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""The waits before each attempt to take a session up again; after the last one its stream counts as lost."""

ACK_EVERY = 64
"""Events after which they are acknowledged at once."""

ACK_SECONDS = 0.2
"""Time after which fewer are, too: a server may keep fewer than that."""

END_OF_STREAM: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs leave it out


class Line:
    """Writes client events in the order of their numbers, on whatever stream there is.

    Args:
        connect: starts the rpc `Session`.
        reconnect: starts the rpc `Resume`.

    Attributes:
        call: the stream.
    """

    def __init__(self, connect: Callable[[], Any], reconnect: Callable[[], Any]) -> None:
        self._connect = connect
        self._reconnect = reconnect
        self._numbers = itertools.count(1)
        self._writing = asyncio.Lock()
        self._stands = asyncio.Event()
        self._over = False
        self._session_id: str | None = None
        self._unconfirmed: collections.deque[session_pb2.ClientEvent] = collections.deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._written = self._taken = self._acknowledged = 0
        self._timer: asyncio.TimerHandle | None = None
        self.call: Any = None

    async def open(self, start: ClientInput) -> Any:
        """Opens the first stream and sends the first event."""
        self.call = self._connect()
        await self.call.wait_for_connection()
        self._stands.set()
        await self._write(client_event_to_pb(start, next(self._numbers)))
        return self.call

    def send(self, event: ClientInput) -> tuple[int, asyncio.Task[bool]]:
        """Sends an event: its number, and a task that tells whether it is on its way, or the line is closed.

        The task is one of its own, so that a caller that is cancelled does not leave half a write behind.
        """
        message = client_event_to_pb(event, next(self._numbers))
        if self._session_id is not None:
            self._unconfirmed.append(message)
        return message.client_seq, self._start(self._deliver(message))

    async def _deliver(self, message: session_pb2.ClientEvent) -> bool:
        if await self._write(message):
            return True
        await self._stands.wait()  # on the next stream it has been sent with all the others
        return not self._over

    async def _write(self, message: session_pb2.ClientEvent) -> bool:
        async with self._writing:  # first come, first served: in the order of the numbers
            if message.client_seq <= self._written:
                return True  # with what was sent again
            written = await write(self.call, message)
            if written:
                self._written = message.client_seq
            elif not self._over:
                self._stands.clear()
            return written

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- what comes back -------------------------------------------------------------------------------------

    def started(self, started: Started) -> None:
        """The server has answered; it may let the session be taken up again."""
        if Capability.RESUME in started.capabilities and started.on_disconnect is OnDisconnect.DETACH:
            self._session_id = started.session_id

    def took(self, sequence: int) -> None:
        """An event of the server has come."""
        self._taken = sequence
        if self._session_id is None or self._over:
            return
        if sequence - self._acknowledged >= ACK_EVERY:
            self._acknowledge()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ACK_SECONDS, self._acknowledge)

    def _acknowledge(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._acknowledged = self._taken
        self.send(AckReceived(self._taken))

    def confirm(self, number: int) -> None:
        """The server has applied client events up to this one; they need not be sent again."""
        while self._unconfirmed and self._unconfirmed[0].client_seq <= number:
            self._unconfirmed.popleft()

    # --- another stream --------------------------------------------------------------------------------------

    async def rejoin(self, error: grpc.aio.AioRpcError) -> bool:
        """Takes the session up again after its stream has ended with an error; False where that cannot be.

        Raises:
            AioRpcError: the server answered, and does not have what it takes any more.
            ProtocolError: the server answered with something else.
        """
        if self._session_id is None or error.code() is not grpc.StatusCode.UNAVAILABLE:
            return False
        self._stands.clear()
        for seconds in RETRY_SECONDS:
            await asyncio.sleep(seconds)
            try:
                await self._resume(self._session_id)
            except grpc.aio.AioRpcError as again:
                if again.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            else:
                return True
        return False

    async def _resume(self, session_id: str) -> None:
        await self._writing.acquire()  # nothing is written before what has to be sent again
        call = self._reconnect()
        try:
            await call.wait_for_connection()
            await write(call, client_event_to_pb(ResumeAsked(session_id, self._taken), 0))
            first = await call.read()
            if first is END_OF_STREAM or not isinstance((resumed := from_server_event(first).report), Resumed):
                raise ProtocolError("the first event of a resumed stream is not Resumed")
        except BaseException:
            call.cancel()
            self._writing.release()
            raise
        self.confirm(resumed.last_client_seq)
        self._written = resumed.last_client_seq
        self.call = call
        self._start(self._send_again(list(self._unconfirmed)))

    async def _send_again(self, messages: list[session_pb2.ClientEvent]) -> None:
        """Beside the reading: a server that is not read from does not read either."""
        try:
            for message in messages:
                if not await write(self.call, message):
                    return
                self._written = message.client_seq
            self._stands.set()
        finally:
            self._writing.release()

    def close(self) -> None:
        """Nothing comes or goes any more."""
        self._over = True
        self._stands.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def aclose(self) -> None:
        """Waits for what is being written; the stream has been cancelled."""
        self.close()
        if self._tasks:
            await asyncio.wait(self._tasks)
