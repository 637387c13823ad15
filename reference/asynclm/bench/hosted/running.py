"""Runs one task in one column, and says when its tokens came."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI

from asynclm.bench.hosted.functions import Functions
from asynclm.bench.hosted.policy import TRAP, TRAP_ALL, Habit
from asynclm.bench.hosted.workload import Function, Task
from asynclm.client import AsyncLM, CallEmitted, InterruptCommitted, Session, Tokens, TrapEntered


class WrongRunError(RuntimeError):
    """A run did not say or call what its task asks for: its times mean nothing."""


@dataclass(frozen=True, slots=True)
class Column:
    """One way to do a task.

    Attributes:
        name: for metrics.
        title: for people.
        habit: how the model calls.
        options: of the session, beside its prompt; None: ordinary tool calling.
    """

    name: str
    title: str
    habit: Habit
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """One run of one task, in milliseconds.

    Attributes:
        last_ms: from the request to the last token.
        first_to_last_ms: from the first token to the last, as the literature counts.
        said: what the model said to its user.
        bodies: of the calls that it wrote in CML.
        trap_tokens: of the traps that it wrote.
        side_by_side: how many of its blocks stand right behind another one.
    """

    last_ms: float
    first_to_last_ms: float
    said: str
    bodies: str = ""
    trap_tokens: int = 0
    side_by_side: int = 0


class _Watch:
    """Notes when tokens come."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.first: float | None = None
        self.last = self.began

    def token(self) -> None:
        self.last = time.perf_counter()
        if self.first is None:
            self.first = self.last

    def times(self, said: str, bodies: str = "", trap_tokens: int = 0, side_by_side: int = 0) -> Times:
        first = self.last if self.first is None else self.first
        return Times(
            (self.last - self.began) * 1000, (self.last - first) * 1000, said, bodies, trap_tokens, side_by_side
        )


async def session(llm: AsyncLM, task: Task, options: Mapping[str, Any]) -> Times:
    """The task as a session: later messages are interrupts, and the functions are the server's.

    Raises:
        WrongRunError: the session ended otherwise than by the end of the answer.
    """
    said, bodies, traps, side_by_side = "", "", 0, 0
    behind_block = False
    watch = _Watch()
    async with llm.session(task.texts[0], **options) as opened, _later(opened, task, watch.began):
        async for event in opened:
            match event.report:
                case Tokens(text=text, in_block=None) if text:
                    watch.token()
                    said += text
                    behind_block = False
                case Tokens(text=text):
                    watch.token()
                    bodies += text
                case CallEmitted():
                    side_by_side += behind_block
                    behind_block = True
                case TrapEntered(trap=trap, implicit=False):
                    traps += len(TRAP if trap.bare else TRAP_ALL)
                    side_by_side += behind_block
                case InterruptCommitted():
                    behind_block = False
        result = await opened.result()
    if result.finished.reason.name != "STOP":
        raise WrongRunError(f"{task.id} ended {result.finished.reason.name}: {result.finished.message}")
    return watch.times(said, bodies, traps, side_by_side)


@contextlib.asynccontextmanager
async def _later(opened: Session, task: Task, began: float) -> AsyncIterator[None]:
    """Says the user's later messages when they are due."""

    async def say() -> None:
        for at, text in zip(task.arrivals_ms[1:], task.texts[1:], strict=True):
            await _until(began, at)
            await opened.interrupt(text)

    saying = asyncio.create_task(say())
    try:
        yield
        await saying
    finally:
        saying.cancel()


async def ordinary(client: AsyncOpenAI, task: Task, habit: Habit, functions: Functions) -> Times:
    """The task by ordinary tool calling: requests until a reply has no calls, one user message after another."""
    tools = [_declared(function) for function in functions.functions.values()]
    messages: list[dict[str, Any]] = []
    said: list[str] = []
    watch = _Watch()
    for at, text in zip(task.arrivals_ms, task.texts, strict=True):
        await _until(watch.began, at)
        messages.append({"role": "user", "content": text})
        while True:
            spoken, calls = await _reply(client, habit, messages, tools, watch)
            said.append(spoken)
            messages.append({"role": "assistant", "content": spoken or None} | ({"tool_calls": calls} if calls else {}))
            if not calls:
                break
            messages += await asyncio.gather(*(_run(functions, call) for call in calls))
    return watch.times("".join(said))


async def _reply(
    client: AsyncOpenAI, habit: Habit, messages: Sequence[Any], tools: Sequence[Any], watch: _Watch
) -> tuple[str, list[dict[str, Any]]]:
    """One request: what was said, and the calls."""
    request: dict[str, Any] = {"model": habit.value, "messages": messages, "tools": tools, "stream": True}
    spoken = ""
    calls: list[dict[str, Any]] = []
    async for chunk in await client.chat.completions.create(**request):
        for choice in chunk.choices:
            if choice.delta.content:
                watch.token()
                spoken += choice.delta.content
            for part in choice.delta.tool_calls or ():
                watch.token()
                if part.id is not None:
                    function = {"name": part.function.name, "arguments": ""}
                    calls.append({"id": part.id, "type": "function", "function": function})
                calls[part.index]["function"]["arguments"] += part.function.arguments or ""
    return spoken, calls


async def _run(functions: Functions, call: Mapping[str, Any]) -> dict[str, Any]:
    made = call["function"]
    result = await functions.run(made["name"], json.loads(made["arguments"]))
    return {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)}


def _declared(function: Function) -> dict[str, Any]:
    about = f"{function.description} Takes about {function.expected_ms} ms."
    return {
        "type": "function",
        "function": {"name": function.name, "description": about, "parameters": dict(function.parameters)},
    }


async def _until(began: float, at_ms: float) -> None:
    await asyncio.sleep(max(0.0, began + at_ms / 1000 - time.perf_counter()))


def check(task: Task, times: Times) -> None:
    """Sees that a run has said all of its answer.

    Raises:
        WrongRunError: something is missing, or twice there.
    """
    for answer in task.answers:
        sentence = "".join(answer.tokens)
        if times.said.count(sentence) != 1:
            raise WrongRunError(f"{task.id} says {times.said.count(sentence)} times:{sentence}")
