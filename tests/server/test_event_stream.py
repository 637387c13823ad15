"""What an event stream makes of reports: the same content in as few events as its reader lets it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm.cml.control import Control
from asynclm.engine.running import TimedReport
from asynclm.server import event_stream
from asynclm.server.event_stream import EventStream, Reader
from asynclm.server.kept_events import KeepLimits, NotKeptError, TakenReport
from asynclm.server.token_run import LONGEST_RUN
from asynclm.session.effects import Notice, Probed, Report, Tokens
from asynclm.session.events import OutputHeld, TokenLogprob
from asynclm.session.state import NoticeCode, State
from asynclm.wire.values import Started


def token(index: int, **fields: object) -> Tokens:
    return Tokens(**{"token_index": index, "ids": (97 + index % 26,), "text": chr(97 + index % 26), **fields})


def notice(index: int) -> Notice:
    return Notice(token_index=index, code=NoticeCode.STRAY, message="")


STARTED = Started(session_id="s", model="m")


def stream(
    seen: list[TimedReport] | None = None, told: list[OutputHeld] | None = None, keep: KeepLimits | None = None
) -> tuple[EventStream, Reader]:
    """A stream, and a reader of it that has taken its first event."""
    observe = (lambda _: None) if seen is None else seen.extend
    made = EventStream(asyncio.get_running_loop(), observe, (lambda _: None) if told is None else told.append, keep)
    made.announce(STARTED)
    reader = made.attach()
    assert reader.take() == (1, STARTED, 0)
    return made, reader


def taken(of: Reader) -> list[TakenReport]:
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
    s, reader = stream(seen)
    pauses = iter(reads)
    events: list[TakenReport] = []
    for first in range(0, len(reports), batch):
        s.sink([TimedReport(report, first + at) for at, report in enumerate(reports[first : first + batch])])
        for _ in range(next(pauses, 0)):
            event = reader.take()
            events += [event] if event is not None else []
    events += taken(reader)
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
    s, reader = stream()
    for index in range(5):
        assert reader.take() is None
        arrival = asyncio.ensure_future(reader.arrival())
        s.sink([TimedReport(token(index), index)])
        await arrival
        event = reader.take()
        assert event == (index + 2, token(index), index)


async def test_a_reader_that_is_behind_gets_as_few_events_as_can_be() -> None:
    """[WIRE-065]: one up to each control token, end of sequence and other report, and at the longest."""
    s, reader = stream()
    reports = [token(i) for i in range(LONGEST_RUN + 10)]
    at = len(reports)
    reports += [token(at, control=Control.CALL), token(at + 1, in_block=Control.CALL), notice(at + 2), token(at + 2)]
    reports += [token(at + 3, end_of_sequence=True)]
    s.sink([TimedReport(report, 0) for report in reports])
    lengths = [len(e.report.ids) if isinstance(e.report, Tokens) else 0 for e in taken(reader)]
    assert lengths == [LONGEST_RUN, 11, 1, 0, 2]


async def test_what_is_taken_is_not_added_to() -> None:
    s, reader = stream()
    s.sink([TimedReport(token(0), 0)])
    first = reader.take()
    s.sink([TimedReport(token(1), 1)])
    second = reader.take()
    assert first == (2, token(0), 0)
    assert second == (3, token(1), 1)


async def test_one_call_to_the_event_loop_brings_many_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    s, reader = stream()
    calls: list[object] = []
    monkeypatch.setattr(s, "on_event_loop", lambda *given: calls.append(given) or True)
    assert reader.take() is None
    for index in range(50):
        s.sink([TimedReport(token(index), 0)])
    assert len(calls) == 1


async def test_merged_tokens_count_for_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """[WIRE-061]: so a slow reader of text is far ahead of one of as many events."""

    def made_until_held(report: type) -> int:
        s, _ = stream()
        for index in range(10_000):
            if s.sink([TimedReport(token(index) if report is Tokens else notice(index), 0)]):
                return index
        raise AssertionError("the session is never held")

    monkeypatch.setattr(event_stream, "MOST_UNREAD", 20_000)
    assert made_until_held(Tokens) > 10 * made_until_held(Notice)


async def test_a_held_session_goes_on_once_half_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MOST_UNREAD", 10_000)
    told: list[OutputHeld] = []
    s, reader = stream(told=told)
    index = 0
    while not s.sink([TimedReport(notice(index), 0)]):
        index += 1
    read = 0
    while not told:
        assert reader.take() is not None
        read += 1
    assert index // 2 - 2 <= read <= index // 2 + 3
    taken(reader)
    assert told == [OutputHeld(held=False)]


async def test_numbers_go_on_when_nobody_reads() -> None:
    """[WIRE-050]: what a dropped session reports has numbers all the same."""
    s, reader = stream()
    s.sink([TimedReport(notice(0), 0), TimedReport(token(0), 0), TimedReport(token(1), 0)])
    assert reader.take() is not None
    s.discard()
    assert s.last_sequence == 3
    s.sink([TimedReport(notice(2), 0)])
    assert s.last_sequence == 4
    assert not s.sink([TimedReport(notice(2), 0) for _ in range(100_000)])


async def test_a_fault_comes_behind_what_was_made_before_it() -> None:
    s, reader = stream()
    s.sink([TimedReport(token(0), 0)])
    reader.fail(RuntimeError("no more"))
    await asyncio.sleep(0)
    s.sink([TimedReport(token(1), 0)])
    assert reader.take() == (2, token(0), 0)
    with pytest.raises(RuntimeError, match="no more"):
        reader.take()


async def test_answered_probes_make_room() -> None:
    s, _ = stream()
    for _ in range(event_stream.MOST_PROBES + 1):
        s.asked()
    room = asyncio.ensure_future(s.room())
    await asyncio.sleep(0)
    assert not room.done()
    probed = Probed(token_index=0, nonce="", state=State.DECODING, credit=None, paused=False, queued=0, unresolved=())
    s.sink([TimedReport(probed, 0)])
    await asyncio.wait_for(room, 10)


# --- kept events ---------------------------------------------------------------------------------------------------

KEEP = KeepLimits(events=10, size=1 << 20)
FREE, HELD = OutputHeld(held=False), OutputHeld(held=True, until_ack=True)


@given(made(), st.lists(st.integers(0, 5)), st.integers(1, 9), st.lists(st.integers(0, 80), max_size=4))
async def test_every_reader_gets_the_same_events(
    reports: list[Report], reads: list[int], batch: int, resumes: list[int]
) -> None:
    """[WIRE-092]: whoever reads when, and from where; what was sent once does not change."""
    s, reader = stream(keep=KeepLimits(events=1_000, size=1 << 20))
    pauses, afters = iter(reads), iter(resumes)
    events = {1: TakenReport(1, STARTED, 0)}
    for first in range(0, len(reports), batch):
        s.sink([TimedReport(report, first + at) for at, report in enumerate(reports[first : first + batch])])
        for _ in range(next(pauses, 0)):
            if (event := reader.take()) is not None:
                assert events.setdefault(event.sequence, event) == event
        after = next(afters, None)
        if after is not None:
            s.detach(reader)
            reader = s.attach(min(after, s.sent))
    for event in taken(s.attach(1)):
        assert events.setdefault(event.sequence, event) == event
    assert sorted(events) == list(range(1, s.last_sequence + 1))
    assert content([events[number].report for number in sorted(events)][1:]) == content(reports)


async def test_decoding_stops_at_the_limit_until_an_ack() -> None:
    """[WIRE-093, WIRE-094]: sent or not, reader or not."""
    told: list[OutputHeld] = []
    s, reader = stream(told=told, keep=KEEP)
    for index in range(8):
        assert s.sink([TimedReport(notice(index), 0)]) is None
    assert s.sink([TimedReport(notice(8), 0)]) == HELD
    taken(reader)
    assert told == []
    assert s.acknowledge(1)
    assert told == [FREE]
    s.detach(reader)
    assert s.sink([TimedReport(notice(9), 0)]) == HELD
    assert told == [FREE]


async def test_the_limit_is_one_of_bytes_as_well() -> None:
    """[LIM-001]."""
    s, reader = stream(keep=KeepLimits(events=1_000, size=10_000))
    held = [s.sink([TimedReport(dataclasses.replace(notice(0), message="x" * 2_000), 0)]) for _ in range(6)]
    assert held == [None] * 4 + [HELD] * 2
    taken(reader)
    assert 10_000 < s.kept_bytes < 20_000


async def test_beyond_twice_the_limit_the_oldest_go_once_they_have_been_sent() -> None:
    """[WIRE-093, WIRE-095]: what comes without decoding is not without end, and an open stream has no gap."""
    s, reader = stream(keep=KEEP)
    s.sink([TimedReport(notice(index), 0) for index in range(50)])
    assert [event.sequence for event in taken(reader)] == list(range(2, 52))
    s.sink([TimedReport(notice(50), 0)])
    with pytest.raises(NotKeptError):
        s.attach(32)
    assert [event.sequence for event in taken(s.attach(33))] == list(range(34, 53))


async def test_beyond_twice_the_limit_the_oldest_go_where_nobody_reads() -> None:
    s, reader = stream(keep=KEEP)
    s.detach(reader)
    s.sink([TimedReport(notice(index), 0) for index in range(50)])
    assert s.last_sequence == 51
    with pytest.raises(NotKeptError):
        s.attach(1)
    assert [event.sequence for event in taken(s.attach(32))] == list(range(33, 52))


async def test_only_what_was_sent_can_be_acknowledged_or_asked_from() -> None:
    s, reader = stream(keep=KEEP)
    s.sink([TimedReport(notice(index), 0) for index in range(3)])
    assert reader.take() is not None
    assert not s.acknowledge(3)
    with pytest.raises(NotKeptError):
        s.attach(3)
    assert s.acknowledge(2)
    with pytest.raises(NotKeptError):
        s.attach(1)
    assert [event.sequence for event in taken(s.attach(2))] == [3, 4]


async def test_what_is_acknowledged_meanwhile_is_not_sent_again() -> None:
    s, reader = stream(keep=KEEP)
    s.sink([TimedReport(notice(index), 0) for index in range(5)])
    taken(reader)
    reader = s.attach(0)
    assert reader.take() == (1, STARTED, 0)
    s.acknowledge(4)
    assert [event.sequence for event in taken(reader)] == [5, 6]


async def test_a_reader_that_another_one_ends_is_sent_nothing_more() -> None:
    """[WIRE-096]."""
    s, reader = stream(keep=KEEP)
    s.sink([TimedReport(notice(0), 0)])
    other = s.attach(1)
    reader.end(RuntimeError("another came"))
    s.detach(reader)
    with pytest.raises(RuntimeError, match="another came"):
        reader.take()
    assert [event.sequence for event in taken(other)] == [2]


async def test_a_next_event_has_a_place_before_it_is_there() -> None:
    """[WIRE-051, WIRE-052]."""
    s, reader = stream(keep=KEEP)
    assert s.place() == (0, 0)
    s.sink([TimedReport(token(0), 5), TimedReport(notice(1), 6), TimedReport(token(1), 7)])
    assert s.place() == (0, 5)
    taken(reader)
    assert s.place() == (2, 7)
    s.attach(0)
    assert s.place() == (0, 0)
    s.attach(2)
    assert s.place() == (1, 6)
