"""What holds on every stream of every session, whatever was played on it; judged from the wire alone.

`check` takes the events of one finished session, the `Start` that it was asked for and, if they are known, the events
that its client sent, and gives every rule that was broken. It knows requirements and value types, nothing of how an
engine works, so that any engine can be held to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.server.ambient_account import Account
from tests.server.ambient_order import Order
from tests.server.ambient_report import Facts, Violation, Violations
from tests.server.ambient_stops import Stops

from asynclm.session import effects as fx
from asynclm.session.config import Unit
from asynclm.wire.client_events import ClientInput
from asynclm.wire.start import StartRequest
from asynclm.wire.values import ReceivedEvent, Started

__all__ = ["Violation", "check"]


def check(
    events: Sequence[ReceivedEvent], start: StartRequest, sent: Mapping[int, ClientInput] | None = None
) -> list[Violation]:
    """Judges one finished stream.

    Args:
        events: everything that the server sent, in order.
        start: what the session was asked for.
        sent: the client's events by `client_seq`, `Start` left out; without them, answers are not held against
            questions and credit is not counted.

    Returns:
        What is broken, in the order of the stream; empty if nothing is.
    """
    found = Violations()
    if not events or not isinstance(events[0].report, Started):
        found.add("WIRE-011", 0, "the first event is not Started")
        return found.all
    facts = Facts(start, events[0].report, sent)
    _as_asked(facts, found)
    watchers = (Envelope(facts, found), Order(found), Stops(facts, found), Account(facts, found))
    for event in events:
        found.at(event.sequence)
        for watcher in watchers:
            watcher.see(event)
    if not isinstance(events[-1].report, fx.Finished):
        found.add("SES-073", events[-1].sequence, f"the last event is {type(events[-1].report).__name__}")
    return found.all


def _as_asked(facts: Facts, found: Violations) -> None:
    """`Started` tells the settings in force [WIRE-014]."""
    start, started = facts.start, facts.started
    for name in ("mode", "on_end", "body_language", "credit"):
        asked, told = getattr(start, name), getattr(started, name)
        found.require(asked == told, "WIRE-014", f"{name} is {told}; asked for was {asked}")
    for name, value in start.limits.items():
        told = getattr(started.limits, name)
        found.require(told == value, "LIM-002", f"limits.{name} is {told}; asked for was {value}")


class Envelope:
    """Numbers, clock and index of every event, and where the stream ends."""

    def __init__(self, facts: Facts, found: Violations) -> None:
        self._facts = facts
        self._found = found
        self._sequence = 0
        self._time_ms = 0
        self._index = 0
        self._finished = False

    def see(self, event: ReceivedEvent) -> None:
        found, report = self._found, event.report
        found.require(not self._finished, "SES-073", f"{type(report).__name__} after Finished")
        found.require(event.sequence == self._sequence + 1, "WIRE-050", f"comes after event {self._sequence}")
        found.require(event.time_ms >= self._time_ms, "WIRE-052", f"{event.time_ms} ms after {self._time_ms} ms")
        found.require(self._sequence == 0 or not isinstance(report, Started), "WIRE-010", "a second Started")
        if self._facts.started.unit is Unit.TOKEN:
            found.require(
                event.token_index == self._index, "WIRE-051", f"token_index {event.token_index}, not {self._index}"
            )
        else:
            found.require(event.token_index >= self._index, "WIRE-051", "token_index goes back")
        self._sequence, self._time_ms, self._index = event.sequence, event.time_ms, event.token_index
        if isinstance(report, fx.Tokens | fx.InterruptCommitted):
            self._index += len(report.ids)
        self._finished = self._finished or isinstance(report, fx.Finished)
