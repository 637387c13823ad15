"""Reads one session's events: in the background, in order, to whoever iterates and whoever waits for the end."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import Any, Self

import grpc

from asynclm.client.connection import ConnectionOptions
from asynclm.client.errors import AsyncLMError, ProtocolError, SessionClosedError
from asynclm.client.line import END_OF_STREAM
from asynclm.session.effects import CallRow, Finished, InterruptRow, Tokens, Usage
from asynclm.session.state import FinishReason
from asynclm.wire import ReceivedEvent, SessionTimings, Started, WireError, from_server_event


@dataclass(frozen=True, slots=True)
class SessionResult:
    """How a session ended.

    Attributes:
        session_id: its id on the server.
        text: what the model wrote outside blocks, from first to last.
        finished: the last event, with the ledger.
        timings: where the time went, if the server tells.
    """

    session_id: str
    text: str
    finished: Finished
    timings: SessionTimings | None = None

    @property
    def reason(self) -> FinishReason:
        """Why it ended."""
        return self.finished.reason

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended it, or None; `text` ends before it."""
        return self.finished.stop_string

    @property
    def usage(self) -> Usage:
        """Token counts."""
        return self.finished.usage

    @property
    def calls(self) -> tuple[CallRow, ...]:
        """One row for each call."""
        return self.finished.calls

    @property
    def interrupts(self) -> tuple[InterruptRow, ...]:
        """One row for each accepted interrupt."""
        return self.finished.interrupts


