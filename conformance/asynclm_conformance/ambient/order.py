"""The order of the effects of one input [WIRE-053], as far as a stream shows where an input begins.

A stream does not mark its inputs. But only some events can be the first effect of one, and some need another before
them in the same input; what breaks either rule cannot be cut into inputs at all.
"""

from __future__ import annotations

from asynclm.v1 import types_pb2
from asynclm_conformance.ambient.report import Event, Facts, Violations, message_name

_PLACES = {
    "interrupt_accepted": 1,
    "interrupt_rejected": 1,
    "interrupt_committed": 3,
    "tokens": 4,
    "notice": 4,
    "call_emitted": 5,
    "call_dispatched": 6,
    "call_cancel_requested": 7,
    "cancel_outcome": 7,
    "trap_entered": 8,
    "probed": 11,
    "finished": 12,
}
_SETTLED = {types_pb2.DELIVERY_DELIVERED: 3, types_pb2.DELIVERY_NOT_AWAITED: 6, types_pb2.DELIVERY_UNDELIVERED: 10}
_ENDING = 10

_CAUSES: dict[str, tuple[str, ...]] = {
    "call_emitted": ("tokens",),
    "call_dispatched": ("tokens", "interrupt_accepted"),
    "trap_entered": ("tokens",),
    "trap_exited": ("trap_entered", "interrupt_accepted"),
    "state_changed": ("tokens", "interrupt_accepted"),
}
"""What has to stand before an event in the same input; one of them is enough."""

_AT_AN_END = frozenset({"call_emitted", "call_dispatched", "state_changed"})
"""What a hosted stream can bring about by its end, for which it has no token."""


class Order:
    """Follows the places of events and cuts the stream into inputs where they fall."""

    def __init__(self, facts: Facts, found: Violations) -> None:
        self._require = found.require
        self._causes = {kind: c for kind, c in _CAUSES.items() if not (facts.pieces and kind in _AT_AN_END)}
        self._run: list[Event] = []
        self._place = 0
        self._waiting = False

    def see(self, event: Event) -> None:
        """Takes one event."""
        if event.kind in ("", "started", "resumed"):
            return
        place = self._place_of(event)
        if place < self._place or event.kind in ("tokens", "interrupt_committed", "interrupt_rejected"):
            self._begin(event)
        causes = self._causes.get(event.kind)
        if causes is not None:
            names = " or ".join(map(message_name, causes))
            self._require(
                any(effect.kind in causes for effect in self._run),
                "WIRE-053",
                f"{event.name} without {names} before it in the same input",
            )
        if event.kind == "call_settled" and event.body.row.delivery == types_pb2.DELIVERY_DELIVERED:
            last = self._run[-1] if self._run else None
            follows = last is not None and last.kind == "interrupt_committed" and last.body.source == event.body.row.id
            self._require(follows, "WIRE-053", "CallSettled does not follow its InterruptCommitted")
        if self._place == _ENDING:
            self._require(place >= _ENDING, "WIRE-053", f"{event.name} after a call settled for the end")
        self._place = place
        self._run.append(event)
        self._follow(event)

    def _begin(self, event: Event) -> None:
        """A new input begins here, except where accepted interrupts lead up to the event."""
        if not (event.kind == "tokens" and self._run and self._run[-1].kind == "interrupt_accepted"):
            self._run = []

    def _place_of(self, event: Event) -> int:
        if event.kind == "call_settled":
            return _SETTLED.get(event.body.row.delivery, _ENDING)
        if event.kind == "trap_exited":
            return 9 if self._run and self._run[-1].kind == "trap_entered" else 2
        if event.kind == "state_changed":
            return 2 if event.body.state == types_pb2.STATE_DECODING and self._waiting else 8
        return _PLACES[event.kind]

    def _follow(self, event: Event) -> None:
        if event.kind == "trap_entered":
            self._waiting = True
        elif event.kind == "trap_exited":
            self._waiting = False
        elif event.kind == "state_changed":
            self._waiting = event.body.state != types_pb2.STATE_DECODING
