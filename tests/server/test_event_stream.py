"""What an event stream makes of reports: the same content in as few events as its reader lets it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm.cml.control import Control
from asynclm.engine.running import TimedReport
from asynclm.server import event_stream
from asynclm.server.event_stream import EventStream, TakenReport
from asynclm.server.token_run import LONGEST_RUN
from asynclm.session.effects import Notice, Probed, Report, Tokens
from asynclm.session.events import TokenLogprob
from asynclm.session.state import NoticeCode, State


def token(index: int, **fields: object) -> Tokens:
    return Tokens(**{"token_index": index, "ids": (97 + index % 26,), "text": chr(97 + index % 26), **fields})


def notice(index: int) -> Notice:
    return Notice(token_index=index, code=NoticeCode.STRAY, message="")


def stream(seen: list[TimedReport] | None = None, eased: list[None] | None = None) -> EventStream:
    observe = (lambda _: None) if seen is None else seen.extend
    make_room = (lambda: None) if eased is None else (lambda: eased.append(None))
    return EventStream(asyncio.get_running_loop(), observe, make_room)


def taken(of: EventStream) -> list[TakenReport]:
    found = []
    while (event := of.take()) is not None:
        found.append(event)
    return found


@st.composite
def made(draw: st.DrawFn) -> list[Report]:
    """Reports of one session, as a machine makes them: every token by itself."""
    reports: list[Report] = []
    index = 0
    block: Control | None = None
    columns = draw(st.sampled_from(({}, {"logprobs": 1}, {"logprobs": 1, "top": 2})))
    kinds = st.sampled_from(("text", "text", "text", "text", "held back", "control", "notice", "given up"))
    for kind in draw(st.lists(kinds, max_size=60)):
        if kind == "notice":
            reports.append(notice(index))
            continue
        if kind == "given up":
            reports.append(Tokens(token_index=index, ids=(), text="\ufffd", in_block=block))
            continue
        control = None
        if kind == "control":
            control = Control.CALL if block is None else draw(st.sampled_from((Control.HEAD, Control.END)))
        fields: dict[str, object] = {"control": control, "in_block": block}
        if kind != "text":
            fields["text"] = ""
        if columns:
            fields |= {"logprobs": (-float(index),), "ranks": (index + 1,)}
        if "top" in columns:
            fields["top_logprobs"] = ((TokenLogprob(token_id=index, logprob=-1.0, text="x"),) * 2,)
        reports.append(token(index, **fields))
        index += 1
        block = {Control.CALL: Control.CALL, Control.END: None}.get(control, block) if control else block
    return reports


def content(reports: Sequence[Report]) -> tuple[list[object], list[object]]:
    """What a reader gets to know: each id with its columns, place and block; texts and other things in order."""
    ids: list[object] = []
    order: list[object] = []
    for report in reports:
        if not isinstance(report, Tokens):
            order.append(report)
            continue
        for place, token_id in enumerate(report.ids):
            columns = [
                column[place] if column else None for column in (report.logprobs, report.ranks, report.top_logprobs)
            ]
            ids.append((report.token_index + place, token_id, columns, report.in_block))
        if order and isinstance(order[-1], str) and report.text:
            order[-1] += report.text
        elif report.text:
            order.append(report.text)
        if report.control is not None:
            order.append((report.token_index + len(report.ids) - 1, report.control))
    return ids, order


@given(made(), st.lists(st.integers(0, 5)), st.integers(1, 9))
async def test_any_merging_of_a_stream_is_equal_in_content(reports: list[Report], reads: list[int], batch: int) -> None:
    """[WIRE-055, WIRE-064]: whenever it is read, numbers have no gap, times do not go back, boundaries stand."""
    seen: list[TimedReport] = []
    s = stream(seen)
    pauses = iter(reads)
    events: list[TakenReport] = []
    for first in range(0, len(reports), batch):
        s.sink([TimedReport(report, first + at) for at, report in enumerate(reports[first : first + batch])])
        for _ in range(next(pauses, 0)):
            event = s.take()
            events += [event] if event is not None else []
    events += taken(s)
    assert content([event.report for event in events]) == content(reports)
    assert [event.sequence for event in events] == list(range(2, len(events) + 2))
    assert s.last_sequence == len(events) + 1
    times = [event.time_ms for event in events]
    assert times == sorted(times)
    at = 0
    for event in events:
        if isinstance(event.report, Tokens):
            assert len(event.report.ids) <= LONGEST_RUN
            assert event.report.token_index == at
            at += len(event.report.ids)
            for column in (event.report.logprobs, event.report.ranks, event.report.top_logprobs):
                assert len(column) in (0, len(event.report.ids))
        else:
            assert event.report.token_index == at
    assert [t.report for t in seen if not isinstance(t.report, Tokens)] == [
        r for r in reports if not isinstance(r, Tokens)
    ]


async def test_a_reader_that_keeps_up_gets_each_token_by_itself() -> None:
    """[WIRE-066]: nothing waits for something that it could be sent with."""
    s = stream()
    for index in range(5):
        assert s.take() is None
        arrival = asyncio.ensure_future(s.arrival())
        s.sink([TimedReport(token(index), index)])
        await arrival
        event = s.take()
        assert event == (index + 2, token(index), index)


async def test_a_reader_that_is_behind_gets_as_few_events_as_can_be() -> None:
    """[WIRE-065]: one up to each control token, end of sequence and other report, and at the longest."""
    s = stream()
    reports = [token(i) for i in range(LONGEST_RUN + 10)]
    at = len(reports)
    reports += [token(at, control=Control.CALL), token(at + 1, in_block=Control.CALL), notice(at + 2), token(at + 2)]
    reports += [token(at + 3, end_of_sequence=True)]
    s.sink([TimedReport(report, 0) for report in reports])
    lengths = [len(e.report.ids) if isinstance(e.report, Tokens) else 0 for e in taken(s)]
    assert lengths == [LONGEST_RUN, 11, 1, 0, 2]


async def test_what_is_taken_is_not_added_to() -> None:
    s = stream()
    s.sink([TimedReport(token(0), 0)])
    first = s.take()
    s.sink([TimedReport(token(1), 1)])
    second = s.take()
    assert first == (2, token(0), 0)
    assert second == (3, token(1), 1)


async def test_one_call_to_the_event_loop_brings_many_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    s = stream()
    calls: list[object] = []
    monkeypatch.setattr(s, "_call", lambda *given: calls.append(given) or True)
    assert s.take() is None
    for index in range(50):
        s.sink([TimedReport(token(index), 0)])
    assert len(calls) == 1


async def test_merged_tokens_count_for_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """[WIRE-061]: so a slow reader of text is far ahead of one of as many events."""

    def made_until_held(report: type) -> int:
        s = stream()
        for index in range(10_000):
            if s.sink([TimedReport(token(index) if report is Tokens else notice(index), 0)]):
                return index
        raise AssertionError("the session is never held")

    monkeypatch.setattr(event_stream, "MOST_UNREAD", 20_000)
    assert made_until_held(Tokens) > 10 * made_until_held(Notice)


async def test_a_held_session_goes_on_once_half_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MOST_UNREAD", 10_000)
    eased: list[None] = []
    s = stream(eased=eased)
    index = 0
    while not s.sink([TimedReport(notice(index), 0)]):
        index += 1
    read = 0
    while not eased:
        assert s.take() is not None
        read += 1
    assert index // 2 - 2 <= read <= index // 2 + 3
    taken(s)
    assert len(eased) == 1


async def test_numbers_go_on_when_nobody_reads() -> None:
    """[WIRE-050]: what a dropped session reports has numbers all the same."""
    s = stream()
    s.sink([TimedReport(notice(0), 0), TimedReport(token(0), 0), TimedReport(token(1), 0)])
    assert s.take() is not None
    s.discard()
    assert s.last_sequence == 3
    s.sink([TimedReport(notice(2), 0)])
    assert s.last_sequence == 4
    assert s.take() is None
    assert not s.sink([TimedReport(notice(2), 0) for _ in range(100_000)])


async def test_a_fault_comes_behind_what_was_made_before_it() -> None:
    s = stream()
    s.sink([TimedReport(notice(0), 0)])
    s.fail(RuntimeError("no more"))
    await asyncio.sleep(0)
    s.sink([TimedReport(notice(0), 0)])
    assert s.take() is not None
    with pytest.raises(RuntimeError, match="no more"):
        s.take()


async def test_answered_probes_make_room() -> None:
    s = stream()
    for _ in range(event_stream.MOST_PROBES + 1):
        s.asked()
    room = asyncio.ensure_future(s.room())
    await asyncio.sleep(0)
    assert not room.done()
    probed = Probed(token_index=0, nonce="", state=State.DECODING, credit=None, paused=False, queued=0, unresolved=())
    s.sink([TimedReport(probed, 0)])
    await asyncio.wait_for(room, 10)