class EventStream:
    """A session's events. Iterate over it, or await its `result`; both at once is fine.

    Events are read in the background, so that nothing waits for the caller to iterate; credit is what holds a server
    back. Opened by `async with`, or by the first use; closed by the end of the block, or of the iteration.
    """

    def __init__(self, connection: ConnectionOptions, opened: set[EventStream]) -> None:
        self._connection = connection
        self._opened = opened
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._unread: collections.deque[ReceivedEvent] = collections.deque()
        self._arrived = asyncio.Event()
        self._over = asyncio.Event()
        self._error: AsyncLMError | None = None
        self._started: Started | None = None
        self._end: ReceivedEvent | None = None
        self._text: list[str] = []

    # --- what subclasses give --------------------------------------------------------------------------------

    async def _open_call(self) -> Any:
        """Starts the rpc and gives its call object."""
        raise NotImplementedError

    def _observe(self, event: ReceivedEvent) -> None:
        """Sees every event, before anybody else."""

    async def _rejoin(self, error: grpc.aio.AioRpcError) -> Any:
        """The call object of another stream, after one that ended with an error; None if there is none."""

    async def _say_goodbye(self) -> None:
        """Ends a session that has not finished, while the stream still stands."""

    async def _released(self) -> None:
        """Lets go of what the session held; nothing comes any more."""

    # --- opening and closing ---------------------------------------------------------------------------------

    @property
    def started(self) -> Started:
        """What the server made of the request.

        Raises:
            RuntimeError: the session has not been opened yet.
        """
        if self._started is None:
            raise RuntimeError("the session is not open yet; enter it with `async with`, or iterate")
        return self._started

    @property
    def session_id(self) -> str:
        """The session's id on the server; see `started`."""
        return self.started.session_id

    @property
    def finished(self) -> bool:
        """Whether the last event has come."""
        return self._end is not None

    async def open(self) -> None:
        """Opens the session; does nothing if it is open already.

        Raises:
            AsyncLMError: the server refused it, or cannot be reached.
        """
        async with self._opening:
            if self._started is not None:
                return
            if self._over.is_set():
                raise self._error or SessionClosedError("the session is closed")
            self._opened.add(self)
            try:
                self._call = await self._open_call()
                first = await self._first()
                if not isinstance(first.report, Started):
                    raise ProtocolError(f"the first event is {type(first.report).__name__}; Started is required")
            except BaseException as error:
                await self._fail_open(error)
                raise self._translated(error) from None
            self._started = first.report
            self._take(first)
            self._reading = asyncio.create_task(self._read(), name=f"session {self.session_id}")

    async def _first(self) -> ReceivedEvent:
        pb = await self._call.read()
        if pb is END_OF_STREAM:
            raise ProtocolError("the server ended the stream before its first event")
        return from_server_event(pb)

    async def _fail_open(self, error: BaseException) -> None:
        translated = self._translated(error)
        self._error = translated if isinstance(translated, AsyncLMError) else None
        await self._release()

    def _translated(self, error: BaseException) -> BaseException:
        if isinstance(error, grpc.aio.AioRpcError):
            return self._connection.error(error)
        if isinstance(error, WireError):
            return ProtocolError(f"{self._connection.address}: {error}")
        return error

    async def aclose(self) -> None:
        """Ends the session if it has not finished (pending calls are cancelled), and the stream."""
        if self._reading is not None and not self._over.is_set():
            with contextlib.suppress(AsyncLMError):
                await self._say_goodbye()
        await self._release()

    async def _release(self) -> None:
        if self._call is not None:
            self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._error is None and self._end is None:
            self._error = SessionClosedError("the session was closed before it finished")
        self._settle()
        await self._released()
        self._opened.discard(self)

    async def __aenter__(self) -> Self:
        """Opens the session."""
        await self.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    # --- reading ---------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while (pb := await self._next()) is not END_OF_STREAM:
                self._take(from_server_event(pb))
            if self._end is None:
                self._error = ProtocolError("the server ended the stream before Finished")
        except Exception as error:
            translated = self._translated(error)
            if not isinstance(translated, AsyncLMError):
                translated = ProtocolError(f"{self._connection.address}: {error}")
            self._error = translated
        finally:
            self._settle()

    async def _next(self) -> Any:
        while True:
            try:
                return await self._call.read()
            except grpc.aio.AioRpcError as error:
                call = None if self._end is not None else await self._rejoin(error)
                if call is None:
                    raise
                self._call = call

    def _take(self, event: ReceivedEvent) -> None:
        match event.report:
            case Tokens(text=text, in_block=None):
                self._text.append(text)
            case Finished():
                self._end = event
        self._observe(event)
        self._unread.append(event)
        self._arrived.set()

    def _settle(self) -> None:
        """Wakes everybody: nothing comes any more."""
        self._over.set()
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[ReceivedEvent]:
        """Events as they come, from the first unread one; ends after `Finished`.

        Raises:
            AsyncLMError: the stream broke, or the server refused the session.
        """
        entered = self._started is not None
        await self.open()
        try:
            while True:
                while self._unread:
                    yield self._unread.popleft()
                if self._over.is_set():
                    break
                self._arrived.clear()
                await self._arrived.wait()
            if self._end is None:
                raise self._error or SessionClosedError("the session was closed")
        finally:
            if not entered:
                await self.aclose()

    async def texts(self) -> AsyncIterator[str]:
        """What the model writes outside blocks, piece by piece; takes the events off the stream like iteration."""
        async with contextlib.aclosing(aiter(self)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event.report, Tokens) and event.report.in_block is None and event.report.text:
                    yield event.report.text

    async def result(self) -> SessionResult:
        """Waits for the end of the session, whether or not anybody iterates.

        Raises:
            AsyncLMError: the stream broke, or the session was closed before it finished.
        """
        entered = self._started is not None
        await self.open()
        try:
            await self._over.wait()
        finally:
            if not entered:
                await self.aclose()
        if self._end is None:
            raise self._error or SessionClosedError("the session was closed")
        assert isinstance(self._end.report, Finished)
        return SessionResult(self.session_id, "".join(self._text), self._end.report, self._end.timings)


class Generation(EventStream):
    """A session without a way back (`Inference.Generate`): iterate over its events, or await it for the result."""

    def __init__(
        self,
        connection: ConnectionOptions,
        opened: set[EventStream],
        start: Callable[[], Any],
    ) -> None:
        super().__init__(connection, opened)
        self._start = start

    async def _open_call(self) -> Any:
        return self._start()

    def __await__(self) -> Generator[Any, None, SessionResult]:
        return self.result().__await__()
