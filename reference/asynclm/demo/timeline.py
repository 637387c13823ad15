"""Lays a session out in time: what the model did, when each call ran, where its result came in.

Everything comes from the session's own events; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from asynclm.cml.control import Control, Status
from asynclm.demo.lanes import Activity, CallSpan, Segment, Timeline
from asynclm.demo.transcript import Span, SpanKind, TranscriptBuilder, trap_condition
from asynclm.session.effects import (
    CallDispatched,
    CallEmitted,
    CallRow,
    CallSettled,
    Finished,
    InterruptAccepted,
    StateChanged,
    Tokens,
    TrapEntered,
    TrapExited,
)
from asynclm.session.state import Delivery, Result, State

__all__ = ["Timed", "Timeline", "TimelineBuilder", "build_timeline"]


class Timed(Protocol):
    """A server event: a report and the time of the session clock at which it was made."""

    @property
    def report(self) -> object:
        """One of the reports of `asynclm.session.effects`, or the session's `Started`."""
        ...

    @property
    def time_ms(self) -> int:
        """Milliseconds of the session clock."""
        ...


def build_timeline(events: Iterable[Timed], *, title: str) -> Timeline:
    """Lays a session's events out in time; events of a session that has not finished are fine too."""
    builder = TimelineBuilder(title)
    for event in events:
        builder.feed(event.report, event.time_ms)
    return builder.timeline()


class TimelineBuilder:
    """Takes one session's reports as they come; `timeline` may be asked for at any time."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._transcript = TranscriptBuilder()
        self._spans: list[Span] = []
        self._segments: list[Segment] = []
        self._calls: dict[int, CallSpan] = {}
        self._activity = Activity.PREFILL
        self._label = ""
        self._since_ms = 0
        self._now_ms = 0
        self._first_token_ms: int | None = None
        self._last_token_ms: int | None = None
        self._call_began_ms = 0
        self._finished: Finished | None = None

    @property
    def calls(self) -> tuple[CallSpan, ...]:
        """The calls so far, by index."""
        return tuple(self._calls[index] for index in sorted(self._calls))

    def feed(self, report: object, time_ms: int) -> tuple[Span, ...]:
        """Takes the next report; returns what it adds to the transcript."""
        self._now_ms = max(self._now_ms, time_ms)
        spans = self._transcript.feed(report, time_ms)
        self._spans += spans
        match report:
            case Tokens():
                self._tokens(report)
            case TrapEntered(trap=trap):
                self._switch(Activity.TRAPPED, trap_condition(trap))
            case StateChanged(state=State.DRAINING):
                self._switch(Activity.DRAINING, "end of sequence")
            case StateChanged(state=State.IDLE):
                self._switch(Activity.IDLE)
            case TrapExited() | StateChanged(state=State.DECODING):
                self._switch(Activity.TEXT)
            case CallEmitted() | CallDispatched() | InterruptAccepted() | CallSettled():
                self._call(report)
            case Finished():
                self._finish(report)
        return spans

    def timeline(self) -> Timeline:
        """The session so far."""
        open_end = () if self._finished else self._closed()
        return Timeline(
            title=self._title,
            segments=_joined((*self._segments, *open_end)),
            calls=self.calls,
            interrupts=tuple(span.interrupt for span in self._spans if span.interrupt is not None),
            transcript=_merged(self._spans),
            first_token_ms=self._first_token_ms,
            last_token_ms=self._last_token_ms,
            duration_ms=self._now_ms,
            reason=self._finished.reason if self._finished else None,
            usage=self._finished.usage if self._finished else None,
        )

    def _tokens(self, report: Tokens) -> None:
        if self._first_token_ms is None:
            self._first_token_ms = self._now_ms
            self._switch(Activity.TEXT)
        if report.control is Control.CALL:
            self._call_began_ms = self._now_ms
        if self._activity.decoding:
            opens = report.control is not None and not report.text
            self._activity = Activity.BLOCK if report.in_block or opens else Activity.TEXT
        self._switch(Activity.TEXT)
        self._last_token_ms = self._now_ms

    def _switch(self, activity: Activity, label: str = "") -> None:
        self._segments += self._closed()
        self._activity, self._label, self._since_ms = activity, label, self._now_ms

    def _closed(self) -> tuple[Segment, ...]:
        if self._now_ms <= self._since_ms:
            return ()
        return (Segment(self._activity, self._since_ms, self._now_ms, self._label),)

    def _call(self, report: CallEmitted | CallDispatched | InterruptAccepted | CallSettled) -> None:
        now = self._now_ms
        match report:
            case CallEmitted(index=index):
                self._calls[index] = CallSpan(
                    index=index,
                    id=report.id,
                    function=report.function,
                    raw=report.raw,
                    written_ms=self._call_began_ms,
                    emitted_ms=now,
                )
            case CallDispatched(index=index) if index in self._calls:
                self._calls[index] = replace(self._calls[index], dispatched_ms=now)
            case InterruptAccepted() if report.status.terminal:
                self._resolve(report.source, report.status)
            case CallSettled(row=row):
                self._settle(row)

    def _resolve(self, source: str, status: Status) -> None:
        for index, call in self._calls.items():
            if call.id == source and call.resolved_ms is None:
                result = _RESULTS[status]
                self._calls[index] = replace(call, resolved_ms=self._now_ms, result=result)

    def _settle(self, row: CallRow) -> None:
        call = self._calls.get(row.index)
        if call is None:
            return
        committed = self._now_ms if row.delivery is Delivery.DELIVERED else None
        self._calls[row.index] = replace(
            call,
            dispatched_ms=row.timings.dispatched_ms if call.dispatched_ms is None else call.dispatched_ms,
            resolved_ms=row.timings.resolved_ms if call.resolved_ms is None else call.resolved_ms,
            committed_ms=call.committed_ms if call.committed_ms is not None else committed,
            result=row.result,
            delivery=row.delivery,
        )

    def _finish(self, report: Finished) -> None:
        self._segments += self._closed()
        self._finished = report
        for row in report.calls:
            settled = self._calls.get(row.index)
            if settled is not None and settled.delivery is None:
                self._settle(row)


_RESULTS = {
    Status.OK: Result.OK,
    Status.ERROR: Result.ERROR,
    Status.CANCELLED: Result.CANCELLED,
    Status.TIMEOUT: Result.TIMED_OUT,
}


def _joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Neighbours of one activity as one segment."""
    joined: list[Segment] = []
    for segment in segments:
        last = joined[-1] if joined else None
        if last and (last.activity, last.label, last.end_ms) == (segment.activity, segment.label, segment.start_ms):
            joined[-1] = replace(last, end_ms=segment.end_ms)
        else:
            joined.append(segment)
    return tuple(joined)


def _merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Neighbouring spans of text, and of block content, as one."""
    merged: list[Span] = []
    for span in spans:
        if merged and span.kind is merged[-1].kind and span.kind in (SpanKind.TEXT, SpanKind.BODY):
            merged[-1] = replace(merged[-1], text=merged[-1].text + span.text)
        else:
            merged.append(span)
    return tuple(merged)
