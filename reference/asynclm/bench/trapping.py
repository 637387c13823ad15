"""Sessions that trap on purpose, on real weights: what each was given, what it wrote, and how long it took.

The script forces a call of a client's tool and a trap. The result comes when the benchmark sends it; then the model
samples by itself for a while, greedily, and ends.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from asynclm.client import AsyncLM, Session
from asynclm.cml.control import Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import SamplingParams
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptSample, ScriptStep, ScriptText
from asynclm.session.effects import Finished, InterruptCommitted, Tokens, TrapEntered
from asynclm.session.state import FinishReason
from asynclm.wire import ReceivedEvent

SCRIPT_ID = "trap"
CALL_ID = "x"
TOOL = ToolSpec(name="look", description="Looks something up.", parameters={"type": "object"})
TOP = 5
"""Most probable tokens reported with each sampled one."""

FIRST_TEXT_ID = 1_000
"""Ids below are special tokens and single bytes in common tokenizers; prompts are made of others."""

Now = Callable[[], float]


def script(sampled: int) -> tuple[ScriptStep, ...]:
    """A call, a trap, so many tokens of the model's own, and the end."""
    return (
        ScriptControl(Control.CALL),
        ScriptText(CALL_ID),
        ScriptControl(Control.HEAD),
        ScriptText(f"{TOOL.name}()"),
        ScriptControl(Control.END),
        ScriptControl(Control.TRAP),
        ScriptControl(Control.END),
        ScriptSample(max_tokens=sampled),
        ScriptEnd(),
    )


def prompt_ids(number: int, *, length: int, vocab_size: int) -> tuple[int, ...]:
    """A prompt of its own for each number, different from the first token on."""
    random_ids = random.Random(number)
    ids = random_ids.choices(range(FIRST_TEXT_ID, vocab_size - FIRST_TEXT_ID), k=length)
    return (FIRST_TEXT_ID + number, *ids[1:])


@dataclass(slots=True)
class Sample:
    """One token that the model chose by itself: its place in the context, and what the server said of it."""

    place: int
    top: tuple[tuple[int, float], ...]


@dataclass(slots=True)
class TrappedSession:
    """One session of the benchmark.

    Attributes:
        prompt: its prompt.
        stream: ids by token index, sampled, forced and injected.
        samples: tokens after the trap.
        to_trap_s: from `Start` to `TrapEntered`.
        to_token_s: from the result to the first token sampled after it.
        ended_well: it finished by itself, with its result delivered and tokens after it.
    """

    prompt: tuple[int, ...]
    stream: dict[int, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    to_trap_s: float = 0.0
    to_token_s: float | None = None
    ended_well: bool = False
    _session: Session | None = None
    _events: AsyncIterator[ReceivedEvent] | None = None

    @property
    def context(self) -> list[int]:
        """All ids in order.

        Raises:
            ValueError: the server has left one out.
        """
        if sorted(self.stream) != list(range(len(self.stream))):
            raise ValueError("the events leave token indexes out")
        return [*self.prompt, *(self.stream[index] for index in range(len(self.stream)))]

    async def trap(self, llm: AsyncLM, *, call_ms: int) -> None:
        """Opens the session and reads until it is trapped."""
        began = time.perf_counter()
        self._session = llm.session(
            model=f"script:{SCRIPT_ID}+weights",
            prompt_ids=self.prompt,
            tools=[
                ToolSpec(name=TOOL.name, description=TOOL.description, parameters=TOOL.parameters, timeout_ms=call_ms)
            ],
            sampling=SamplingParams(logprobs=True, top_logprobs=TOP),
        )
        await self._session.open()
        self._events = aiter(self._session)
        async for event in self._events:
            self._note(event)
            if isinstance(event.report, TrapEntered):
                self.to_trap_s = time.perf_counter() - began
                return
        raise RuntimeError("a session ended before its trap")

    async def resume(self) -> None:
        """Sends the result and reads to the end."""
        assert self._session is not None
        assert self._events is not None
        began = time.perf_counter()
        await self._session.answer(CALL_ID, {"found": True})
        async for event in self._events:
            self._note(event)
            if isinstance(event.report, Tokens) and self.to_token_s is None:
                self.to_token_s = time.perf_counter() - began
            if isinstance(event.report, Finished):
                self.ended_well = event.report.reason is FinishReason.STOP and bool(self.samples)
        await self._session.aclose()

    def _note(self, event: ReceivedEvent) -> None:
        match event.report:
            case Tokens(token_index=index, ids=ids, top_logprobs=top):
                self.stream.update(enumerate(ids, index))
                if self._resumed:
                    for offset, best in enumerate(top):
                        place = len(self.prompt) + index + offset
                        self.samples.append(Sample(place, tuple((entry.token_id, entry.logprob) for entry in best)))
            case InterruptCommitted(token_index=index, ids=ids, source=source):
                self.stream.update(enumerate(ids, index))
                self._resumed = self._resumed or source == CALL_ID

    _resumed: bool = False


async def trap_all(
    llm: AsyncLM, sessions: Sequence[TrappedSession], *, at_once: int, call_ms: int, done: Callable[[], None]
) -> None:
    """Brings sessions to their traps, so many on their way at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(session: TrappedSession) -> None:
        async with gate:
            await session.trap(llm, call_ms=call_ms)
        done()

    async with asyncio.TaskGroup() as group:
        for session in sessions:
            group.create_task(one(session))


async def resume_all(sessions: Sequence[TrappedSession], *, done: Callable[[], None]) -> None:
    """Sends all results at once and reads all sessions to their ends."""

    async def one(session: TrappedSession) -> None:
        await session.resume()
        done()

    async with asyncio.TaskGroup() as group:
        for session in sessions:
            group.create_task(one(session))
