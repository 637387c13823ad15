"""What the ambient checks share: the events of a stream, what is known of its session, and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from asynclm.v1 import session_pb2, types_pb2

UNBOUNDED = (1 << 63) - 1
"""What a limit counts for that `Started` does not tell; that it does not is a violation of its own."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A requirement that a stream does not keep: its id, the event's sequence number, and what was seen."""

    requirement: str
    sequence: int
    message: str

    def __str__(self) -> str:
        return f"[{self.requirement}] event {self.sequence}: {self.message}"


@dataclass(frozen=True, slots=True)
class Event:
    """A server event, opened.

    Attributes:
        sequence, token_index, time_ms: the envelope.
        kind: the name of the field that is set; empty if none is that this revision knows.
        body: what is in that field.
        units: stream tokens that it adds: ids, or in PIECE units what the next event's index tells.
    """

    sequence: int
    token_index: int
    time_ms: int
    kind: str
    body: Any
    units: int

    @property
    def name(self) -> str:
        """The name of its message."""
        return message_name(self.kind)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a session was asked for and started with; `sent` is None where the client's events are not known."""

    start: session_pb2.Start
    started: session_pb2.Started
    sent: Mapping[int, session_pb2.ClientEvent] | None

    @property
    def pieces(self) -> bool:
        """Whether the unit is a piece, so that there are no ids [WIRE-074]."""
        return self.started.unit == types_pb2.UNIT_PIECE

    @property
    def bytes(self) -> bool:
        """Whether an id below 256 is a byte of text."""
        return self.started.binding.name == "bytes" and not self.pieces

    @property
    def credit(self) -> int | None:
        """Credit at the start; None if it is unlimited."""
        return self.started.credit if self.started.HasField("credit") else None

    @property
    def eager(self) -> bool:
        """Whether results are committed as they come [INT-060, INT-062]."""
        return self.started.delivery == types_pb2.DELIVERY_POLICY_EAGER

    @property
    def window_ms(self) -> int:
        """The window in which results are gathered; 0 for none."""
        return self.started.coalesce_ms

    def limit(self, name: str) -> int:
        """A limit in force."""
        limits = self.started.limits
        return int(getattr(limits, name)) if limits.HasField(name) else UNBOUNDED  # type: ignore[arg-type]

    def client_tool(self, name: str) -> types_pb2.ToolSpec | None:
        """What the client declared of a tool of its own."""
        return next((tool for tool in self.start.tools if tool.name == name), None)

    def client_owned(self, name: str) -> bool | None:
        """Who runs a tool; None if the session has none of that name."""
        return next((tool.client_owned for tool in self.started.tools if tool.name == name), None)

    def asked(self, kind: str) -> Iterator[tuple[int, Any]]:
        """The client's events of a kind by their numbers."""
        for number, event in (self.sent or {}).items():
            if event.WhichOneof("event") == kind:
                yield number, getattr(event, kind)


class Violations:
    """Collects violations, each with the event that is looked at."""

    def __init__(self) -> None:
        self.all: list[Violation] = []
        self._sequence = 0

    def at(self, sequence: int) -> None:
        """The event that is looked at from now on."""
        self._sequence = sequence

    def require(self, condition: object, requirement: str, message: str) -> None:
        """Notes a violation of a requirement unless the condition holds."""
        if not condition:
            self.all.append(Violation(requirement, self._sequence, message))


def opened(events: Sequence[session_pb2.ServerEvent], *, pieces: bool) -> Iterator[Event]:
    """The events of a stream, each with the number of stream tokens that it adds."""
    for pb, after in zip_longest(events, events[1:]):
        kind = pb.WhichOneof("event") or ""
        body = getattr(pb, kind) if kind else None
        yield Event(pb.sequence, pb.token_index, pb.time_ms, kind, body, _units(pb, kind, after, pieces=pieces))


def _units(pb: session_pb2.ServerEvent, kind: str, after: session_pb2.ServerEvent | None, *, pieces: bool) -> int:
    if kind == "tokens":
        if not pieces:
            return len(pb.tokens.ids)
        return 1 if after is None else max(0, after.token_index - pb.token_index)
    if kind == "interrupt_committed":
        return 1 if pieces else len(pb.interrupt_committed.ids)
    return 0


def message_name(kind: str) -> str:
    """The message of a server event's field, for messages."""
    field = session_pb2.ServerEvent.DESCRIPTOR.fields_by_name.get(kind)
    return (
        field.message_type.name if field is not None and field.message_type is not None else "an event without content"
    )


def member(enum: Any, number: int) -> str:
    """An enum value for messages: its name, or the number where this revision has none."""
    return str(enum.Name(number)) if number in enum.values() else str(number)


def frame_parts(committed: session_pb2.InterruptCommitted) -> tuple[str, str]:
    """What stands before and behind the `[HEAD]` of an interrupt: its source, a status that is not ok; its payload."""
    status = member(types_pb2.Status, committed.status).removeprefix("STATUS_").lower()
    source = committed.source
    return (source if status in ("ok", "unspecified") else f"{source}:{status}"), committed.payload
