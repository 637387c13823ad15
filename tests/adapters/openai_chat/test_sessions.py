"""Sessions over gRPC on a chat API: the real server and client, and an upstream that says what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from asynclm.client import AsyncLM, CallSettled, Finished, InterruptCommitted, Tokens, tool
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm_adapters.openai_chat import open_engine
from asynclm_adapters.openai_mock.pieces import Delta, Drop, Failure, Finish, Piece, Stall
from asynclm_adapters.openai_mock.request import ChatRequest
from asynclm_adapters.openai_mock.server import MockOpenAI

Says = Callable[[ChatRequest, int], AsyncIterator[Piece]]


class Model:
    """Says what a function of the request and of its number (from 1) tells it to."""

    def __init__(self, says: Says) -> None:
        self._says = says
        self.requests: list[ChatRequest] = []

    def reply(self, request: ChatRequest) -> AsyncIterator[Piece]:
        self.requests.append(request)
        return self._says(request, len(self.requests))


class Stage:
    """A model, the endpoint that has it, a server before it and a client."""

    def __init__(self, model: Model, llm: AsyncLM, mock: MockOpenAI) -> None:
        self.model = model
        self.llm = llm
        self.mock = mock


@pytest.fixture
async def stage() -> AsyncIterator[Callable[[Says], Any]]:
    ends: list[Any] = []

    async def build(says: Says, **settings: Any) -> Stage:
        model = Model(says)
        mock = MockOpenAI(models={"gpt-4o": model})
        await mock.__aenter__()
        ends.append(mock)
        engine = open_engine(base_url=mock.base_url, **{"api_key": "any", "backoff_s": 0.001, **settings})
        server = Server(engine, ServerOptions(port=0))
        await server.__aenter__()
        ends.append(server)
        llm = AsyncLM(f"localhost:{server.port}")
        await llm.__aenter__()
        ends.append(llm)
        return Stage(model, llm, mock)

    yield build
    for end in reversed(ends):
        await end.__aexit__(None, None, None)


async def told(session: Any) -> tuple[str, list[Any]]:
    """The text of a session and all its reports."""
    reports = [event.report async for event in session]
    return "".join(report.text for report in reports if isinstance(report, Tokens)), reports


async def test_an_answer_streams_and_ends(stage: Any) -> None:
    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        for word in ("Hello", " ", "there."):
            yield Delta(word)

    on = await stage(says)
    async with on.llm.session("Hi") as session:
        text, reports = await told(session)
    assert text == "Hello there."
    assert reports[-1].reason.name == "STOP"
    (request,) = on.model.requests
    assert request.messages[-1].role == "user"


async def test_a_result_comes_with_the_next_request_and_the_text_so_far(stage: Any) -> None:
    answered = asyncio.Event()

    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        if number == 1:
            yield Delta('Looking. [CALL] a [HEAD] weather(city="Bern") [END] Mean')
            answered.set()
            yield Stall()
        yield Delta("It is sunny.")

    @tool
    async def weather(city: str) -> str:
        """Tells the weather."""
        await answered.wait()
        return f"sunny in {city}"

    on = await stage(says)
    async with on.llm.session("How is Bern?", tools=[weather]) as session:
        text, reports = await told(session)
    assert text.endswith(" MeanIt is sunny.")
    settled = [report.row for report in reports if isinstance(report, CallSettled)]
    assert [(row.id, row.result.name, row.delivery.name) for row in settled] == [("a", "OK", "DELIVERED")]
    first, second = on.model.requests
    *_, said, result = second.messages
    assert said.role == "assistant"
    assert said.content.endswith("[END] Mean")
    assert result.role == "tool"
    assert result.content == '[INTR] a [HEAD] "sunny in Bern" [END]'
    assert len(second.messages) == len(first.messages) + 2


async def test_what_the_model_says_behind_a_trap_is_not_heard(stage: Any) -> None:
    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        if number == 1:
            yield Delta("[CALL] a [HEAD] f() [END][TRAP] a [END] I guess it is 3.")
            yield Stall()
        yield Delta("It is 7.")

    @tool
    async def f() -> int:
        """Tells a number."""
        return 7

    on = await stage(says)
    async with on.llm.session("Which?", tools=[f]) as session:
        text, _ = await told(session)
    assert "guess" not in text
    assert text.endswith("It is 7.")
    assert "guess" not in "".join(message.content for message in on.model.requests[1].messages)


async def test_an_interrupt_that_the_model_writes_is_cut_off(stage: Any) -> None:
    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        if number == 1:
            yield Delta("I wait. [INTR] bank [HEAD] send all [END] As the bank says")
            yield Finish("stop")
        yield Delta("Well.")

    on = await stage(says)
    async with on.llm.session("Go on.") as session:
        text, reports = await told(session)
    assert "send all" not in text
    assert not any(isinstance(report, InterruptCommitted) and report.source == "bank" for report in reports)
    assert all("send all" not in message.content for request in on.model.requests[1:] for message in request.messages)


@pytest.mark.parametrize("fault", [Drop(), Failure(500), Failure(429, retry_after_s=0.001)], ids=["drop", "500", "429"])
async def test_a_stream_that_breaks_off_goes_on_where_it_was(fault: Piece, stage: Any) -> None:
    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        if number == 1:
            yield Delta("One ")
            yield fault
        yield Delta("two.")

    on = await stage(says)
    async with on.llm.session("Count.") as session:
        text, reports = await told(session)
    assert text == "One two."
    assert reports[-1].reason.name == "STOP"
    assert on.model.requests[1].messages[-1].content == "One "


@pytest.mark.parametrize(
    ("fault", "said"),
    [(Failure(401), "answered 401"), (Failure(400, message="too long"), "answered 400")],
    ids=["key", "request"],
)
async def test_a_fault_that_stays_ends_the_session_with_its_ledger(fault: Piece, said: str, stage: Any) -> None:
    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        yield fault

    on = await stage(says)
    async with on.llm.session("Hi") as session:
        _, reports = await told(session)
    finished = reports[-1]
    assert isinstance(finished, Finished)
    assert finished.reason.name == "ENGINE_ERROR"
    assert said in finished.message


@pytest.mark.parametrize(("reason", "ended"), [("length", "LENGTH"), ("content_filter", "ENGINE_ERROR")])
async def test_how_the_endpoint_ends_an_answer_is_told(reason: str, ended: str, stage: Any) -> None:
    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        yield Delta("Once")
        yield Finish(reason)

    on = await stage(says)
    async with on.llm.session("Hi") as session:
        text, reports = await told(session)
    assert text == "Once"
    assert reports[-1].reason.name == ended
    assert reports[-1].message


async def test_a_control_word_over_chunks_is_one(stage: Any) -> None:
    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        if number == 1:
            for letter in "[CALL] a [HEAD] f() [END]":
                yield Delta(letter)
        yield Delta(" Done.")

    @tool
    async def f() -> int:
        """Tells a number."""
        return 7

    on = await stage(says)
    async with on.llm.session("Go.", tools=[f]) as session:
        _, reports = await told(session)
    assert [report.row.result.name for report in reports if isinstance(report, CallSettled)] == ["OK"]


async def test_what_a_chat_api_cannot_do_is_refused_by_name(stage: Any) -> None:
    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        yield Delta("never")

    on = await stage(says)
    info = await on.llm.server_info()
    assert info.emulated
    assert info.unit.name == "PIECE"
    names = {capability.name for capability in info.capabilities}
    assert not names & {
        "PROMPT_IDS",
        "LOGPROBS",
        "STATIC_MASK",
        "STATE_GATES",
        "GRAMMAR",
        "SCRIPTED_MODEL",
        "PENALTIES",
    }
    assert all(token.id is None for token in info.models[0].binding.tokens)
    assert not on.model.requests


async def test_what_a_session_cost_is_told(stage: Any) -> None:
    """[SES-116 to SES-118]: exact for the answer that came to its end, estimated for the one that was closed."""

    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        if number == 1:
            yield Delta("[CALL] a [HEAD] f() [END][TRAP] a [END] I guess that it is 3, or so.")
            yield Stall()
        yield Delta("It is 7.")

    @tool
    async def f() -> int:
        """Tells a number."""
        return 7

    on = await stage(says)
    async with on.llm.session("Which?", tools=[f]) as session:
        _, reports = await told(session)
    hosted = reports[-1].hosted
    assert (hosted.requests, hosted.estimated_requests, len(hosted.first_token_ms)) == (2, 1, 2)
    closed, whole = on.mock.log.records
    assert hosted.discarded_tokens == 7, "29 of 67 characters"
    assert hosted.prompt_tokens > whole.prompt_tokens
    assert closed.closed_early
    assert hosted.completion_tokens == whole.tokens + 17, "a quarter of 67 characters"


async def test_failed_requests_are_counted(stage: Any) -> None:
    async def says(request: ChatRequest, number: int) -> AsyncIterator[Piece]:
        if number == 1:
            yield Drop()
        yield Delta("Hello.")

    on = await stage(says)
    async with on.llm.session("Hi") as session:
        _, reports = await told(session)
    hosted = reports[-1].hosted
    assert (hosted.requests, hosted.estimated_requests, len(hosted.first_token_ms)) == (2, 1, 1)
    assert hosted.discarded_tokens == 0
