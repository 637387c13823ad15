"""What the ambient checks write down: calls by index and id, accepted interrupts and the queue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from asynclm.cml.control import Status
from asynclm.session import effects as fx
from asynclm.session.state import Scheduling


@dataclass(slots=True)
class Call:
    """A call that was emitted; `status` is that of its terminal result, `row` what it settled with."""

    index: int
    id: str | None
    function: str
    references: tuple[str, ...]
    dispatched: bool = False
    stopped: bool = False
    status: Status | None = None
    row: fx.CallRow | None = None

    @property
    def held(self) -> bool:
        return not self.dispatched and self.status is None and self.row is None


class Calls:
    """The calls of a session. `early` has terminal results that were accepted in the input that emits their call."""

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}
        self._ids: dict[str, Call] = {}
        self.early: dict[str, Status] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def add(self, report: fx.CallEmitted) -> None:
        references = tuple(reference.id for reference in report.references)
        call = Call(report.index, report.id, report.function, references)
        if report.id is not None:
            call.status = self.early.pop(report.id, None)
            self._ids.setdefault(report.id, call)
        self._calls.setdefault(report.index, call)

    def at(self, index: int) -> Call | None:
        return self._calls.get(index)

    def named(self, call_id: str) -> Call | None:
        return self._ids.get(call_id)

    def resolved_ok(self, call_id: str) -> bool:
        call = self._ids.get(call_id)
        return call is not None and call.status is Status.OK

    @property
    def pending(self) -> list[Call]:
        """Named calls that are not settled."""
        return [call for call in self._calls.values() if call.id is not None and call.row is None]

    @property
    def unresolved(self) -> list[Call]:
        """Named calls without a terminal result."""
        return [call for call in self._calls.values() if call.id is not None and call.status is None]


@dataclass(slots=True)
class Queued:
    """An accepted interrupt; `payload` is None where nobody knows what was sent."""

    source: str
    status: Status
    scheduling: Scheduling
    payload: str | None
    released: bool

    @property
    def due(self) -> bool:
        """Whether the next safe point commits it [INT-031]."""
        return self.released or self.scheduling is not Scheduling.WHEN_IDLE

    @property
    def wakes(self) -> bool:
        """Whether it ends a bare trap [INT-032]."""
        return self.scheduling is not Scheduling.SILENT

    @property
    def speaks(self) -> bool:
        """Whether it ends every trap [TRAP-015]."""
        return self.wakes and (self.source == "@user" or self.source.startswith("@agent."))

    @property
    def counted(self) -> bool:
        """Whether it counts against `max_queued` [LIM-008]."""
        return self.source in ("@user", "@system") or self.source.startswith("@agent.") or not self.status.terminal


class Queue:
    """Accepted interrupts by number, and those of them that still wait."""

    def __init__(self) -> None:
        self.record: dict[int, Queued] = {}
        self.waiting: dict[int, Queued] = {}

    def add(self, report: fx.InterruptAccepted, payload: str | None, *, released: bool) -> None:
        queued = Queued(report.source, report.status, report.scheduling, payload, released)
        self.record.setdefault(report.number, queued)
        self.waiting[report.number] = queued

    def commit(self, number: int) -> Queued | None:
        return self.waiting.pop(number, None)

    def release(self) -> None:
        """WHEN_IDLE counts as IMMEDIATE from now on [INT-031]."""
        for queued in self.waiting.values():
            queued.released = True

    def batch(self) -> list[int]:
        """What a safe point commits now [INT-002], in order [INT-040, INT-041]."""
        ends = {q.source: n for n, q in self.waiting.items() if q.due and q.status.terminal and q.source[0] != "@"}
        chosen = [n for n, q in self.waiting.items() if q.due or (not q.status.terminal and q.source in ends)]
        return sorted(chosen, key=lambda n: (ends.get(self.waiting[n].source, n), n))
