"""Faults of the connection and of the stream, and what the server notices of the client."""

from __future__ import annotations

import asyncio
import json

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from tests.adapters.openai_mock.talking import MESSAGES, Load, open_stream, read_text, said

from asynclm_adapters.openai_mock.clock import ManualClock
from asynclm_adapters.openai_mock.script_json import read_script
from asynclm_adapters.openai_mock.server import MockOpenAI, MockOptions


async def test_a_connection_cut_in_mid_stream(client: AsyncOpenAI, load: Load, mock: MockOpenAI) -> None:
    model = load("One", {"drop": True}, " two")
    stream = await open_stream(client, model)
    await read_text(stream, 3)
    with pytest.raises(openai.APIConnectionError):
        await anext(stream)
    assert await said(client, model) == (" two", "stop")
    await mock.log.idle()
    assert [(record.dropped, record.closed_early) for record in mock.log.records] == [(True, False), (False, False)]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_connection_cut_before_the_response(client: AsyncOpenAI, load: Load, stream: bool) -> None:
    model = load({"drop": True}, "One")
    with pytest.raises(openai.APIConnectionError):
        await client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
    assert await said(client, model) == ("One", "stop")


async def test_a_stalled_stream_ends_with_the_client(client: AsyncOpenAI, load: Load, mock: MockOpenAI) -> None:
    model = load("One", {"stall": True}, " two")
    stream = await open_stream(client, model)
    await read_text(stream, 3)
    assert mock.log.records[0].open
    await stream.close()
    await mock.log.idle()
    record = mock.log.records[0]
    assert (record.closed_early, record.text, record.tokens, record.finish_reason) == (True, "One", 1, None)
    assert await said(client, model) == (" two", "stop")


async def test_the_server_ends_while_a_stream_is_stalled() -> None:
    async with MockOpenAI() as mock:
        mock.scripts.load(read_script("s", {"pieces": ["One", {"stall": True}]}))
        async with AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client:
            stream = await open_stream(client, "script:s")
            await read_text(stream, 3)
            await mock.__aexit__()
            with pytest.raises(openai.APIConnectionError):
                await anext(stream)


async def test_a_chunk_that_is_not_json(client: AsyncOpenAI, load: Load) -> None:
    model = load("One", {"raw": "data: {not json\n\n"}, " two")
    stream = await open_stream(client, model)
    await read_text(stream, 3)
    with pytest.raises(json.JSONDecodeError):
        await anext(stream)
    await stream.close()


async def test_a_reply_that_is_not_json(http: httpx2.AsyncClient, load: Load) -> None:
    body = {"model": load({"raw": "<html>"}), "messages": MESSAGES}
    assert (await http.post("/v1/chat/completions", json=body)).text == "<html>"


async def test_chunks_without_choices(client: AsyncOpenAI, load: Load) -> None:
    chunks = [chunk async for chunk in await open_stream(client, load("One", {"empty_choices": True}, " two"))]
    assert [len(chunk.choices) for chunk in chunks] == [1, 1, 0, 1, 1]
    completion = await client.chat.completions.create(model=load({"empty_choices": True}), messages=MESSAGES)
    assert completion.choices == []


async def test_tokens_come_at_their_time() -> None:
    clock = ManualClock()
    async with (
        MockOpenAI(MockOptions(ttft_ms=300, tpot_ms=10), clock=clock) as mock,
        AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client,
    ):
        mock.scripts.load(read_script("s", {"pieces": ["One", " two", " three four", " five"]}))
        deadlines = []
        model_said = said(client, "script:s")

        async def move() -> None:
            while len(deadlines) < 4:
                deadlines.append(round(await clock.next_deadline(), 6))
                clock.advance(deadlines[-1] - clock.now() + 0.001)

        (text, _), _ = await asyncio.gather(model_said, move())
    assert text == "One two three four five"
    assert deadlines == [0.3, 0.31, 0.33, 0.34]
    first = mock.log.records[0].first_token_s
    assert first is not None
    assert round(first, 6) == 0.301


async def test_a_client_that_goes_before_the_first_token() -> None:
    clock = ManualClock()
    async with MockOpenAI(MockOptions(ttft_ms=300), clock=clock) as mock:
        mock.scripts.load(read_script("s", {"pieces": ["One"]}))
        async with AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client:
            asked = asyncio.create_task(said(client, "script:s"))
            await clock.next_deadline()
            asked.cancel()
            await mock.log.idle()
            record = mock.log.records[0]
            assert (record.closed_early, record.status, record.first_token_s) == (True, 0, None)
            again = asyncio.create_task(said(client, "script:s"))
            clock.advance(1)
            await clock.next_deadline()
            clock.advance(1)
            assert await again == ("One", "stop")
