"""What holds on every stream of every session, whatever was played on it; judged from the wire alone.

`check` takes the events of one session, the `Start` that it was asked for and, if they are known, the events that its
client sent, and gives every requirement that was broken. It knows the messages of `asynclm.v1` and nothing of how an
engine works, so that any engine can be held to it; a stream can be wrong in any way, and is reported, never refused.

May import `asynclm.v1`, `asynclm.wire` and `asynclm.cml`. Imported by the suite's runner, and by tests of servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asynclm.v1 import session_pb2
from asynclm_conformance.ambient.account import Account
from asynclm_conformance.ambient.bound import bound
from asynclm_conformance.ambient.envelope import Envelope, empty
from asynclm_conformance.ambient.order import Order
from asynclm_conformance.ambient.report import Facts, Violation, Violations, opened
from asynclm_conformance.ambient.requirements import REQUIREMENTS
from asynclm_conformance.ambient.shapes import Shapes
from asynclm_conformance.ambient.started import as_asked
from asynclm_conformance.ambient.stops import Stops

__all__ = ["REQUIREMENTS", "Violation", "check"]


def check(
    events: Sequence[session_pb2.ServerEvent],
    start: session_pb2.Start,
    sent: Mapping[int, session_pb2.ClientEvent] | None = None,
    *,
    complete: bool = True,
) -> list[Violation]:
    """Judges one stream.

    Args:
        events: everything that the server sent, in order; of a session that was resumed, its events without `Resumed`.
        start: what the session was asked for.
        sent: the client's events by `client_seq`, `Start` left out; without them, answers are not held against
            questions and credit is not counted.
        complete: whether the stream came to its end; False for one that was dropped, or that ended with a status.

    Returns:
        What is broken, in the order of the stream; empty if nothing is.
    """
    found = Violations()
    if not events or events[0].WhichOneof("event") != "started":
        found.require(not (events or complete), "WIRE-011", "the first event is not Started")
        return found.all
    facts = Facts(start, events[0].started, sent)
    found.at(events[0].sequence)
    as_asked(facts, found)
    bound(facts, found)
    watchers = (Shapes(found), Envelope(facts, found), Order(facts, found), Stops(facts, found), Account(facts, found))
    for pb, event in zip(events, opened(events, pieces=facts.pieces), strict=True):
        found.at(event.sequence)
        found.require(not empty(pb), "WIRE-068", "an event without content")
        for watcher in watchers:
            watcher.see(event)
    last = events[-1].WhichOneof("event")
    found.require(not complete or last == "finished", "SES-073", f"the last event is {last}")
    return found.all
