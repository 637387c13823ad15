"""Everything a client asks a server besides sessions, and the errors that it gets."""

from __future__ import annotations

import grpc
import pytest
from tests.client.player import Control, playing
from tests.client.scripts import EOS, TRAP, call

from asynclm.client import (
    AsyncLM,
    FinishReason,
    InvalidRequestError,
    NotFoundError,
    Tokens,
    ToolSpec,
    UnavailableError,
    UnsupportedError,
)
from asynclm.session.state import State
from asynclm.v1 import control_pb2, types_pb2
from asynclm.wire import Capability


async def test_server_info(llm: AsyncLM) -> None:
    info = await llm.server_info()
    assert [model.name for model in info.models] == ["scripted"]
    assert [spec.name for spec in info.tools] == ["double"]
    assert Capability.SCRIPTED_MODEL in info.capabilities


async def test_sessions_are_listed_looked_at_and_aborted(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("a", "slow()"), *TRAP, EOS])
    slow = ToolSpec(name="slow")
    async with llm.session("Hi", model="script:s", tools=[slow], labels={"who": "me"}, credit=100) as session:
        await session.probe()
        (summary,) = await llm.sessions()
        assert (summary.session_id, summary.state, summary.pending_calls) == (session.session_id, State.TRAPPED, 1)
        assert summary.labels == {"who": "me"}
        detail = await llm.get_session(session.session_id)
        assert [row.id for row in detail.calls] == ["a"]
        assert await llm.abort([session.session_id, "nobody"], reason="enough") == [session.session_id]
        result = await session.result()
        assert (result.reason, result.finished.message) == (FinishReason.ABORTED, "enough")
        assert await llm.abort(session.session_id) == []


async def test_every_page_of_sessions_is_read() -> None:
    def summary(name: str) -> control_pb2.SessionSummary:
        return control_pb2.SessionSummary(session_id=name, state=types_pb2.STATE_IDLE)

    pages = Control(
        [
            control_pb2.ListSessionsResponse(sessions=[summary("a"), summary("b")], next_page_token="1"),
            control_pb2.ListSessionsResponse(sessions=[summary("c")]),
        ]
    )
    async with playing(control=pages) as port, AsyncLM(f"127.0.0.1:{port}", token="s3cret") as llm:
        assert [s.session_id for s in await llm.sessions()] == ["a", "b", "c"]
    assert [m["authorization"] for m in pages.metadata] == ["Bearer s3cret"] * 2


async def test_unknown_session(llm: AsyncLM) -> None:
    with pytest.raises(NotFoundError, match="no session of that id") as refused:
        await llm.get_session("nobody")
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SESSION")


async def test_unknown_model_names_those_there_are(llm: AsyncLM) -> None:
    with pytest.raises(NotFoundError, match="gpt-9") as refused:
        await llm.session("Hi", model="gpt-9").result()
    assert (refused.value.reason, refused.value.field) == ("UNKNOWN_MODEL", "start.model")
    with pytest.raises(NotFoundError, match="gpt-9"):
        async with llm.session("Hi", model="gpt-9"):
            pass
    with pytest.raises(NotFoundError, match="gpt-9"):
        await llm.generate("Hi", model="gpt-9")


async def test_a_refused_field_is_named(llm: AsyncLM) -> None:
    await llm.load_script("s", ["a", EOS])
    session = llm.session("Hi", model="script:s", max_new_tokens=10**9)
    with pytest.raises(InvalidRequestError, match="allowed: 1 to") as refused:
        await session.result()
    assert refused.value.field == "start.limits.max_new_tokens"
    with pytest.raises(InvalidRequestError):
        await session.grant(1)


async def test_generate_is_awaited_or_iterated(llm: AsyncLM) -> None:
    await llm.load_script("s", ["One ", *call("a", "double(n=2)"), *TRAP, "two.", EOS])
    result = await llm.generate("Hi", model="script:s")
    assert (result.text, result.reason) == ("One two.", FinishReason.STOP)
    generation = llm.generate("Hi", model="script:s")
    text = "".join([e.report.text async for e in generation if isinstance(e.report, Tokens) and not e.report.in_block])
    assert text == "One two."


async def test_leaving_a_generation_ends_its_session(llm: AsyncLM) -> None:
    await llm.load_script("s", ["x" * 400, EOS])
    async with llm.generate("Hi", model="script:s", granularity="word") as generation:
        session_id = generation.session_id
    detail = await llm.get_session(session_id)
    assert detail.summary.session_id == session_id


async def test_a_bad_script_is_refused(llm: AsyncLM) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await llm.load_script("a b", ["x"])
    assert refused.value.field == "id"
    with pytest.raises(NotFoundError, match="nobody"):
        await llm.advance("nobody", 5)


async def test_reset_ends_sessions_on_scripts(llm: AsyncLM) -> None:
    await llm.load_script("s", ["abc", EOS])
    async with llm.session("Hi", model="script:s", credit=0) as session:
        await llm.reset_scripts()
        assert (await session.result()).reason is FinishReason.ABORTED
    with pytest.raises(NotFoundError):
        await llm.session("Hi", model="script:s").result()


async def test_a_server_without_the_rpc() -> None:
    async with playing(control=Control([])) as port, AsyncLM(f"127.0.0.1:{port}") as llm:
        with pytest.raises(UnsupportedError):
            await llm.server_info()
        with pytest.raises(UnsupportedError):
            await llm.load_script("s", ["x"])
        with pytest.raises(UnsupportedError):
            await llm.session("Hi").result()


async def test_no_server_names_the_address() -> None:
    async with AsyncLM("127.0.0.1:1") as llm:
        for attempt in (llm.server_info(), llm.session("Hi").result(), llm.generate("Hi").result()):
            with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
                await attempt
