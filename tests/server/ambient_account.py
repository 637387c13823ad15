"""An account of a session, kept from its stream: tokens, blocks, calls, the queue, waits, the ledger."""

from __future__ import annotations

import json

from tests.server.ambient_answers import Answers
from tests.server.ambient_books import Call, Calls, Queue
from tests.server.ambient_report import Facts, Violations
from tests.server.ambient_tokens import TokenStream
from tests.server.ambient_waits import Waits

from asynclm.cml.control import Control, Status
from asynclm.session import effects as fx
from asynclm.session.config import ExecutionMode, Granularity, OnEnd
from asynclm.session.state import Delivery, FinishReason, Result, State
from asynclm.wire.values import ReceivedEvent

_RESULTS = {
    Status.OK: Result.OK,
    Status.ERROR: Result.ERROR,
    Status.CANCELLED: Result.CANCELLED,
    Status.TIMEOUT: Result.TIMED_OUT,
}


class Account:
    """Follows one stream; what does not add up is a violation."""

    def __init__(self, facts: Facts, found: Violations) -> None:
        self._facts = facts
        self._found = found
        self._require = found.require
        self._calls = Calls()
        self._queue = Queue()
        self._tokens = TokenStream(facts, found, self._calls)
        self._waits = Waits(facts, found, self._calls, self._queue)
        self._answers = Answers(facts, found, self._calls, self._queue)
        self._closing: Control | None = None
        self._just_accepted: list[int] = []
        self._batch: tuple[list[int], list[int]] | None = None
        self._rows: dict[int, fx.InterruptCommitted] = {}
        self._handlers = {
            fx.Tokens: self._on_tokens,
            fx.InterruptAccepted: self._on_accepted,
            fx.InterruptRejected: self._answers.rejected,
            fx.InterruptCommitted: self._on_committed,
            fx.CallEmitted: self._on_emitted,
            fx.CallDispatched: self._on_dispatched,
            fx.CallCancelRequested: self._on_cancel_requested,
            fx.CancelAnswered: self._answers.cancelled,
            fx.CallSettled: self._on_settled,
            fx.TrapEntered: self._waits.entered,
            fx.TrapExited: self._waits.exited,
            fx.StateChanged: self._waits.changed,
            fx.Probed: self._on_probed,
            fx.Finished: self._on_finished,
        }

    def see(self, event: ReceivedEvent) -> None:
        report = event.report
        at_the_end = isinstance(report, fx.Probed) and report.state is State.FINISHED
        if not isinstance(report, fx.InterruptCommitted | fx.CallSettled) and not at_the_end:
            self._end_batch(full=isinstance(report, fx.Finished) and report.reason is FinishReason.CONTEXT_FULL)
        if self._closing is Control.CALL and not isinstance(report, fx.Notice):
            self._require(isinstance(report, fx.CallEmitted), "CALL-006", "a call block closed without CallEmitted")
            self._closing = None if not isinstance(report, fx.CallEmitted) else self._closing
        self._waits.before(report)
        handler = self._handlers.get(type(report))
        if handler is not None:
            handler(report)
        if isinstance(report, fx.InterruptAccepted):
            self._just_accepted.append(report.number)
        else:
            self._just_accepted.clear()

    # --- tokens ----------------------------------------------------------------------------------------------

    def _on_tokens(self, report: fx.Tokens) -> None:
        self._waits.stepped()
        self._nothing_held_back(report)
        self._dispatched_at_once()
        self._answers.sampled(report)
        longer = self._tokens.spent(self._waits.woken_at)
        self._require(not longer or not report.ids, "SES-076", "a token was sampled after max_new_tokens")
        self._closing = self._tokens.sampled(report)

    def _nothing_held_back(self, report: fx.Tokens) -> None:
        """What was queued was committed before this token was sampled, unless a policy held it back [INT-006].

        End of sequence may itself answer calls, those that SYNC_PARALLEL held for a client that is gone: such an
        answer is an effect of the token and stands before it [WIRE-053].
        """
        start = self._facts.start
        plain = start.granularity is Granularity.TOKEN and not start.coalesce_ms
        if plain and self._tokens.at_safe_point:
            releases = report.end_of_sequence and self._facts.started.mode is ExecutionMode.SYNC_PARALLEL
            made = self._just_accepted if releases else []
            due = [number for number, queued in self._queue.waiting.items() if queued.due and number not in made]
            self._require(not due, "INT-002", f"a token was sampled while interrupts {due} were due")

    def _dispatched_at_once(self) -> None:
        """A call that waits for nothing has been dispatched or answered by the next token [CALL-010, CALL-011]."""
        if self._facts.started.mode is ExecutionMode.SYNC_PARALLEL:
            return
        for call in self._calls:
            late = call.held and all(self._calls.resolved_ok(reference) for reference in call.references)
            self._require(not late, "CALL-010", f"call {call.index} waits for nothing and was not dispatched")

    # --- interrupts ------------------------------------------------------------------------------------------

    def _on_accepted(self, report: fx.InterruptAccepted) -> None:
        number = len(self._queue.record)
        self._require(report.number == number, "INT-025", f"accepted as number {report.number}, not {number}")
        payload = self._answers.accepted(report)
        self._queue.add(report, payload, released=self._waits.state is not None)
        if report.source.startswith("@"):
            return
        call = self._calls.named(report.source)
        if call is None:
            self._require(not report.client_seq, "INT-022", f"{report.source} is not registered")
            self._calls.early[report.source] = report.status
            return
        self._require(call.status is None, "CALL-051", f"{report.source} is resolved; nothing more is accepted for it")
        if report.status.terminal:
            call.status = report.status

    def _on_committed(self, report: fx.InterruptCommitted) -> None:
        self._require(self._tokens.block is None, "INT-004", f"committed inside a {self._tokens.block} block")
        self._require(self._waits.state is None, "INT-004", f"committed while {self._waits.state}")
        self._require(report.number not in self._rows, "INT-044", f"interrupt {report.number} was committed twice")
        if self._batch is None:
            self._batch = (self._queue.batch(), [])
        self._batch[1].append(report.number)
        self._rows[report.number] = report
        queued = self._queue.commit(report.number)
        if queued is None:
            self._require(False, "INT-020", f"interrupt {report.number} was never accepted")
            return
        same = (queued.source, queued.status) == (report.source, report.status)
        self._require(same, "INT-044", f"interrupt {report.number} is not what was accepted")
        self._require(queued.payload in (None, report.payload), "WIRE-058", "the payload was changed")
        self._tokens.injected(report)
        self._waits.committed(report)

    def _end_batch(self, *, full: bool) -> None:
        """A batch is the whole queue, in order, or as much of it as fits [INT-002, INT-040 to INT-042]."""
        if self._batch is None:
            return
        expected, seen = self._batch
        self._batch = None
        expected = expected[: len(seen)] if full else expected
        self._require(seen == expected, "INT-040", f"the batch is {seen}; the queue makes it {expected}")

    # --- calls -----------------------------------------------------------------------------------------------

    def _on_emitted(self, report: fx.CallEmitted) -> None:
        self._require(self._closing is Control.CALL, "CALL-006", "CallEmitted without the end of a call block")
        self._closing = None
        self._require(report.index == len(self._calls), "CALL-001", f"index {report.index}, not {len(self._calls)}")
        if report.id is not None:
            self._require(self._calls.named(report.id) is None, "CALL-004", f"id {report.id} is registered already")
        self._calls.add(report)

    def _on_dispatched(self, report: fx.CallDispatched) -> None:
        call = self._calls.at(report.index)
        if call is None:
            self._require(False, "CALL-010", f"call {report.index} was dispatched before it was emitted")
            return
        self._require(not call.dispatched, "SEC-022", f"call {report.index} was dispatched twice")
        self._require(call.status is None, "CALL-022", f"call {report.index} was dispatched after it was resolved")
        self._require(call.row is None, "CALL-022", f"call {report.index} was dispatched after it settled")
        waits = [reference for reference in call.references if not self._calls.resolved_ok(reference)]
        self._require(not waits, "CALL-011", f"call {report.index} was dispatched before {waits}")
        self._require((report.id, report.function) == (call.id, call.function), "CALL-012", "not the call of its index")
        self._require(_is_object(report.arguments), "CALL-012", "the arguments are no JSON object")
        owner = self._facts.client_owned(report.function)
        self._require(owner is report.client_owned, "WIRE-014", f"client_owned {report.client_owned}, not {owner}")
        most = self._facts.started.limits.max_call_time_ms
        self._require(0 < report.timeout_ms <= most, "CALL-014", f"timeout_ms {report.timeout_ms}, at most {most}")
        call.dispatched = True

    def _on_cancel_requested(self, report: fx.CallCancelRequested) -> None:
        call = self._calls.at(report.index)
        self._require(call and call.dispatched, "CALL-073", f"call {report.index} was never dispatched")
        if call is not None:
            self._require(not call.stopped, "CALL-073", f"the host of call {report.index} was stopped twice")
            call.stopped = True

    def _on_settled(self, report: fx.CallSettled) -> None:
        row = report.row
        call = self._calls.at(row.index)
        if call is None:
            self._require(False, "SES-092", f"call {row.index} settled before it was emitted")
            return
        self._require(call.row is None, "SES-092", f"call {row.index} settled twice")
        call.row = row
        self._row_of(call, row)

    def _row_of(self, call: Call, row: fx.CallRow) -> None:
        require, index = self._require, row.index
        require((row.id, row.function) == (call.id, call.function), "SES-091", f"row {index} is of another call")
        if row.delivery is Delivery.DELIVERED:
            at = [c.token_index for c in self._rows.values() if c.source == row.id and c.status.terminal]
            require(at == [row.token_index], "SES-091", f"call {index} is DELIVERED at {row.token_index}, not {at}")
        elif row.delivery is Delivery.NOT_AWAITED:
            require(row.id is None, "CALL-041", f"named call {index} is NOT_AWAITED")
        else:
            require(row.reason is not None, "SES-091", f"call {index} is UNDELIVERED without a reason")
            require(row.payload or call.status is None, "SES-094", f"the payload of call {index} is lost")
        if call.status is not None:
            require(row.result is _RESULTS[call.status], "SES-091", f"call {index}: {row.result}, was {call.status}")
        elif call.id is not None:
            unresolved = row.result in (Result.NONE, Result.CANCELLED)
            require(unresolved, "SES-091", f"call {index}: {row.result}, but nothing was accepted for it")

    # --- the end ---------------------------------------------------------------------------------------------

    def _on_probed(self, report: fx.Probed) -> None:
        self._answers.probed(report)
        state = self._waits.state or self._tokens.state
        states = {state, State.FINISHED}
        if state is State.DECODING:
            states.add(State.IN_TEXT_SEQUENCE)
        self._require(report.state in states, "WIRE-080", f"state {report.state}, not {state}")
        queued = len(self._queue.waiting)
        self._require(report.queued == queued, "WIRE-080", f"queued {report.queued}, not {queued}")
        unresolved = tuple(call.id for call in self._calls if call.id is not None and call.status is None)
        self._require(report.unresolved == unresolved, "WIRE-080", f"unresolved {report.unresolved}, not {unresolved}")
        limited = self._facts.started.credit is not None
        self._require(limited is (report.credit is not None), "WIRE-080", f"credit {report.credit}")
        resting = report.credit == 0 or report.paused or self._waits.state or report.state is State.FINISHED
        if limited and not self._facts.start.coalesce_ms:
            self._require(resting, "WIRE-081", "answered while decode steps can run")

    def _on_finished(self, report: fx.Finished) -> None:
        require, usage = self._require, report.usage
        require(usage.sampled_tokens == self._tokens.count, "SES-095", f"sampled {usage.sampled_tokens}")
        require(usage.injected_tokens == self._tokens.injected_count, "INT-046", f"injected {usage.injected_tokens}")
        require(usage.prompt_tokens == self._facts.started.prompt_tokens, "SES-095", "prompt_tokens differs")
        self._answers.finished()
        ledger = [row.index for row in report.calls]
        require(ledger == list(range(len(self._calls))), "SES-090", f"the ledger has rows of calls {ledger}")
        for row in report.calls:
            call = self._calls.at(row.index)
            settled = call.row if call is not None else None
            require(settled is not None, "SES-092", f"call {row.index} has no CallSettled")
            require(settled in (None, row), "SES-090", f"call {row.index}: ledger and CallSettled differ")
        for call in self._calls:
            require(call.row is not None, "SES-092", f"call {call.index} never settled")
        numbers = [row.number for row in report.interrupts]
        require(numbers == list(range(len(self._queue.record))), "SES-090", f"the ledger has interrupts {numbers}")
        for interrupt in report.interrupts:
            self._interrupt_row(interrupt)
        self._reason(report)

    def _interrupt_row(self, row: fx.InterruptRow) -> None:
        require, committed = self._require, self._rows.get(row.number)
        accepted = self._queue.record.get(row.number)
        if committed is not None:
            delivered = (row.delivery, row.token_index) == (Delivery.DELIVERED, committed.token_index)
            require(delivered, "INT-045", f"interrupt {row.number} was committed at {committed.token_index}: {row}")
        elif accepted is not None:
            require(row.delivery is Delivery.UNDELIVERED, "INT-045", f"interrupt {row.number} was never committed")
            require(row.reason is not None, "INT-045", f"interrupt {row.number} is handed back without a reason")
            back = row.payload if accepted.payload is None else row.payload == accepted.payload
            require(back or accepted.payload == "", "INT-045", f"interrupt {row.number}: payload lost or changed")

    def _reason(self, report: fx.Finished) -> None:
        require, started = self._require, self._facts.started
        spent = self._tokens.spent(self._waits.woken_at)
        if report.reason is FinishReason.LENGTH:
            require(spent, "SES-076", "LENGTH before max_new_tokens")
        if report.reason is FinishReason.STALLED:
            require(self._waits.empty_traps == started.limits.max_empty_traps, "TRAP-044", "STALLED too early")
        if report.reason is FinishReason.STOP and started.on_end is OnEnd.WAIT:
            left = [call.id for call in self._calls if call.id is not None and call.status is None]
            require(not left, "SES-042", f"stopped with {left} unresolved")
            wakes = [number for number, queued in self._queue.waiting.items() if queued.wakes]
            require(not wakes, "SES-041", f"stopped with interrupts {wakes} in the queue")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
