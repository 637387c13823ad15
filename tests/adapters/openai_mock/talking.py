"""The real client's streams, read in the ways that tests need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

MESSAGES: list[Any] = [{"role": "user", "content": "Hello there"}]

Load = Callable[..., str]
"""Loads pieces as a script, and returns the model to ask for."""


async def open_stream(client: AsyncOpenAI, model: str, **more: Any) -> AsyncStream[ChatCompletionChunk]:
    options: dict[str, Any] = {"messages": MESSAGES, **more}
    stream: AsyncStream[ChatCompletionChunk] = await client.chat.completions.create(model=model, stream=True, **options)
    return stream


async def said(client: AsyncOpenAI, model: str, **more: Any) -> tuple[str, str | None]:
    """What a streamed reply says, and how it ended."""
    text, reason = "", None
    async for chunk in await open_stream(client, model, **more):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return text, reason


async def read_text(stream: AsyncStream[ChatCompletionChunk], characters: int) -> None:
    """Reads on until so many characters have come."""
    got = 0
    while got < characters:
        chunk = await anext(stream)
        got += sum(len(choice.delta.content or "") for choice in chunk.choices)
