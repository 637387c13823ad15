"""The interrupt queue: what was accepted and is not in the context yet (spec: interrupts)."""

from __future__ import annotations

from dataclasses import dataclass

from asynclm.cml.control import Status
from asynclm.session.effects import InterruptRow
from asynclm.session.state import Delivery, Scheduling, UndeliveredReason


@dataclass(slots=True, kw_only=True)
class Accepted:
    """An accepted interrupt. `token_index` and `reason` tell what became of it; both None: still queued.

    Attributes:
        number: its place in arrival order, from 0.
        call_index: the call it belongs to, or None for `@` sources.
        released: WHEN_IDLE counts as IMMEDIATE, because the session waits or waited since it came.
        sampled: tokens sampled before it was accepted.
    """

    number: int
    source: str
    status: Status
    payload: str
    scheduling: Scheduling
    call_index: int | None
    released: bool
    sampled: int
    token_index: int | None = None
    reason: UndeliveredReason | None = None

    @property
    def wakes(self) -> bool:
        """Whether it would end a bare trap."""
        return self.scheduling is not Scheduling.SILENT

    @property
    def speaks(self) -> bool:
        """Whether a person or another model speaks, which ends every trap [TRAP-015]."""
        return self.wakes and (self.source == "@user" or self.source.startswith("@agent."))

    @property
    def due(self) -> bool:
        """Whether its scheduling lets it be committed [INT-031]."""
        return self.scheduling is not Scheduling.WHEN_IDLE or self.released

    @property
    def refusable(self) -> bool:
        """Whether it counts against the queue limit [LIM-008]."""
        return not self.status.terminal or (self.source.startswith("@") and self.source != "@runtime")

    def row(self) -> InterruptRow:
        """Its row in the ledger; UNDELIVERED without a reason as long as it is queued."""
        delivered = self.token_index is not None
        return InterruptRow(
            number=self.number,
            source=self.source,
            status=self.status,
            delivery=Delivery.DELIVERED if delivered else Delivery.UNDELIVERED,
            token_index=self.token_index,
            reason=self.reason,
            payload=self.payload,
        )


class InterruptQueue:
    """Accepted interrupts in arrival order, and the record of those that left."""

    def __init__(self) -> None:
        self.record: list[Accepted] = []
        self._queued: dict[int, Accepted] = {}

    def __len__(self) -> int:
        return len(self._queued)

    def add(
        self,
        source: str,
        status: Status,
        payload: str,
        scheduling: Scheduling,
        *,
        call_index: int | None,
        released: bool,
        sampled: int,
    ) -> Accepted:
        """Puts an interrupt at the end of the queue."""
        interrupt = Accepted(
            number=len(self.record),
            source=source,
            status=status,
            payload=payload,
            scheduling=scheduling,
            call_index=call_index,
            released=released,
            sampled=sampled,
        )
        self.record.append(interrupt)
        self._queued[interrupt.number] = interrupt
        return interrupt

    @property
    def wakes(self) -> bool:
        """Whether something queued would end a bare trap."""
        return any(interrupt.wakes for interrupt in self._queued.values())

    @property
    def speaks(self) -> bool:
        """Whether something queued would end every trap."""
        return any(interrupt.speaks for interrupt in self._queued.values())

    @property
    def speaks_now(self) -> bool:
        """Whether the next batch has something that would end every trap."""
        return any(interrupt.speaks and interrupt.due for interrupt in self._queued.values())

    @property
    def refusable(self) -> int:
        """How many queued interrupts count against the queue limit [LIM-008]."""
        return sum(interrupt.refusable for interrupt in self._queued.values())

    def release(self) -> None:
        """Lets WHEN_IDLE count as IMMEDIATE for everything queued [INT-031, TRAP-003]."""
        for interrupt in self._queued.values():
            interrupt.released = True

    def batch(self) -> list[Accepted]:
        """What the next safe point commits, in order.

        Arrival order, but a call's `partial` and `progress` go just before its terminal [INT-040, INT-041].
        """
        due = [interrupt for interrupt in self._queued.values() if interrupt.due]
        closing = {i.call_index for i in due if i.call_index is not None and i.status.terminal}
        batch: list[Accepted] = []
        for interrupt in due:
            if interrupt.status.terminal:
                if interrupt.call_index is not None:
                    batch.extend(self._updates(interrupt.call_index))
                batch.append(interrupt)
            elif interrupt.call_index not in closing:
                batch.append(interrupt)
        return batch

    def _updates(self, call_index: int) -> list[Accepted]:
        return [i for i in self._queued.values() if i.call_index == call_index and not i.status.terminal]

    def commit(self, interrupt: Accepted, token_index: int) -> None:
        """Takes an interrupt out of the queue: it is in the context from `token_index` on, its payload too."""
        del self._queued[interrupt.number]
        interrupt.token_index = token_index
        interrupt.payload = ""

    def abandon(self, interrupt: Accepted, reason: UndeliveredReason) -> None:
        """Takes an interrupt out of the queue: it will never be in the context."""
        del self._queued[interrupt.number]
        interrupt.reason = reason

    def remaining(self) -> list[Accepted]:
        """Everything queued, in arrival order."""
        return list(self._queued.values())
