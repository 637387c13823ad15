"""Turns what a model says into what is sent: stop sequences, the token limit, and the pace of tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeAlias

from asynclm_adapters.openai_mock.clock import Clock
from asynclm_adapters.openai_mock.pieces import (
    CallDelta,
    Delta,
    Drop,
    EmptyChoices,
    Failure,
    Finish,
    IgnoreStop,
    Piece,
    Raw,
    Stall,
)
from asynclm_adapters.openai_mock.request import ChatRequest
from asynclm_adapters.openai_mock.stops import StopFilter
from asynclm_adapters.openai_mock.tokens import Tokenizer

Sent: TypeAlias = Delta | CallDelta | Finish | Failure | Drop | Stall | Raw | EmptyChoices


class Pace:
    """When tokens are due: deadlines from the request's start, so that lateness does not add up."""

    def __init__(self, clock: Clock, *, ttft_s: float, tpot_s: float) -> None:
        self._clock = clock
        self._tpot_s = tpot_s
        self._due_s = clock.now() + ttft_s - tpot_s

    async def wait(self, tokens: int) -> None:
        """Waits until so many more tokens are due."""
        self._due_s += tokens * self._tpot_s
        await self._clock.sleep_until(self._due_s)


class Reply:
    """The reply to one request.

    Attributes:
        tokens: tokens of the reply so far.
    """

    def __init__(self, request: ChatRequest, pieces: AsyncIterator[Piece], tokenizer: Tokenizer, pace: Pace) -> None:
        self._pieces = pieces
        self._tokenizer = tokenizer
        self._pace = pace
        self._limit = request.max_tokens
        self._stops = StopFilter(request.stop)
        self.tokens = 0

    async def sent(self) -> AsyncGenerator[Sent, None]:
        """What is sent, up to an end, or a fault that ends it; to be asked on after that too, as `Model.reply` is."""
        try:
            async for piece in self._pieces:
                for sent in await self._take(piece):
                    yield sent
                    if isinstance(sent, (Finish, Failure, Drop, Stall)):
                        if not _did_not_fit(piece, sent):
                            await anext(self._pieces, None)
                        return
            for sent in self._end(Finish("stop")):
                yield sent
        finally:
            if isinstance(self._pieces, AsyncGenerator):
                await self._pieces.aclose()

    async def _take(self, piece: Piece) -> list[Sent]:
        """What is sent for a piece, once it is due."""
        if isinstance(piece, Delta):
            return await self._delta(piece)
        if isinstance(piece, CallDelta):
            return await self._call_delta(piece)
        if isinstance(piece, Finish):
            return self._end(piece)
        if isinstance(piece, IgnoreStop):
            held, self._stops = self._held(), StopFilter(())
            return held
        return [piece]

    async def _delta(self, delta: Delta) -> list[Sent]:
        """One delta: not at all where it does not fit into the limit, up to a stop sequence where there is one."""
        tokens = delta.tokens if delta.tokens is not None else len(self._tokenizer.split(delta.text))
        if not await self._fits(tokens):
            return self._end(Finish("length"))
        passed, stopped = self._stops.feed(delta.text)
        sent: list[Sent] = [Delta(passed, tokens)] if passed or not delta.text else []
        return [*sent, Finish("stop")] if stopped else sent

    async def _call_delta(self, delta: CallDelta) -> list[Sent]:
        """A part of a tool call, which no stop sequence is looked for in."""
        text = (delta.name or "") + delta.arguments
        tokens = delta.tokens if delta.tokens is not None else len(self._tokenizer.split(text))
        if not await self._fits(tokens):
            return self._end(Finish("length"))
        return [*self._held(), delta]

    async def _fits(self, tokens: int) -> bool:
        """Waits until so many more tokens are due, if the limit has room for them."""
        if self._limit is not None and self.tokens + tokens > self._limit:
            return False
        await self._pace.wait(tokens)
        self.tokens += tokens
        return True

    def _end(self, finish: Finish) -> list[Sent]:
        return [*self._held(), finish]

    def _held(self) -> list[Sent]:
        held = self._stops.flush()
        return [Delta(held, 0)] if held else []


def _did_not_fit(piece: Piece, sent: Sent) -> bool:
    """Whether the reply ended for want of room for a delta: it has not happened, and the model is not asked on."""
    return isinstance(piece, (Delta, CallDelta)) and sent == Finish("length")
