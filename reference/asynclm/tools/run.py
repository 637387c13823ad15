"""Runs one bound call to its end: value, coroutine or generator in, one status and payload out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

from asynclm.cml.control import Status
from asynclm.tools.context import Partial, Progress, Result, ToolContext, render_update
from asynclm.tools.errors import ToolError, ToolErrorType, exception_payload
from asynclm.tools.json_text import to_json_text
from asynclm.tools.threads import ToolThreads
from asynclm.tools.tool import Bound, Tool, ToolKind


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: OK with its result, or ERROR with an error payload; JSON text."""

    status: Status
    payload: str

    @classmethod
    def of(cls, error: BaseException) -> Outcome:
        """The outcome of whatever was raised."""
        return cls(Status.ERROR, exception_payload(error))


async def run_tool(tool: Tool, arguments_json: str, context: ToolContext, threads: ToolThreads) -> Outcome:
    """Runs one call. Nothing that the tool does can make this raise.

    Raises:
        asyncio.CancelledError: this coroutine was cancelled; the tool has been told.
    """
    try:
        bound = tool.bind(arguments_json, context)
        run = _RUN[tool.kind]
        return Outcome(Status.OK, await run(bound, context, threads))
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        message = "the tool was cancelled from within: something that it awaited was cancelled"
        return Outcome.of(ToolError(message, type=ToolErrorType.EXCEPTION, retryable=True))
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a tool would end the executor's event loop
        return Outcome.of(error)


async def _run_sync(bound: Bound, context: ToolContext, threads: ToolThreads) -> str:
    # Serialised in the thread too: a large result would stop the loop, an endless iterator for ever.
    return await threads.run(lambda: to_json_text(bound()))


async def _run_sync_generator(bound: Bound, context: ToolContext, threads: ToolThreads) -> str:
    return await threads.run(lambda: _drain(bound(), context))


def _drain(generator: Generator[object, None, object], context: ToolContext) -> str:
    try:
        for update in generator:
            if isinstance(update, Result):
                return to_json_text(update.value)
            _emit(update, context)
            context.raise_if_cancelled()
        return "null"
    finally:
        generator.close()


async def _run_async(bound: Bound, context: ToolContext, threads: ToolThreads) -> str:
    coroutine: Awaitable[object] = bound()
    return to_json_text(await coroutine)


async def _run_async_generator(bound: Bound, context: ToolContext, threads: ToolThreads) -> str:
    generator: AsyncGenerator[object, None] = bound()
    try:
        async for update in generator:
            if isinstance(update, Result):
                return to_json_text(update.value)
            _emit(update, context)
        return "null"
    finally:
        await generator.aclose()


def _emit(update: object, context: ToolContext) -> None:
    if not isinstance(update, Partial | Progress):
        kind = type(update).__name__
        raise ToolError(
            f"the tool yielded a {kind}; it may yield Partial, Progress and Result", type=ToolErrorType.INVALID_RESULT
        )
    context.emit(*render_update(update))


_RUN: dict[ToolKind, Callable[[Bound, ToolContext, ToolThreads], Awaitable[Any]]] = {
    ToolKind.SYNC: _run_sync,
    ToolKind.SYNC_GENERATOR: _run_sync_generator,
    ToolKind.ASYNC: _run_async,
    ToolKind.ASYNC_GENERATOR: _run_async_generator,
}
