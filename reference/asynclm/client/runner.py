"""Runs a session's client-owned tools and sends their answers back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from asynclm.client.errors import AsyncLMError
from asynclm.cml.control import Status
from asynclm.session.effects import CallDispatched
from asynclm.session.events import InterruptReceived
from asynclm.tools import ToolCall, ToolError, ToolExecutor, ToolSet, ToolUpdate

CLOSE_SECONDS = 1.0
"""What cancelled tools get to clean up."""

_SERVERS_OWN = (Status.TIMEOUT, Status.CANCELLED)
"""Ends of a call that the server decides, and knows already [INT-012]."""


class ToolRunner:
    """Runs calls of one session on the caller's event loop.

    Args:
        tools: the tools that can be called.
        session_id: the session.
        send: sends a client event.
        max_payload_bytes: what one answer may have; over it, the model is told so in the answer's place.
        max_concurrency: calls that run at once.
    """

    def __init__(
        self,
        tools: ToolSet,
        session_id: str,
        send: Callable[[InterruptReceived], Awaitable[Any]],
        *,
        max_payload_bytes: int,
        max_concurrency: int,
    ) -> None:
        self._session_id = session_id
        self._send = send
        self._max_payload_bytes = max_payload_bytes
        self._executor = ToolExecutor(tools, on_update=self._update, max_concurrency=max_concurrency)
        self._answers: asyncio.Queue[InterruptReceived] = asyncio.Queue()
        self._awaited: set[int] = set()
        self._sending = asyncio.create_task(self._send_answers(), name=f"answers of {session_id}")

    def start(self, call: CallDispatched) -> None:
        """Starts a dispatched call."""
        if call.id is not None:
            self._awaited.add(call.index)
        self._executor.submit(
            ToolCall(
                session_id=self._session_id,
                index=call.index,
                id=call.id,
                function=call.function,
                arguments_json=call.arguments,
                timeout_ms=call.timeout_ms,
            )
        )

    def cancel(self, index: int) -> None:
        """Stops a call; its answers are no longer sent."""
        self._awaited.discard(index)
        self._executor.cancel(self._session_id, index)

    def stop(self) -> None:
        """Stops every call and sends nothing more."""
        self._awaited.clear()
        self._executor.cancel_session(self._session_id)
        self._sending.cancel()

    async def aclose(self) -> None:
        """Stops every call and gives the tools a moment to clean up."""
        self.stop()
        await self._executor.aclose(CLOSE_SECONDS)
        await asyncio.wait([self._sending])

    def _update(self, update: ToolUpdate) -> None:
        if update.index not in self._awaited or update.status in _SERVERS_OWN:
            return
        status, payload = update.status, update.payload
        size = len(payload.encode())
        if size > self._max_payload_bytes:
            if not update.final:
                return
            message = f"the result has {size} bytes; allowed are {self._max_payload_bytes}"
            status, payload = Status.ERROR, ToolError(message, type="payload").payload
        if update.final:
            self._awaited.discard(update.index)
        self._answers.put_nowait(InterruptReceived(payload=payload, call_index=update.index, status=status))

    async def _send_answers(self) -> None:
        with contextlib.suppress(AsyncLMError):  # the stream is gone; whoever reads it is told
            while True:
                await self._send(await self._answers.get())
