"""Sessions on a real server: events, the end, and what a client may say in between."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.scripts import EOS, TRAP, call

from asynclm.client import (
    AsyncLM,
    CallDispatched,
    CallSettled,
    Finished,
    FinishReason,
    InterruptCommitted,
    InterruptRejected,
    InterruptRejectedError,
    LimitError,
    ReceivedEvent,
    Session,
    SessionClosedError,
    Started,
    StateChanged,
    Tokens,
    TrapEntered,
)
from asynclm.cml.toolspec import ToolSpec
from asynclm.session.state import CancelOutcome, Delivery, RejectReason, Result, State

SLOW = ToolSpec(name="slow")
STUBBORN = ToolSpec(name="stubborn", cancellable=False)


async def until(session: Session, kind: type) -> ReceivedEvent:
    async for event in session:
        if isinstance(event.report, kind):
            return event
    raise AssertionError(f"no {kind.__name__}")


async def test_iteration_opens_gives_every_event_and_closes(llm: AsyncLM) -> None:
    await llm.load_script("s", ["Hello, ", "world.", EOS])
    session = llm.session("Hi", model="script:s")
    events = [event async for event in session]
    assert isinstance(events[0].report, Started)
    assert isinstance(events[-1].report, Finished)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert "".join(e.report.text for e in events if isinstance(e.report, Tokens)) == "Hello, world."
    assert [event async for event in session] == []


async def test_the_result_comes_whether_or_not_anybody_iterates(llm: AsyncLM) -> None:
    await llm.load_script("s", ["Hello.", EOS])
    result = await llm.session("Hi", model="script:s").result()
    assert (result.text, result.reason) == ("Hello.", FinishReason.STOP)
    assert result.usage.sampled_tokens == 7
    async with llm.session("Hi", model="script:s") as session:
        events = [event async for event in session]
        again = await session.result()
    assert again.text == "Hello."
    assert events[-1].report == again.finished


async def test_texts_are_what_stands_outside_blocks(llm: AsyncLM) -> None:
    await llm.load_script("s", ["One ", *call("a", "double(n=2)"), "two ", *TRAP, "three.", EOS])
    pieces = [piece async for piece in llm.session("Hi", model="script:s").texts()]
    assert "".join(pieces) == "One two three."


async def test_a_message_lands_in_running_text(llm: AsyncLM) -> None:
    await llm.load_script("s", ["abc", "def", EOS])
    async with llm.session("Hi", model="script:s", credit=3) as session:
        await session.probe()
        accepted = await session.interrupt("Stop at once.")
        assert (accepted.source, accepted.token_index) == ("@user", 3)
        await session.grant(100)
        result = await session.result()
        committed = [e.report async for e in session if isinstance(e.report, InterruptCommitted)]
    assert [(c.token_index, c.payload) for c in committed] == [(3, "Stop at once.")]
    assert result.text == "abcdef"
    assert [row.delivery for row in result.interrupts] == [Delivery.DELIVERED]


async def test_a_refused_message_is_handed_back_and_the_session_goes_on(llm: AsyncLM) -> None:
    await llm.load_script("s", ["abc", EOS])
    async with llm.session("Hi", model="script:s", credit=1) as session:
        with pytest.raises(InterruptRejectedError) as refused:
            await session.interrupt("1", source="nobody")
        assert refused.value.rejected.reason is RejectReason.UNKNOWN_ID
        assert refused.value.rejected.payload == "1"
        await session.grant(10)
        assert (await session.result()).text == "abc"


async def test_credit_probe_and_pause(llm: AsyncLM) -> None:
    await llm.load_script("s", ["abcdefgh", EOS])
    async with llm.session("Hi", model="script:s", credit=0) as session:
        probed = await session.probe()
        assert (probed.credit, probed.token_index, probed.state) == (0, 0, State.DECODING)
        await session.pause()
        await session.grant(5)
        paused = await session.probe()
        assert (paused.credit, paused.paused, paused.token_index) == (5, True, 0)
        await session.unpause()
        after = await session.probe()
        assert (after.credit, after.paused, after.token_index) == (0, False, 5)
        with pytest.raises(ValueError, match="positive"):
            await session.grant(0)


async def test_a_bare_spec_is_answered_by_the_caller(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("a", "slow()"), *call("b", "slow()"), *call("c", "slow()"), *TRAP, "ok", EOS])
    async with llm.session("Hi", model="script:s", tools=[SLOW], mode="async") as session:
        first = (await until(session, CallDispatched)).report
        assert isinstance(first, CallDispatched)
        await until(session, TrapEntered)
        await session.answer(first, {"half": True}, status="partial")
        await session.answer(first, {"a": [1, 2]})
        await session.answer("b", "text")
        await session.fail(2, "there is no c", type="missing", retryable=True)
        result = await session.result()
        payloads = {
            (e.report.source, e.report.status.value): e.report.payload
            async for e in session
            if isinstance(e.report, InterruptCommitted)
        }
    assert [row.result for row in result.calls] == [Result.OK, Result.OK, Result.ERROR]
    assert payloads["a", "partial"] == '{"half": true}'
    assert payloads["a", "ok"] == '{"a": [1, 2]}'
    assert payloads["b", "ok"] == '"text"'
    assert payloads["c", "error"] == '{"type": "missing", "message": "there is no c", "retryable": true}'


async def test_an_answer_comes_once(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("a", "slow()"), "text", *TRAP, EOS])
    async with llm.session("Hi", model="script:s", tools=[SLOW], credit=15) as session:
        await until(session, CallDispatched)
        await session.answer("a", 1)
        with pytest.raises(InterruptRejectedError) as refused:
            await session.answer("a", 2)
        assert refused.value.rejected.reason is RejectReason.ALREADY_RESOLVED


async def test_cancel_tells_the_outcome(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("a", "slow()"), *call("b", "stubborn()"), *TRAP, *TRAP, "x", EOS])
    async with llm.session("Hi", model="script:s", tools=[SLOW, STUBBORN], on_end="cancel") as session:
        await until(session, TrapEntered)
        assert (await session.cancel("nobody")).outcome is CancelOutcome.NOT_FOUND
        assert (await session.cancel("b")).outcome is CancelOutcome.NOT_CANCELLABLE
        cancelled = await session.cancel(0)
        assert (cancelled.outcome, cancelled.id, cancelled.side_effects) == (CancelOutcome.CANCELLED, "a", "external")
        assert (await session.cancel("a")).outcome is CancelOutcome.TOO_LATE


async def test_finish_ends_a_trapped_session(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("a", "slow()"), *TRAP, EOS])
    async with llm.session("Hi", model="script:s", tools=[SLOW]) as session:
        await until(session, TrapEntered)
        await session.finish()
        result = await session.result()
        await session.finish()
    assert result.reason is FinishReason.FINISHED_BY_CLIENT
    assert [row.delivery for row in result.calls] == [Delivery.UNDELIVERED]


async def test_a_chat_is_one_session(llm: AsyncLM) -> None:
    await llm.load_script("s", ["Hello.", EOS, "Fine.", EOS])
    async with llm.session("Hi", model="script:s", on_end="keep") as session:
        idle = (await until(session, StateChanged)).report
        assert isinstance(idle, StateChanged)
        assert idle.state is State.IDLE
        await session.interrupt("How are you?")
        await until(session, StateChanged)
        await until(session, StateChanged)
        await session.finish()
        result = await session.result()
    assert result.text == "Hello.Fine."


async def test_leaving_the_block_finishes_the_session(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("a", "slow()"), *TRAP, EOS])
    async with llm.session("Hi", model="script:s", tools=[SLOW]) as session:
        await until(session, TrapEntered)
    detail = await llm.get_session(session.session_id)
    assert detail.finished is not None
    assert detail.finished.reason is FinishReason.FINISHED_BY_CLIENT
    assert [row.result for row in detail.calls] == [Result.CANCELLED]
    for attempt in (session.interrupt("Hi"), session.grant(1), session.probe()):
        with pytest.raises(SessionClosedError):
            await attempt


async def test_an_error_in_the_block_finishes_the_session_and_is_not_hidden(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("a", "slow()"), *TRAP, EOS])
    session = llm.session("Hi", model="script:s", tools=[SLOW])

    async def stumble() -> None:
        async with session:
            await until(session, TrapEntered)
            raise KeyError

    with pytest.raises(KeyError):
        await stumble()
    detail = await llm.get_session(session.session_id)
    assert detail.finished is not None


async def test_cancelling_the_task_finishes_the_session(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("a", "slow()"), *TRAP, EOS])
    trapped = asyncio.Event()
    session = llm.session("Hi", model="script:s", tools=[SLOW])

    async def consume() -> None:
        async with session:
            async for event in session:
                if isinstance(event.report, TrapEntered):
                    trapped.set()

    task = asyncio.create_task(consume())
    await trapped.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    detail = await llm.get_session(session.session_id)
    assert detail.finished is not None
    assert detail.finished.reason is FinishReason.FINISHED_BY_CLIENT


async def test_closing_the_client_finishes_its_sessions(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("a", "slow()"), *TRAP, EOS])
    async with AsyncLM(llm.target) as other:
        session = other.session("Hi", model="script:s", tools=[SLOW])
        await session.open()
    detail = await llm.get_session(session.session_id)
    assert detail.finished is not None
    assert (await session.result()).reason is FinishReason.FINISHED_BY_CLIENT


async def test_a_payload_over_the_message_size_is_refused_here(llm: AsyncLM) -> None:
    await llm.load_script("s", ["abc", EOS])
    small = AsyncLM(llm.target, max_message_bytes=100_000)
    async with small, small.session("Hi", model="script:s", credit=0) as session:
        with pytest.raises(LimitError, match="100000"):
            await session.interrupt("x" * 100_000)
        assert (await session.probe()).queued == 0


async def test_unknown_answers_are_only_seen_by_who_asked(llm: AsyncLM) -> None:
    await llm.load_script("s", ["abc", EOS])
    async with llm.session("Hi", model="script:s", credit=0) as session:
        refused, accepted = await asyncio.gather(
            session.interrupt("1", source="nobody"), session.interrupt("Hello"), return_exceptions=True
        )
        assert isinstance(refused, InterruptRejectedError)
        assert not isinstance(accepted, BaseException)
        assert accepted.source == "@user"
        await session.grant(10)
        await session.result()
        rejected = [e.report async for e in session if isinstance(e.report, InterruptRejected | CallSettled)]
        assert rejected == [refused.rejected]
