"""One session on a chat-completions endpoint: a request that streams, begun anew where the context changes."""

from __future__ import annotations

import asyncio
import collections
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import openai

from asynclm.cml.control import Control
from asynclm.cml.text_form import TextCodec
from asynclm.engine.base import EngineInfo, SamplingParams, SequenceId
from asynclm.engine.hosted import Arrival, Ended, Piece, Repeated, Restarted
from asynclm.engine.replay import ReplayFilter, SaidAgain
from asynclm.session.effects import HostedUsage, InterruptCommitted
from asynclm.session.state import FinishReason
from asynclm_adapters.openai_chat.cost import RequestCost, total
from asynclm_adapters.openai_chat.cutting import Cutter
from asynclm_adapters.openai_chat.retrying import FAULTS, BrokenOffError, Fault, passes, told, wait_s
from asynclm_adapters.openai_chat.script import ScriptPlay
from asynclm_adapters.openai_chat.transcript import DELIVER_TOOL, Transcript
from asynclm_adapters.openai_chat.upstream import Upstream

log = logging.getLogger(__name__)

SEQUENCE = SequenceId(0)


class ChatSession:
    """A `HostedSession` (asynclm.engine.hosted) over chat completions.

    What arrives is buffered until the loop takes it; only what was taken is part of the context. An interrupt closes
    the request that streams, and the next one is sent with the text so far and the interrupt behind it.

    Args:
        upstream: the endpoint.
        info: what the model is served as.
        transcript: the prompt, and from here on all that follows.
        sampling: how tokens are chosen.
        script: the play of a script that speaks for the model, or None.
    """

    codec = TextCodec()

    def __init__(
        self,
        upstream: Upstream,
        info: EngineInfo,
        transcript: Transcript,
        sampling: SamplingParams,
        *,
        script: ScriptPlay | None = None,
    ) -> None:
        self.info = info
        self._costs: list[RequestCost] = []
        self._upstream = upstream
        self._transcript = transcript
        self._sampling = sampling
        self._script = script
        self._lock = threading.Lock()  # guards what follows
        self._arrivals: collections.deque[tuple[Arrival, RequestCost | None]] = collections.deque()
        self._request: Future[None] | None = None
        self._number = 0
        self._taken_characters = 0
        self._ends = 0
        self._ended = False
        self._arrived: Callable[[], None] = lambda: None

    # --- on the loop's thread --------------------------------------------------------------------------------

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams, *, adapter: str | None = None) -> SequenceId:
        """Nothing is asked before a step is wanted."""
        return SEQUENCE

    def listen(self, arrived: Callable[[], None]) -> None:
        """Sets what is called when there is something to take again."""
        self._arrived = arrived

    def cached_tokens(self, sequence: SequenceId) -> int:
        """As the endpoint has said so far."""
        return self.cost().cached_tokens

    def cost(self) -> HostedUsage:
        """As the endpoint has said; estimated for requests of which it has not."""
        with self._lock:
            return total(self._costs)

    def give_way(self) -> None:
        """No step ever runs here."""

    def want(self) -> None:
        """Sends a request unless one streams, or everything has been said."""
        with self._lock:
            if self._request is None and not self._ended and not self._arrivals:
                self._number += 1
                if self._costs:
                    self._arrivals.append((Restarted(), None))
                self._request = self._upstream.start(
                    self._ask(self._number, self._transcript.request(), self._transcript.spoken, self._taken_characters)
                )

    @property
    def available(self) -> bool:
        """Whether there is something to take."""
        return bool(self._arrivals)

    def take(self) -> Arrival | None:
        """The next piece; it is part of the context from now on."""
        with self._lock:
            arrival, _ = self._arrivals.popleft() if self._arrivals else (None, None)
            match arrival:
                case Piece(text):
                    self._transcript.say(text)
                    self._taken_characters += len(text)
                case Ended():
                    self._ended = True
                    self._ends += 1
            return arrival

    def interrupt(self, interrupts: Sequence[InterruptCommitted]) -> None:
        """Closes the request that streams; the next one has the interrupts."""
        self._stop()
        with self._lock:
            self._transcript.interrupt(interrupts)
            self._ended = False

    def cut(self, *, forged: bool) -> None:
        """Closes the request that streams; a forged `[INTR]` leaves the context [CML-064]."""
        self._stop()
        if forged:
            with self._lock:
                self._transcript.take_back(Control.INTR.value)

    def suspend(self, sequence: SequenceId, expected_wait_ms: int | None) -> None:
        """Whatever the model goes on to say behind a trap is not heard."""
        self._stop()

    def resume(self, sequence: SequenceId) -> None:
        """The next step asks anew."""

    def close(self, sequence: SequenceId) -> None:
        """The session is over."""
        self._stop()

    def _stop(self) -> None:
        with self._lock:
            request, self._request = self._request, None
            self._number += 1
            for arrival, cost in self._arrivals:
                _discard(arrival, cost)
            self._arrivals.clear()
        if request is not None:
            request.cancel()

    # --- on the upstream's thread ----------------------------------------------------------------------------

    async def _ask(self, number: int, messages: list[dict[str, Any]], said: str, position: int) -> None:
        """One request, and those that take its place where a stream breaks off."""
        options = self._upstream.options
        for attempt in range(options.retries + 1):
            try:
                ended = await self._stream(number, messages, said, position)
            except FAULTS as error:
                wait = wait_s(error, attempt, backoff_s=options.backoff_s, now_s=time.time())
                if attempt == options.retries or wait is None or not passes(error):
                    self._put(number, _failed(error))
                    return
                await asyncio.sleep(wait)
            except Exception as error:
                log.exception("a request to the endpoint failed", exc_info=error)
                self._put(number, Ended(FinishReason.ENGINE_ERROR, "the adapter failed; the server's log says how"))
                return
            else:
                self._put(number, ended)
                return
            # What was heard of a stream that broke off stays: the next request goes on from there.
            with self._lock:
                if number != self._number:
                    return
                heard = "".join(arrival.text for arrival, _ in self._arrivals if isinstance(arrival, Piece))
                messages = _going_on(self._transcript.request(), heard)
                said = self._transcript.spoken + heard
                self._arrivals.append((Restarted(), None))
                position = self._taken_characters + len(heard)

    async def _stream(self, number: int, messages: list[dict[str, Any]], said: str, position: int) -> Ended:
        began = time.monotonic()
        cost = RequestCost(prompt_characters=sum(len(message["content"] or "") for message in messages))
        with self._lock:
            self._costs.append(cost)
        cutter = Cutter()
        # A script says what it says, even twice [SES-121].
        replay = ReplayFilter("" if self._script is not None else said)
        finish: str | None = None
        if self._script is not None:
            await self._script.stand_at(position, self._ends)
        options = self._upstream.options
        async with asyncio.timeout(options.first_token_s) as limit:
            stream = await self._upstream.client.chat.completions.create(**self._arguments(messages))
            try:
                async for chunk in stream:
                    _count(chunk.usage, cost)
                    if not chunk.choices:
                        continue
                    choice = chunk.choices[0]
                    if choice.delta.content:
                        limit.reschedule(asyncio.get_running_loop().time() + options.stall_s)
                        if cost.first_token_ms is None:
                            cost.first_token_ms = round((time.monotonic() - began) * 1000)
                        cost.received_characters += len(choice.delta.content)
                        for piece in cutter.cut(choice.delta.content):
                            self._put_all(number, replay.feed(piece), cost)
                    finish = choice.finish_reason or finish
            except BaseException:
                cost.discarded_characters += len(replay.held)  # it repeated what was said, as far as it came
                raise
            finally:
                await stream.close()
        self._put_all(number, replay.finish(), cost)
        if finish is None:
            raise BrokenOffError
        return _ended(finish)

    def _arguments(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self._upstream.options.model if self._script is None else self._script.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": self._sampling.temperature,
            "top_p": self._sampling.top_p,
            "seed": self._sampling.seed,
            "presence_penalty": self._sampling.presence_penalty,
            "frequency_penalty": self._sampling.frequency_penalty,
        }
        if self._transcript.uses_tools:
            arguments |= {"tools": [DELIVER_TOOL], "tool_choice": "none"}
        if self._script is not None:
            arguments["extra_headers"] = self._script.headers
        return arguments

    def _put_all(self, number: int, decided: Iterable[str | SaidAgain], cost: RequestCost) -> None:
        for item in decided:
            if isinstance(item, SaidAgain):
                cost.discarded_characters += len(item.text)
                self._put(number, Repeated(item.text))
            else:
                self._put(number, Piece(item), cost)

    def _put(self, number: int, arrival: Arrival, cost: RequestCost | None = None) -> None:
        with self._lock:
            if number != self._number:
                _discard(arrival, cost)
                return
            self._arrivals.append((arrival, cost))
            if isinstance(arrival, Ended):
                self._request = None
        self._arrived()


