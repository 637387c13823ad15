"""The decisions of a session, in order and at their places, held against the traces of its case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.cases.model import Expectation, SessionCase
from asynclm_conformance.matching.events import describe, event_difference, kind_of, wanted

_UNWATCHED = frozenset({"started", "resumed", "tokens", "probed", "notice"})


@dataclass(frozen=True, slots=True)
class Placed:
    """An event and how many units had been sampled before it."""

    event: session_pb2.ServerEvent
    sampled: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where a trace is not what it has to be."""

    message: str
    want: str
    got: str
    requirement: str
    sequence: int


def placed(events: Sequence[session_pb2.ServerEvent]) -> tuple[Placed, ...]:
    """Every event with its place among the sampled units.

    Units of a target that counts pieces have no ids: there the token index tells, less one for each interrupt.
    """
    pieces = bool(events) and events[0].started.unit == types_pb2.UNIT_PIECE
    sampled = committed = 0
    out: list[Placed] = []
    for event in events:
        out.append(Placed(event, event.token_index - committed if pieces else sampled))
        if event.HasField("tokens"):
            sampled += len(event.tokens.ids)
        committed += event.HasField("interrupt_committed")
    return tuple(out)


def watched(session: SessionCase, events: Sequence[Placed]) -> tuple[Placed, ...]:
    """The events that a session's traces are about."""
    kinds = frozenset(session.spec.watch)
    codes = {
        entry.entry.notice.code
        for trace in (session.trace, *session.or_else)
        for entry in trace
        if entry.kind == "notice"
    }

    def counts(event: session_pb2.ServerEvent) -> bool:
        kind = kind_of(event)
        if kind == "notice":
            return event.notice.code in codes or "notice" in kinds
        return kind in kinds if kinds else kind not in _UNWATCHED

    return tuple(entry for entry in events if counts(entry.event))


def trace_mismatch(
    session: SessionCase, events: Sequence[session_pb2.ServerEvent], units_through: Sequence[int]
) -> Mismatch | None:
    """Holds events against the traces of a case; any of them will do, and the first is the one that is told of.

    Args:
        session: the session of the case.
        events: up to where the steps of the case were over.
        units_through: units that its script takes up to each line; the first is 0.
    """
    seen = watched(session, placed(events))
    first = _compare(session.trace, seen, units_through)
    if first is None or any(_compare(other, seen, units_through) is None for other in session.or_else):
        return None
    return first


def _compare(trace: Sequence[Expectation], seen: Sequence[Placed], units_through: Sequence[int]) -> Mismatch | None:
    for entry, found in zip(trace, seen, strict=False):
        wrong = _entry(entry, found, units_through)
        if wrong is not None:
            return wrong
    if len(trace) > len(seen):
        entry = trace[len(seen)]
        last = describe(seen[-1].event) if seen else "nothing"
        return Mismatch(f"{entry.kind} did not come", wanted(entry), f"nothing after {last}", entry.entry.because, 0)
    if len(seen) > len(trace):
        event = seen[len(trace)].event
        return Mismatch(f"{kind_of(event)} came uncalled", "nothing more", describe(event), "", event.sequence)
    return None


def _entry(entry: Expectation, found: Placed, units_through: Sequence[int]) -> Mismatch | None:
    event, because = found.event, entry.entry.because
    if kind_of(event) != entry.kind:
        message = f"{kind_of(event) or 'an unknown event'} in place of {entry.kind}"
        return Mismatch(message, wanted(entry), describe(event), because, event.sequence)
    wrong = event_difference(event, entry)
    if wrong is not None:
        where, want, got = wrong
        return Mismatch(where, want, f"{got} in {describe(event)}", because, event.sequence)
    if entry.entry.HasField("after"):
        units = units_through[entry.entry.after]
        if found.sampled != units:
            return Mismatch(
                f"{entry.kind} at the wrong place",
                f"after line {entry.entry.after} ({units} units sampled)",
                f"{found.sampled} units sampled: {describe(event)}",
                because,
                event.sequence,
            )
    return None
