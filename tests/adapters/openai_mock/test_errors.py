"""Errors as the real client raises them, and what the API refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from tests.adapters.openai_mock.talking import MESSAGES, Load, open_stream, read_text, said

from asynclm_adapters.openai_mock.clock import ManualClock
from asynclm_adapters.openai_mock.server import MockOpenAI, MockOptions

USER = MESSAGES[0]


def calling(*ids: str) -> dict[str, Any]:
    function = {"name": "interrupt", "arguments": "{}"}
    return {"role": "assistant", "tool_calls": [{"id": i, "type": "function", "function": function} for i in ids]}


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "done"}


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, openai.BadRequestError, None),
        (401, openai.AuthenticationError, "invalid_api_key"),
        (403, openai.PermissionDeniedError, "unsupported_country_region_territory"),
        (404, openai.NotFoundError, None),
        (409, openai.ConflictError, None),
        (422, openai.UnprocessableEntityError, None),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, None),
        (503, openai.InternalServerError, None),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_the_first_delta_is_the_status(
    client: AsyncOpenAI, load: Load, status: int, kind: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    model = load({"error": status}, "after")
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert await said(client, model) == ("after", "stop")


async def test_an_error_in_mid_stream_is_an_event(client: AsyncOpenAI, load: Load, mock: MockOpenAI) -> None:
    model = load("One", {"error": 500, "message": "Out of order.", "code": "broken"}, " two")
    stream = await open_stream(client, model)
    await read_text(stream, 3)
    with pytest.raises(openai.APIError, match=r"Out of order\.") as caught:
        await anext(stream)
    assert caught.value.code == "broken"
    assert not isinstance(caught.value, openai.APIStatusError)
    assert await said(client, model) == (" two", "stop")
    assert [record.error for record in mock.log.records] == ["Out of order.", None]


async def test_the_client_retries_what_says_when_to_come_back(mock: MockOpenAI, load: Load) -> None:
    async with AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=2) as client:
        model = load({"error": 429, "retry_after": 0.001}, {"error": 503, "retry_after": 0.001}, "One")
        assert await said(client, model) == ("One", "stop")
    assert [record.status for record in mock.log.records] == [429, 503, 200]


async def test_a_429_says_when_to_come_back(client: AsyncOpenAI, load: Load) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await open_stream(client, load({"error": 429, "retry_after": 1.5}))
    headers = caught.value.response.headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("2", "1500")
    assert headers["x-ratelimit-remaining-requests"] == "0"


async def test_rate_limits_refill_with_time() -> None:
    clock = ManualClock()
    options = MockOptions(requests_per_minute=2, tokens_per_minute=1000)
    async with (
        MockOpenAI(options, clock=clock) as mock,
        AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client,
    ):
        ask = client.chat.completions.with_raw_response.create
        first = await ask(model="echo", messages=MESSAGES)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-remaining-tokens"] == "991"
        await ask(model="echo", messages=MESSAGES)
        with pytest.raises(openai.RateLimitError, match="requests per min") as caught:
            await ask(model="echo", messages=MESSAGES)
        assert caught.value.type == "requests"
        assert caught.value.response.headers["retry-after"] == "30"
        clock.advance(30)
        await ask(model="echo", messages=MESSAGES)
        clock.advance(60)
        with pytest.raises(openai.RateLimitError, match="tokens per min"):
            await ask(model="echo", messages=MESSAGES, max_tokens=1000)


@pytest.fixture
async def locked() -> AsyncIterator[MockOpenAI]:
    async with MockOpenAI(MockOptions(api_key="sk-right-key")) as server:
        yield server


async def test_keys(locked: MockOpenAI) -> None:
    async with AsyncOpenAI(base_url=locked.base_url, api_key="sk-right-key", max_retries=0) as client:
        assert await said(client, "echo") == ("Hello there", "stop")
    async with AsyncOpenAI(base_url=locked.base_url, api_key="sk-other-key", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match=r"sk-o\*\*\*-key") as caught:
            await said(client, "echo")
        assert caught.value.code == "invalid_api_key"
    async with httpx2.AsyncClient(base_url=locked.url) as http:
        for path in ("/v1/models", "/admin/requests"):
            assert (await http.get(path)).status_code == 401


@pytest.mark.parametrize("model", ["gpt-none", "script:none", "script:"])
async def test_an_unknown_model(client: AsyncOpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist") as caught:
        await said(client, model)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve(model)


async def test_a_prompt_beyond_the_context() -> None:
    async with (
        MockOpenAI(MockOptions(context_length=20)) as mock,
        AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client,
    ):
        assert await said(client, "echo", max_tokens=11) == ("Hello there", "stop")
        with pytest.raises(openai.BadRequestError, match="maximum context length is 20") as caught:
            await said(client, "echo", max_tokens=12)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"text"'])
async def test_a_body_that_is_no_json_object(http: httpx2.AsyncClient, body: bytes) -> None:
    response = await http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert "could not parse the JSON body" in response.json()["error"]["message"]


async def test_other_urls_and_methods(http: httpx2.AsyncClient) -> None:
    for method, path, status in (("GET", "/v1/other", 404), ("GET", "/v1/chat/completions", 405)):
        response = await http.request(method, path)
        assert response.status_code == status
        assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": None}, None, None),
        ({"model": 3}, "model", "invalid_type"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", None),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0].type", "invalid_value"),
        ({"messages": [USER, result("a")]}, "messages.[1].role", None),
        ({"messages": [calling("a"), USER]}, "messages.[1].role", None),
        ({"messages": [calling("a", "b"), result("a")]}, "messages.[2].role", None),
        ({"messages": [calling("a"), result("b")]}, "messages.[1].role", None),
        ({"messages": [calling("a" * 41)]}, "messages[0].tool_calls[0].id", "string_above_max_length"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"temperature": 2.5}, "temperature", "decimal_above_maximum_value"),
        ({"top_p": -1}, "top_p", "decimal_below_minimum_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_minimum_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_tokens": 20_000}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "invalid_parameter_combination"),
        ({"n": 2}, "n", "unsupported_value"),
        ({"logprobs": True}, "logprobs", "unsupported_value"),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
        ({"stop": [1]}, "stop[0]", "invalid_type"),
        ({"tools": []}, "tools", "empty_array"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        ({"temprature": 1}, None, None),
    ],
)
async def test_a_request_that_the_api_refuses(
    client: AsyncOpenAI, change: dict[str, Any], param: str | None, code: str | None
) -> None:
    body = {"model": "echo", "messages": MESSAGES, **change}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/chat/completions", cast_to=object, body=body)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"


async def test_a_request_with_everything_that_the_api_takes(client: AsyncOpenAI, mock: MockOpenAI) -> None:
    text: list[Any] = [{"type": "text", "text": "Hello"}, {"type": "text", "text": " all"}]
    history: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "me", "content": "Hi"},
        calling("a", "b"),
        result("b"),
        result("a"),
        {"role": "user", "content": text},
    ]
    tool: Any = {"type": "function", "function": {"name": "interrupt", "parameters": {"type": "object"}}}
    more = {"temperature": 0, "seed": 1, "tools": [tool], "tool_choice": "none", "user": "u", "stop": ["\n"]}
    assert await said(client, "echo", **{**more, "messages": history}) == ("Hello all", "stop")
    record = mock.log.records[0]
    assert record.session == "u"
    assert [call.id for call in record.messages[2].tool_calls] == ["a", "b"]
