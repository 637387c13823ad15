"""A session from the client's side: what it sends, and the tools that it runs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any, TypeVar

import grpc

from asynclm.client.connection import ConnectionOptions
from asynclm.client.errors import InterruptRejectedError, LimitError, SessionClosedError
from asynclm.client.line import Line
from asynclm.client.runner import ToolRunner
from asynclm.client.stream import EventStream
from asynclm.cml.control import Status
from asynclm.session.effects import (
    CallCancelRequested,
    CallDispatched,
    CancelAnswered,
    InterruptAccepted,
    InterruptRejected,
    Probed,
)
from asynclm.session.events import (
    CancelRequested,
    CreditGranted,
    FinishRequested,
    InterruptReceived,
    PauseChanged,
    ProbeRequested,
)
from asynclm.session.state import Scheduling
from asynclm.tools import ToolError, ToolSet, to_json_text
from asynclm.wire import ClientInput, ReceivedEvent, Started, StartRequest

T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""What a server gets to finish a session that its client closes; then the stream is dropped."""

ENVELOPE_BYTES = 1 << 16
"""Room in a message for everything but its payload."""

AnyCall = CallDispatched | str | int
"""A call, by its dispatch, its id or its index."""


class Session(EventStream):
    """One session (`Inference.Session`). Make it with `AsyncLM.session`.

    Every method but the properties opens the session if need be. Tools given as functions are run here: on
    `CallDispatched` they start, their results go back, `CallCancelRequested` stops them. If the stream breaks, the
    session is taken up again where the server offers that; nobody notices, unless it cannot be done.
    """

    def __init__(
        self,
        connection: ConnectionOptions,
        opened: set[EventStream],
        line: Line,
        request: StartRequest,
        tools: ToolSet,
        max_concurrency: int,
    ) -> None:
        super().__init__(connection, opened)
        self._line = line
        self._request = request
        self._tools = tools
        self._max_concurrency = max_concurrency
        self._runner: ToolRunner | None = None
        self._nonces = itertools.count(1)
        self._waiters: dict[int | str, asyncio.Future[Any]] = {}

    # --- what a client says ----------------------------------------------------------------------------------

    async def interrupt(
        self, text: str, *, source: str = "@user", scheduling: Scheduling | str | None = None
    ) -> InterruptAccepted:
        """Says something to the model while it decodes.

        Args:
            text: plain text.
            source: `@user`, `@system` or `@agent.NAME`.
            scheduling: `immediate` (the default), `when_idle` or `silent`.

        Returns:
            The server's acceptance; when it is in the context, `InterruptCommitted` tells.

        Raises:
            InterruptRejectedError: the server did not accept it.
            AsyncLMError: the session is over, or the stream broke.
        """
        when = None if scheduling is None else Scheduling(scheduling)
        return await self._interrupt(InterruptReceived(payload=text, source=source, scheduling=when))

    async def answer(
        self,
        call: AnyCall,
        value: object = None,
        *,
        status: Status | str = Status.OK,
        scheduling: Scheduling | str | None = None,
    ) -> InterruptAccepted:
        """Answers a call whose tool was declared by a bare `ToolSpec`.

        Args:
            call: which one.
            value: the result; anything that JSON can hold, pydantic models and dataclasses included.
            status: `ok`, or `partial` and `progress` before it.
            scheduling: see `interrupt`; `silent` is the default of `partial` and `progress`.

        Raises:
            UnserializableError: JSON cannot hold the value.
            InterruptRejectedError: the server did not accept it.
            AsyncLMError: the session is over, or the stream broke.
        """
        when = None if scheduling is None else Scheduling(scheduling)
        return await self._answer(call, Status(status), to_json_text(value), when)

    async def fail(
        self, call: AnyCall, message: str, *, type: str = "tool_error", retryable: bool = False
    ) -> InterruptAccepted:
        """Answers a call with an error that the model reads; raises like `answer`."""
        return await self._answer(call, Status.ERROR, ToolError(message, type=type, retryable=retryable).payload)

    async def cancel(self, call: AnyCall) -> CancelAnswered:
        """Wants a call cancelled.

        Returns:
            The one outcome: cancelled, too late, not cancellable, or not found.

        Raises:
            AsyncLMError: the session is over, or the stream broke.
        """
        event = CancelRequested(id=call) if isinstance(call, str) else CancelRequested(call_index=_index(call))
        outcome: CancelAnswered = await self._ask(event)
        return outcome

    async def grant(self, tokens: int) -> None:
        """Grants more credit.

        Raises:
            ValueError: tokens is not positive.
            AsyncLMError: the session is over, or the stream broke.
        """
        await self._send(CreditGranted(tokens=tokens))

    async def pause(self) -> None:
        """Holds decoding at the next step; calls, timers and interrupts go on. Raises like `grant`."""
        await self._send(PauseChanged(paused=True))

    async def unpause(self) -> None:
        """Lets decoding go on. Raises like `grant`."""
        await self._send(PauseChanged(paused=False))

    async def probe(self) -> Probed:
        """Asks for the state once everything sent so far has taken effect and no decode step can run by itself.

        Raises:
            AsyncLMError: the session is over, or the stream broke.
        """
        nonce = f"probe-{next(self._nonces)}"
        probed: Probed = await self._ask(ProbeRequested(nonce=nonce), nonce)
        return probed

    async def finish(self, *, cancel_pending: bool | None = None) -> None:
        """Ends the session before its next step; `result` gives the ledger.

        Args:
            cancel_pending: whether pending calls are cancelled or detached; None for what `on_end` says.

        Raises:
            AsyncLMError: the stream broke. A session that is over already is no error.
        """
        try:
            await self._send(FinishRequested(cancel_pending=cancel_pending))
        except SessionClosedError:
            if not self.finished:
                raise

    async def detach(self) -> None:
        """Drops the stream and leaves the session to `on_disconnect`."""
        await self.open()
        await self._release()

    # --- sending ---------------------------------------------------------------------------------------------

    async def _interrupt(self, event: InterruptReceived) -> InterruptAccepted:
        size = len(event.payload.encode("utf-8", "surrogatepass"))
        if size > self._connection.max_message_bytes - ENVELOPE_BYTES:
            raise LimitError(f"payload has {size} bytes; a message holds {self._connection.max_message_bytes}")
        answer: InterruptAccepted | InterruptRejected = await self._ask(event)
        if isinstance(answer, InterruptRejected):
            raise InterruptRejectedError(answer)
        return answer

    async def _answer(
        self, call: AnyCall, status: Status, payload: str, scheduling: Scheduling | None = None
    ) -> InterruptAccepted:
        source, index = (call, None) if isinstance(call, str) else (None, _index(call))
        event = InterruptReceived(
            payload=payload, source=source, call_index=index, status=status, scheduling=scheduling
        )
        return await self._interrupt(event)

    async def _ask(self, event: ClientInput, key: int | str | None = None) -> Any:
        """Sends an event and waits for its answer: by the event's number, or by `key`."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        sent = await self._send(event, answer, key)
        try:
            return await answer
        finally:
            self._waiters.pop(sent if key is None else key, None)

    async def _send(
        self, event: ClientInput, answer: asyncio.Future[Any] | None = None, key: int | str | None = None
    ) -> int:
        await self.open()
        if self._over.is_set() or self.finished:
            raise self._closed_error()
        number, writing = self._line.send(event)
        if answer is not None:
            self._waiters[number if key is None else key] = answer
        if not await asyncio.shield(writing):
            await self._over.wait()  # the reader knows why the stream is gone
            raise self._closed_error()
        return number

    def _closed_error(self) -> Exception:
        return self._error or SessionClosedError("the session has finished")

    # --- EventStream -----------------------------------------------------------------------------------------

    async def _open_call(self) -> Any:
        return await self._line.open(self._request)

    async def _rejoin(self, error: grpc.aio.AioRpcError) -> Any:
        return self._line.call if await self._line.rejoin(error) else None

    def _observe(self, event: ReceivedEvent) -> None:
        self._line.took(event.sequence)
        match event.report:
            case Started() as started:
                self._line.started(started)
            case CallDispatched(client_owned=True) as call if call.function in self._tools:
                self._tool_runner().start(call)
            case CallCancelRequested(client_owned=True, index=index):
                if self._runner is not None:
                    self._runner.cancel(index)
            case InterruptAccepted() | InterruptRejected() | CancelAnswered() as answer:
                self._line.confirm(answer.client_seq)
                self._resolve(answer.client_seq, answer)
            case Probed(nonce=nonce) as answer:
                self._resolve(nonce, answer)

    def _resolve(self, key: int | str, answer: object) -> None:
        waiter = self._waiters.get(key)
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def _tool_runner(self) -> ToolRunner:
        if self._runner is None:
            limit = self.started.limits.max_payload_bytes
            self._runner = ToolRunner(
                self._tools, self.session_id, self._send, max_payload_bytes=limit, max_concurrency=self._max_concurrency
            )
        return self._runner

    def _settle(self) -> None:
        super()._settle()
        self._line.close()
        if self._runner is not None:
            self._runner.stop()
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(self._closed_error())

    async def _say_goodbye(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.finish(cancel_pending=True)
                await self._over.wait()

    async def _released(self) -> None:
        await self._line.aclose()
        if self._runner is not None:
            await self._runner.aclose()


def _index(call: CallDispatched | int) -> int:
    return call if isinstance(call, int) else call.index
