"""Numbers, clock and index of every event, and where the stream ends."""

from __future__ import annotations

from google.protobuf.unknown_fields import UnknownFieldSet

from asynclm.v1 import session_pb2
from asynclm_conformance.ambient.report import Event, Facts, Violations


class Envelope:
    """Follows the envelopes."""

    def __init__(self, facts: Facts, found: Violations) -> None:
        self._pieces = facts.pieces
        self._require = found.require
        self._sequence = 0
        self._time_ms = 0
        self._index = 0
        self._open = False
        self._finished = False

    def see(self, event: Event) -> None:
        """Takes one event."""
        require = self._require
        require(not self._finished, "SES-073", f"{event.name} after Finished")
        require(event.sequence == self._sequence + 1, "WIRE-050", f"comes after event {self._sequence}")
        require(event.time_ms >= self._time_ms, "WIRE-052", f"{event.time_ms} ms after {self._time_ms} ms")
        require(self._sequence == 0 or event.kind != "started", "WIRE-010", "a second Started")
        require(event.kind != "resumed", "WIRE-091", "Resumed within a stream")
        passed = event.token_index >= self._index if self._open else event.token_index == self._index
        require(passed, "WIRE-051", f"token_index {event.token_index}, not {self._index}")
        self._sequence, self._time_ms, self._index = event.sequence, event.time_ms, event.token_index
        # How many pieces an event has, its envelope alone does not say.
        self._open = self._pieces and event.kind == "tokens"
        if not self._open:
            self._index += event.units
        self._finished = self._finished or event.kind == "finished"


def empty(event: session_pb2.ServerEvent) -> bool:
    """Whether an event has no content, not even one of a later revision, which is to be passed over [WIRE-006]."""
    return event.WhichOneof("event") is None and not len(UnknownFieldSet(event))