def _discard(arrival: Arrival, cost: RequestCost | None) -> None:
    """What was received and is no part of the context [SES-118]."""
    if cost is not None and isinstance(arrival, Piece):
        cost.discarded_characters += len(arrival.text)


def _count(usage: Any, cost: RequestCost) -> None:
    """Takes the endpoint's account of a request."""
    if usage is None:
        return
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details is not None else 0
    cost.told = (usage.prompt_tokens or 0, cached, usage.completion_tokens or 0)


def _ended(finish: str) -> Ended:
    match finish:
        case "stop":
            return Ended()
        case "length":
            return Ended(FinishReason.LENGTH, "the endpoint ended the answer at its own limit of tokens")
        case "content_filter":
            return Ended(FinishReason.ENGINE_ERROR, "the endpoint's content filter ended the answer")
    return Ended(FinishReason.ENGINE_ERROR, f"the endpoint ended the answer with {finish[:60]!r}")


def _failed(error: Fault) -> Ended:
    """The end of a session whose request cannot be answered; a conversation that is too long has an end of its own."""
    if isinstance(error, openai.APIError) and error.code == "context_length_exceeded":
        return Ended(FinishReason.CONTEXT_FULL, told(error))
    return Ended(FinishReason.ENGINE_ERROR, told(error))


def _going_on(messages: list[dict[str, Any]], heard: str) -> list[dict[str, Any]]:
    """The messages with what was heard behind what was taken."""
    if not heard:
        return messages
    last = messages[-1]
    if last["role"] == "assistant" and "tool_calls" not in last:
        return [*messages[:-1], {**last, "content": (last["content"] or "") + heard}]
    return [*messages, {"role": "assistant", "content": heard}]
