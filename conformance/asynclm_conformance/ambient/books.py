"""What the ambient checks write down: calls by index and id, accepted interrupts and the queue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from asynclm.v1 import session_pb2, types_pb2

TERMINAL = frozenset(
    {types_pb2.STATUS_OK, types_pb2.STATUS_ERROR, types_pb2.STATUS_CANCELLED, types_pb2.STATUS_TIMEOUT}
)
"""Statuses that resolve a call."""


@dataclass(slots=True)
class Call:
    """A call that was emitted; `status` is that of its terminal result (0: none), `row` what it settled with."""

    index: int
    id: str | None
    function: str
    raw: str
    references: tuple[str, ...]
    dispatched: bool = False
    stopped: bool = False
    status: int = 0
    row: types_pb2.CallRow | None = None

    @property
    def held(self) -> bool:
        """Whether it is emitted and neither dispatched nor resolved."""
        return not self.dispatched and not self.status and self.row is None


class Calls:
    """The calls of a session. `early` has terminal results that were accepted in the input that emits their call."""

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}
        self._ids: dict[str, Call] = {}
        self.early: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def add(self, body: session_pb2.CallEmitted) -> None:
        """Writes a call down."""
        call_id = body.id if body.HasField("id") else None
        references = tuple(reference.id for reference in body.references)
        call = Call(body.index, call_id, body.function, body.raw, references)
        if call_id is not None:
            call.status = self.early.pop(call_id, 0)
            self._ids.setdefault(call_id, call)
        self._calls.setdefault(body.index, call)

    def at(self, index: int) -> Call | None:
        """The call with this index."""
        return self._calls.get(index)

    def named(self, call_id: str) -> Call | None:
        """The call that registered this id."""
        return self._ids.get(call_id)

    def resolved_ok(self, call_id: str) -> bool:
        """Whether references to this id can be resolved."""
        call = self._ids.get(call_id)
        return call is not None and call.status == types_pb2.STATUS_OK

    @property
    def pending(self) -> list[Call]:
        """Named calls that are not settled."""
        return [call for call in self._calls.values() if call.id is not None and call.row is None]

    @property
    def unresolved(self) -> list[str]:
        """Ids of named calls without a terminal result."""
        return [call.id for call in self._calls.values() if call.id is not None and not call.status]


@dataclass(slots=True)
class Queued:
    """An accepted interrupt.

    `payload` is None where nobody knows what was sent; `overtaken` tells that a token was sampled while it was due.
    """

    source: str
    status: int
    scheduling: int
    payload: str | None
    released: bool
    overtaken: bool = False

    @property
    def terminal(self) -> bool:
        """Whether it resolves its call."""
        return self.status in TERMINAL

    @property
    def due(self) -> bool:
        """Whether the next safe point commits it [INT-031]."""
        return self.released or self.scheduling != types_pb2.SCHEDULING_WHEN_IDLE

    @property
    def wakes(self) -> bool:
        """Whether it ends a bare trap [INT-032]."""
        return self.scheduling != types_pb2.SCHEDULING_SILENT

    @property
    def speaks(self) -> bool:
        """Whether it ends every trap [TRAP-015]."""
        return self.wakes and (self.source == "@user" or self.source.startswith("@agent."))

    @property
    def counted(self) -> bool:
        """Whether it counts against `max_queued` [LIM-008]."""
        return self.source in ("@user", "@system") or self.source.startswith("@agent.") or not self.terminal


class Queue:
    """Accepted interrupts by number, and those of them that still wait."""

    def __init__(self) -> None:
        self.record: dict[int, Queued] = {}
        self.waiting: dict[int, Queued] = {}

    def add(self, body: session_pb2.InterruptAccepted, payload: str | None, *, released: bool) -> None:
        """Writes an accepted interrupt down."""
        queued = Queued(body.source, body.status, body.scheduling, payload, released)
        self.record.setdefault(body.number, queued)
        self.waiting[body.number] = queued

    def commit(self, number: int) -> Queued | None:
        """Takes an interrupt out of the queue."""
        return self.waiting.pop(number, None)

    def release(self) -> None:
        """WHEN_IDLE counts as IMMEDIATE from now on [INT-031]."""
        for queued in self.waiting.values():
            queued.released = True

    def batch(self) -> list[int]:
        """What a safe point commits now [INT-002], in order [INT-040, INT-041]."""
        ends = {q.source: n for n, q in self.waiting.items() if q.due and q.terminal and not q.source.startswith("@")}
        chosen = [n for n, q in self.waiting.items() if q.due or (not q.terminal and q.source in ends)]
        return sorted(chosen, key=lambda n: (ends.get(self.waiting[n].source, n), n))
