"""What the real client makes of replies: chunks, usage, ends, limits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from openai import AsyncOpenAI
from tests.adapters.openai_mock.talking import MESSAGES, Load, open_stream, said

from asynclm_adapters.openai_mock.pieces import CallDelta, Delta, Finish, Piece
from asynclm_adapters.openai_mock.request import ChatRequest
from asynclm_adapters.openai_mock.server import MockOpenAI


async def test_a_stream_is_a_role_then_each_delta_then_an_end(client: AsyncOpenAI, load: Load) -> None:
    chunks = [chunk async for chunk in await open_stream(client, load("One", " two", "", " …\ud83d\ude00"))]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", *[None] * 5]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "One", " two", "", " …😀", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [*[None] * 5, "stop"]
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_as_it_is_on_the_wire(http: httpx2.AsyncClient, load: Load) -> None:
    body = {"model": load("Hi"), "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    response = await http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-request-id"].startswith("req_")
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert [chunk["usage"] is None for chunk in chunks] == [True, True, True, False]
    assert chunks[0]["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "", "refusal": None},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert chunks[2]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert chunks[3]["choices"] == []


async def test_usage_comes_in_a_chunk_of_its_own(client: AsyncOpenAI, load: Load) -> None:
    model = load("One", " two")
    chunks = [chunk async for chunk in await open_stream(client, model, stream_options={"include_usage": True})]
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 2, 11)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 0


async def test_a_reply_in_one_object(client: AsyncOpenAI, load: Load) -> None:
    completion = await client.chat.completions.create(model=load("One", " two"), messages=MESSAGES)
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content == "One two"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 2
    assert completion._request_id is not None


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter", "tool_calls"])
@pytest.mark.parametrize("stream", [True, False])
async def test_ends(client: AsyncOpenAI, load: Load, reason: str, stream: bool) -> None:
    model = load("One", {"finish": reason}, "two")
    if stream:
        assert await said(client, model) == ("One", reason)
        assert await said(client, model) == ("two", "stop")
    else:
        completion = await client.chat.completions.create(model=model, messages=MESSAGES)
        assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == ("One", reason)


async def test_a_stop_sequence_ends_the_reply_before_itself(client: AsyncOpenAI, load: Load) -> None:
    model = load("One <", "<stop>", "> two", "three")
    assert await said(client, model, stop=["never", "<<stop>>"]) == ("One ", "stop")
    assert await said(client, model) == ("three", "stop")


async def test_what_only_looks_like_a_stop_sequence_is_sent(client: AsyncOpenAI, load: Load) -> None:
    assert await said(client, load("One <", "<sto", "<<"), stop="<<stop>>") == ("One <<sto<<", "stop")


async def test_a_model_that_ignores_stop_sequences(client: AsyncOpenAI, load: Load) -> None:
    assert await said(client, load("One stop two", ignore_stop=True), stop="stop") == ("One stop two", "stop")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_delta_that_does_not_fit_waits_for_the_next_request(client: AsyncOpenAI, load: Load, name: str) -> None:
    model = load("One", " two", " three four")
    assert await said(client, model, **{name: 3}) == ("One two", "length")
    assert await said(client, model, **{name: 3}) == (" three four", "stop")


async def test_prefixes_of_prompts_are_cached_from_1024_tokens_in_steps_of_128(client: AsyncOpenAI) -> None:
    async def cached(words: int, end: str = "") -> int | None:
        content = "a" + " b" * (words - 1) + end
        reply = await client.chat.completions.create(model="echo", messages=[{"role": "user", "content": content}])
        assert reply.usage is not None
        assert reply.usage.prompt_tokens == words + 7 + bool(end)
        assert reply.usage.prompt_tokens_details is not None
        return reply.usage.prompt_tokens_details.cached_tokens

    assert await cached(900) == 0
    assert await cached(900) == 0, "below the least"
    assert await cached(1300) == 0
    assert await cached(1300) == 1280
    assert await cached(1300, " c") == 1280
    assert await cached(1100) == 1024, "a prefix of it"
    assert await cached(3000) == 1280
    assert await cached(3000) == 2944


async def test_models(client: AsyncOpenAI, load: Load) -> None:
    load("One")
    listed = await client.models.list()
    assert [model.id for model in listed.data] == ["echo", "script:s"]
    assert (await client.models.retrieve("script:s")).object == "model"


class Counting:
    """A model that says its name's number of words."""

    async def reply(self, request: ChatRequest) -> AsyncIterator[Piece]:
        for number in range(int(request.model.partition(":")[2])):
            yield Delta(f"{number} ", tokens=10)
        yield Finish("length")


async def test_a_model_of_ones_own() -> None:
    async with (
        MockOpenAI(models={"count:": Counting()}) as mock,
        AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client,
    ):
        assert await said(client, "count:3") == ("0 1 2 ", "length")
        assert await said(client, "echo") == ("Hello there", "stop")
        assert [record.tokens for record in mock.log.records] == [30, 2]


class Calling:
    """A model that calls two functions, the first in two chunks."""

    async def reply(self, request: ChatRequest) -> AsyncIterator[Piece]:
        yield CallDelta(0, "call_1", "look_up", tokens=3)
        yield CallDelta(0, arguments='{"word":"tide"}', tokens=4)
        yield CallDelta(1, "call_2", "log", "{}", tokens=2)
        yield Finish("tool_calls")


async def test_tool_calls_stream_as_the_api_streams_them() -> None:
    async with (
        MockOpenAI(models={"m": Calling()}) as mock,
        AsyncOpenAI(base_url=mock.base_url, api_key="any") as client,
    ):
        stream = await open_stream(client, "m", stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        parts = [part for chunk in chunks for choice in chunk.choices for part in choice.delta.tool_calls or ()]
        names = [(part.index, part.id, part.function.name) for part in parts if part.function is not None]
        assert names == [(0, "call_1", "look_up"), (0, None, None), (1, "call_2", "log")]
        arguments = [part.function.arguments for part in parts if part.function is not None]
        assert arguments == ["", '{"word":"tide"}', "{}"]
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 9
        (record,) = mock.log.records
        assert [(call.id, call.arguments) for call in record.tool_calls] == [
            ("call_1", '{"word":"tide"}'),
            ("call_2", "{}"),
        ]


async def test_tool_calls_in_one_object_and_with_too_little_room() -> None:
    async with (
        MockOpenAI(models={"m": Calling()}) as mock,
        AsyncOpenAI(base_url=mock.base_url, api_key="any") as client,
    ):
        whole = await client.chat.completions.create(model="m", messages=MESSAGES)
        message = whole.choices[0].message
        assert message.content is None
        assert message.tool_calls is not None
        assert [call.id for call in message.tool_calls] == ["call_1", "call_2"]
        cut = await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=7)
        assert cut.choices[0].finish_reason == "length"
        assert [call.id for call in cut.choices[0].message.tool_calls or ()] == ["call_1"]
