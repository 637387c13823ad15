"""What was asked and what became of it: one record per request."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from asynclm_adapters.openai_mock.clock import Clock
from asynclm_adapters.openai_mock.messages import Message, ToolCall

MAX_RECORDS = 10_000
"""The oldest are forgotten."""


@dataclass(kw_only=True)
class RequestRecord:
    """One request to `/v1/chat/completions`, refused ones included.

    Attributes:
        id: its `x-request-id`.
        received_s: when it came, by the server's clock.
        model: the model asked for.
        session: who plays a script.
        stream: whether chunks were asked for.
        messages: the conversation; empty where the request could not be read.
        status: the HTTP status; 0: nothing has been answered.
        error: the message of the error, if it failed.
        prompt_tokens: size of the prompt.
        cached_tokens: how much of it the prefix cache had.
        first_token_s: from the request to its first delta; None: there was none.
        tokens: tokens of the reply that were sent.
        text: the text that was sent.
        tool_calls: the tool calls that were sent, whole or in part.
        finish_reason: how the reply ended; None: it did not.
        closed_early: the client went before the end.
        dropped: the server cut the connection, as the model asked.
        open: it is not over.
    """

    id: str
    received_s: float
    model: str = ""
    session: str = ""
    stream: bool = False
    messages: tuple[Message, ...] = ()
    status: int = 0
    error: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    first_token_s: float | None = None
    tokens: int = 0
    text: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str | None = None
    closed_early: bool = False
    dropped: bool = False
    open: bool = True

    def add_call(self, index: int, call_id: str | None, name: str | None, arguments: str) -> None:
        """A part of a tool call was sent; one whose index is new begins a call."""
        if index == len(self.tool_calls):
            self.tool_calls.append(ToolCall(call_id or "", name or "", arguments))
        else:
            begun = self.tool_calls[index]
            self.tool_calls[index] = replace(begun, arguments=begun.arguments + arguments)

    def to_json(self) -> dict[str, Any]:
        """The record as `GET /admin/requests` shows it."""
        return asdict(self)


@dataclass
class RequestLog:
    """The records, oldest first."""

    clock: Clock
    records: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=MAX_RECORDS))
    _open: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, request_id: str) -> RequestRecord:
        """Starts a record."""
        record = RequestRecord(id=request_id, received_s=self.clock.now())
        self.records.append(record)
        self._open += 1
        return record

    def end(self, record: RequestRecord) -> None:
        """The request is over."""
        record.open = False
        self._open -= 1
        self._changed.set()

    async def idle(self) -> None:
        """Waits until no request is open."""
        while self._open:
            self._changed.clear()
            await self._changed.wait()
