"""Call records: every call of a session, what became of it, and its row in the ledger (spec: calls)."""

from __future__ import annotations

from collections.abc import Iterator

from asynclm.cml.blocks import Invocation, Reference
from asynclm.cml.control import Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.session.effects import CallRow, CallTimings
from asynclm.session.queue import Accepted
from asynclm.session.state import Delivery, Result, UndeliveredReason
from asynclm.session.timers import Timer
from asynclm.session.transitions import CALL, CallState, CallTrigger, Cell

RESULTS = {
    Status.OK: Result.OK,
    Status.ERROR: Result.ERROR,
    Status.CANCELLED: Result.CANCELLED,
    Status.TIMEOUT: Result.TIMED_OUT,
}
"""The ledger's word for each terminal status."""


class CallRecord:
    """One call. Its state moves along the table `CALL`; the rest is what happened to it.

    Attributes:
        index: the call index.
        id: its registered id, or None.
        function: the function's name as written, empty if it could not be read.
        invocation: the parsed body, positional arguments bound, or None if it is malformed.
        values: the JSON text of each reference that is resolved.
        final: its arguments once they are whole and checked, or None.
        tool: the tool it names, or None.
        client_owned: whether the client runs it.
        builtin: run by the machine itself (`cml.cancel`).
        released: may be dispatched as soon as its references are resolved (SYNC_PARALLEL holds calls back).
        stopped: an anonymous call whose host has answered, or was told to stop.
        timer: its running time-out.
        status, payload: its terminal result, once resolved.
        interrupt: the interrupt that carries it, if the call is named.
    """

    def __init__(self, index: int, call_id: str | None, invocation: Invocation | None, now_ms: int) -> None:
        self.index = index
        self.id = call_id
        self.invocation = invocation
        self.function = invocation.function if invocation else ""
        self.values: dict[Reference, str] = {}
        self.final: str | None = None
        self.tool: ToolSpec | None = None
        self.client_owned = False
        self.builtin = False
        self.released = False
        self.stopped = False
        self.timer: Timer | None = None
        self.status: Status | None = None
        self.payload = ""
        self.interrupt: Accepted | None = None
        self._cell: Cell[CallState, CallTrigger] = Cell(CallState.HELD, CALL)
        self._result = Result.NONE
        self._delivery = Delivery.UNDELIVERED
        self._token_index: int | None = None
        self._reason: UndeliveredReason | None = None
        self._emitted_ms = now_ms
        self._dispatched_ms: int | None = None
        self._resolved_ms: int | None = None
        self._settled_ms: int | None = None

    @property
    def state(self) -> CallState:
        """Where it stands."""
        return self._cell.state

    @property
    def resolved(self) -> bool:
        """Whether it has its one terminal result, or can never have one."""
        return self._cell.state in (CallState.RESOLVED, CallState.SETTLED)

    @property
    def dispatched_ms(self) -> int | None:
        """When it was dispatched, or None."""
        return self._dispatched_ms

    @property
    def took_ms(self) -> int | None:
        """From dispatch to its host's result, or None if it got none."""
        if self.status not in (Status.OK, Status.ERROR) or self._dispatched_ms is None or self._resolved_ms is None:
            return None
        return self._resolved_ms - self._dispatched_ms

    def dispatch(self, now_ms: int) -> None:
        """Goes out to its host."""
        self._cell.move(CallTrigger.DISPATCH)
        self._dispatched_ms = now_ms

    def resolve(self, status: Status, payload: str, now_ms: int) -> None:
        """Gets its one terminal result."""
        self._cell.move(CallTrigger.RESOLVE)
        self.status = status
        self.payload = payload
        self._result = RESULTS[status]
        self._resolved_ms = now_ms

    def settle(
        self,
        delivery: Delivery,
        now_ms: int,
        *,
        token_index: int | None = None,
        reason: UndeliveredReason | None = None,
    ) -> CallRow:
        """Reaches its one settlement and gives its row."""
        self._cell.move(CallTrigger.SETTLE)
        self._delivery = delivery
        self._token_index = token_index
        self._reason = reason
        self._settled_ms = now_ms
        return self.row()

    def row(self) -> CallRow:
        """Its row in the ledger; UNDELIVERED without a reason as long as it is not settled."""
        return CallRow(
            index=self.index,
            id=self.id,
            function=self.function,
            result=self._result,
            delivery=self._delivery,
            token_index=self._token_index,
            reason=self._reason,
            payload="" if self._delivery is Delivery.DELIVERED else self.payload,
            timings=CallTimings(
                emitted_ms=self._emitted_ms,
                dispatched_ms=self._dispatched_ms,
                resolved_ms=self._resolved_ms,
                settled_ms=self._settled_ms,
            ),
        )


class CallRegistry:
    """All calls of a session, by index and by id.

    Attributes:
        pending_count: named calls that are not settled; counted, since each mask depends on it.
    """

    def __init__(self) -> None:
        self.pending_count = 0
        self._calls: list[CallRecord] = []
        self._by_id: dict[str, CallRecord] = {}
        self._open: dict[int, CallRecord] = {}

    def __iter__(self) -> Iterator[CallRecord]:
        return iter(self._calls)

    def register(self, call_id: str | None, invocation: Invocation | None, now_ms: int) -> CallRecord:
        """Gives a call the next index and registers its id, which must be new, for good."""
        record = CallRecord(len(self._calls), call_id, invocation, now_ms)
        self._calls.append(record)
        self._open[record.index] = record
        if call_id is not None:
            self._by_id[call_id] = record
            self.pending_count += 1
        return record

    def by_id(self, call_id: str) -> CallRecord | None:
        """The call with this id."""
        return self._by_id.get(call_id)

    def by_index(self, index: int) -> CallRecord | None:
        """The call with this index."""
        return self._calls[index] if 0 <= index < len(self._calls) else None

    def sources(self, call: CallRecord) -> list[CallRecord]:
        """The calls that a held call refers to."""
        assert call.invocation is not None
        return [self._by_id[reference.id] for reference in call.invocation.references]

    def took_ms(self, function: str) -> int | None:
        """What the latest call of this function took, or None if none has had a result."""
        times = (call.took_ms for call in reversed(self._calls) if call.function == function)
        return next((ms for ms in times if ms is not None), None)

    def close(self, record: CallRecord) -> None:
        """Forgets a settled call as unsettled."""
        del self._open[record.index]
        if record.id is not None:
            self.pending_count -= 1

    @property
    def open(self) -> list[CallRecord]:
        """Calls that are not settled, in emission order."""
        return list(self._open.values())

    @property
    def pending(self) -> list[CallRecord]:
        """Named calls that are not settled (spec: calls)."""
        return [call for call in self._open.values() if call.id is not None]

    @property
    def unresolved(self) -> list[CallRecord]:
        """Named calls without a terminal result."""
        return [call for call in self._open.values() if call.id is not None and not call.resolved]

    @property
    def held(self) -> list[CallRecord]:
        """Calls that are not dispatched and not resolved, in emission order."""
        return [call for call in self._open.values() if call.state is CallState.HELD]
