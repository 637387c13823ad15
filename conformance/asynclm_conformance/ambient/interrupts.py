"""Interrupts of a stream: numbered as they are accepted, committed whole, once and in order."""

from __future__ import annotations

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.ambient.answers import Answers
from asynclm_conformance.ambient.books import TERMINAL, Calls, Queue
from asynclm_conformance.ambient.calls import CallLife
from asynclm_conformance.ambient.report import Event, Violations, member
from asynclm_conformance.ambient.tokens import TokenStream
from asynclm_conformance.ambient.waits import Waits

_ENGINE = "@runtime"
_OF_ENGINE = (types_pb2.STATUS_ERROR, types_pb2.STATUS_TIMEOUT)


class Interrupts:
    """Follows the queue.

    Attributes:
        rows: where each committed interrupt stands, by number.
        just_accepted: numbers of the interrupts whose acceptance leads up to the event that is looked at.
    """

    def __init__(
        self,
        found: Violations,
        calls: Calls,
        queue: Queue,
        tokens: TokenStream,
        waits: Waits,
        answers: Answers,
        life: CallLife,
    ) -> None:
        self._require = found.require
        self._calls = calls
        self._queue = queue
        self._tokens = tokens
        self._waits = waits
        self._answers = answers
        self._life = life
        self._batch: tuple[list[int], list[int]] | None = None
        self.rows: dict[int, int] = {}
        self.just_accepted: list[int] = []

    def before(self, event: Event) -> None:
        """Looks at the batch that an event ends, if it does."""
        if event.kind not in ("interrupt_committed", "call_settled") and not _of_the_end(event):
            full = event.kind == "finished" and event.body.reason == types_pb2.FINISH_REASON_CONTEXT_FULL
            self._end_batch(full=full)

    def after(self, event: Event) -> None:
        """Takes note of what was looked at."""
        if event.kind == "interrupt_accepted":
            self.just_accepted.append(event.body.number)
        else:
            self.just_accepted.clear()

    def accepted(self, event: Event) -> None:
        """An interrupt is in the queue [INT-025]."""
        body: session_pb2.InterruptAccepted = event.body
        number = len(self._queue.record)
        self._require(body.number == number, "INT-025", f"accepted as number {body.number}, not {number}")
        payload = self._answers.accepted(body)
        self._queue.add(body, payload, released=bool(self._waits.state))
        if body.source.startswith("@"):
            self._speaks(body)
            return
        call = self._calls.named(body.source)
        if call is None:
            self._require(not body.client_seq, "INT-022", f"{body.source!r} is not registered")
            self._calls.early[body.source] = body.status
            return
        self._require(not call.status, "CALL-051", f"{body.source} is resolved; nothing more is accepted for it")
        if body.status in TERMINAL:
            call.status = body.status

    def _speaks(self, body: session_pb2.InterruptAccepted) -> None:
        """Clients speak without a status, and the engine for itself alone [INT-011, INT-012]."""
        status = member(types_pb2.Status, body.status)
        if body.source == _ENGINE:
            self._require(not body.client_seq, "INT-012", "@runtime was accepted from the client")
            self._require(body.status in _OF_ENGINE, "INT-012", f"@runtime with status {status}")
        else:
            self._require(body.client_seq, "INT-011", f"{body.source!r} was accepted from nobody")
            self._require(body.status == types_pb2.STATUS_OK, "INT-011", f"{body.source!r} with status {status}")

    def committed(self, event: Event) -> None:
        """An interrupt is in the context [INT-004, INT-044]."""
        body: session_pb2.InterruptCommitted = event.body
        block, state = self._tokens.block, self._waits.state
        inside = member(types_pb2.ControlToken, block)
        self._require(not block, "INT-004", f"committed inside a block: {inside}")
        self._require(not state, "INT-004", f"committed in {member(types_pb2.State, state)}")
        self._require(body.number not in self.rows, "INT-044", f"interrupt {body.number} was committed twice")
        if self._batch is None:
            self._batch = (self._queue.batch(), [])
        self._batch[1].append(body.number)
        self.rows[body.number] = event.token_index
        if body.status in TERMINAL:
            self._life.delivered.setdefault(body.source, []).append(event.token_index)
        self._tokens.injected(event)
        self._waits.committed(body)
        queued = self._queue.commit(body.number)
        if queued is None:
            self._require(False, "INT-020", f"interrupt {body.number} was never accepted")
            return
        same = (queued.source, queued.status) == (body.source, body.status)
        self._require(same, "INT-044", f"interrupt {body.number} is not what was accepted")
        self._require(queued.payload in (None, body.payload), "WIRE-058", "the payload was changed")

    def _end_batch(self, *, full: bool) -> None:
        """A batch is the whole queue, in order, or as much of it as fits [INT-002, INT-040 to INT-042]."""
        if self._batch is None:
            return
        expected, seen = self._batch
        self._batch = None
        expected = expected[: len(seen)] if full else expected
        self._require(seen == expected, "INT-040", f"the batch is {seen}; the queue makes it {expected}")

    def ledger(self, rows: list[types_pb2.InterruptRow]) -> None:
        """The ledger has one row for each accepted interrupt [SES-090, INT-045]."""
        numbers = [row.number for row in rows]
        whole = numbers == list(range(len(self._queue.record)))
        self._require(whole, "SES-090", f"the ledger has interrupts {numbers}")
        for row in rows:
            self._row(row)

    def _row(self, row: types_pb2.InterruptRow) -> None:
        require, number = self._require, row.number
        accepted = self._queue.record.get(number)
        if accepted is not None:
            same = (row.source, row.status) == (accepted.source, accepted.status)
            require(same, "SES-090", f"interrupt {number} of the ledger is not what was accepted")
        if number in self.rows:
            delivered = row.delivery == types_pb2.DELIVERY_DELIVERED and row.HasField("token_index")
            here = delivered and row.token_index == self.rows[number]
            require(here, "INT-045", f"interrupt {number} was committed at {self.rows[number]}")
        elif accepted is not None:
            undelivered = row.delivery == types_pb2.DELIVERY_UNDELIVERED
            require(undelivered, "INT-045", f"interrupt {number} was never committed")
            known = row.reason in types_pb2.UndeliveredReason.values() and row.reason
            require(known, "INT-045", f"interrupt {number} is handed back without a reason")
            back = accepted.payload in (None, "", row.payload)
            require(back, "INT-045", f"interrupt {number}: payload lost or changed")


def _of_the_end(event: Event) -> bool:
    """Whether an event stands between a batch that does not fit and the `Finished` that says so [INT-042]."""
    if event.kind == "probed":
        return bool(event.body.state == types_pb2.STATE_FINISHED)
    return event.kind == "call_cancel_requested" and event.body.origin == types_pb2.CANCEL_ORIGIN_END
