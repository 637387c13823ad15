"""Writes a reply to the connection: as chunks, or whole; and what happens to it on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import web

from asynclm_adapters.openai_mock.clock import Clock
from asynclm_adapters.openai_mock.errors import ApiError, failure, retry_headers
from asynclm_adapters.openai_mock.pieces import CallDelta, Delta, Drop, EmptyChoices, Failure, Finish, Raw, Stall
from asynclm_adapters.openai_mock.records import RequestRecord
from asynclm_adapters.openai_mock.reply import Reply, Sent
from asynclm_adapters.openai_mock.shapes import DONE, Completion, Usage, event


class Writer:
    """Writes one reply, and notes in the request's record what was sent."""

    def __init__(
        self, request: web.Request, reply: Reply, record: RequestRecord, clock: Clock, headers: dict[str, str]
    ) -> None:
        self._request = request
        self._reply = reply
        self._record = record
        self._clock = clock
        self._headers = headers
        self._response: web.StreamResponse | None = None

    async def stream(self, completion: Completion) -> web.StreamResponse:
        """Sends the reply in chunks; a fault before the first delta comes before the response's first byte."""
        sent = self._reply.sent()
        try:
            async for item in sent:
                await self._send(item, completion, sent)
        finally:
            await sent.aclose()
        response = await self._opened(completion)
        await response.write_eof()
        return response

    async def whole(self, completion: Completion) -> web.StreamResponse:
        """Sends the reply in one object."""
        sent = self._reply.sent()
        empty, raw = False, None
        try:
            async for item in sent:
                if isinstance(item, Failure):
                    await anext(sent, None)
                    raise self._error(item)
                if isinstance(item, Raw):
                    raw = item.text
                empty = empty or isinstance(item, EmptyChoices)
                await self._note(item, sent)
        finally:
            await sent.aclose()
        reason = self._record.finish_reason or "stop"
        self._record.status = 200
        if raw is not None:
            return web.Response(text=raw, content_type="application/json", headers=self._headers)
        body = completion.whole(
            self._record.text, reason, self._usage(), empty_choices=empty, tool_calls=self._record.tool_calls
        )
        return web.json_response(body, headers=self._headers)

    async def _send(self, item: Sent, completion: Completion, sent: AsyncGenerator[Sent, None]) -> None:
        if isinstance(item, Failure) and self._response is None:
            await anext(sent, None)
            raise self._error(item)
        if not isinstance(item, (Drop, Stall)):
            response = await self._opened(completion)
            await response.write(self._bytes(item, completion))
        await self._note(item, sent)

    def _bytes(self, item: Delta | CallDelta | Finish | Failure | Raw | EmptyChoices, completion: Completion) -> bytes:
        if isinstance(item, Delta):
            return completion.delta(item.text)
        if isinstance(item, CallDelta):
            return completion.call_delta(item.index, item.id, item.name, item.arguments)
        if isinstance(item, Failure):
            return event(self._error(item).body)
        if isinstance(item, Raw):
            return item.text.encode("utf-8", "replace")
        if isinstance(item, EmptyChoices):
            return completion.empty()
        usage = completion.empty(self._usage()) if completion.with_usage else b""
        return completion.finish(item.reason) + usage + DONE

    async def _note(self, item: Sent, sent: AsyncGenerator[Sent, None]) -> None:
        """Writes down what has happened, and lets the faults happen that have no bytes."""
        record = self._record
        record.tokens = self._reply.tokens
        if isinstance(item, (Delta, CallDelta)):
            if isinstance(item, Delta):
                record.text += item.text
            else:
                record.add_call(item.index, item.id, item.name, item.arguments)
            if record.first_token_s is None:
                record.first_token_s = self._clock.now() - record.received_s
        elif isinstance(item, Finish):
            record.finish_reason = item.reason
        elif isinstance(item, (Drop, Stall)):
            await anext(sent, None)
            await self._hang(drop=isinstance(item, Drop))

    async def _hang(self, *, drop: bool) -> None:
        """Waits for the end of the connection, which cancels this; or ends it."""
        if drop:
            self._record.dropped = True
            if self._request.transport is not None:
                self._request.transport.close()
        await asyncio.Event().wait()

    async def _opened(self, completion: Completion) -> web.StreamResponse:
        """The response, with its head and the chunk of the role sent."""
        if self._response is None:
            kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            response = self._response = web.StreamResponse(headers=self._headers | kind)
            self._record.status = 200
            await response.prepare(self._request)
            await response.write(completion.first())
        return self._response

    def _error(self, item: Failure) -> ApiError:
        error = failure(item.status, code=item.code, message=item.message)
        self._record.error = str(error)
        if item.status == 429:
            error.headers["x-ratelimit-remaining-requests"] = "0"
        if item.retry_after_s is not None:
            error.headers |= retry_headers(item.retry_after_s)
        error.headers = self._headers | error.headers
        return error

    def _usage(self) -> Usage:
        record = self._record
        return Usage(record.prompt_tokens, record.cached_tokens, self._reply.tokens)


def error_response(error: ApiError) -> web.Response:
    """An error as a response."""
    body: dict[str, Any] = error.body
    return web.json_response(body, status=error.status, headers=error.headers)
