"""Calls of a stream: emitted as written, dispatched once what they wait for is there, settled once."""

from __future__ import annotations

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.ambient.blocks import Blocks
from asynclm_conformance.ambient.books import Call, Calls
from asynclm_conformance.ambient.payloads import members
from asynclm_conformance.ambient.report import Event, Facts, Violations, member

_RESULTS: dict[int, int] = {
    types_pb2.STATUS_OK: types_pb2.RESULT_OK,
    types_pb2.STATUS_ERROR: types_pb2.RESULT_ERROR,
    types_pb2.STATUS_CANCELLED: types_pb2.RESULT_CANCELLED,
    types_pb2.STATUS_TIMEOUT: types_pb2.RESULT_TIMED_OUT,
}
_WITHOUT_RESULT = (types_pb2.RESULT_NONE, types_pb2.RESULT_CANCELLED)


class CallLife:
    """Follows each call; `delivered` has, by source, where terminal interrupts were committed."""

    def __init__(self, facts: Facts, found: Violations, calls: Calls, blocks: Blocks) -> None:
        self._facts = facts
        self._require = found.require
        self._calls = calls
        self._blocks = blocks
        self.delivered: dict[str, list[int]] = {}

    def dispatched_at_once(self) -> None:
        """A call that waits for nothing has been dispatched or answered by the next token [CALL-010, CALL-011]."""
        if self._facts.started.mode == types_pb2.EXECUTION_MODE_SYNC_PARALLEL:
            return
        for call in self._calls:
            late = call.held and all(self._calls.resolved_ok(reference) for reference in call.references)
            self._require(not late, "CALL-010", f"call {call.index} waits for nothing and was not dispatched")

    def emitted(self, event: Event) -> None:
        """A call block closed [CALL-001, CALL-004, CALL-006]."""
        body: session_pb2.CallEmitted = event.body
        require = self._require
        self._blocks.emitted(body)
        require(body.index == len(self._calls), "CALL-001", f"index {body.index}, not {len(self._calls)}")
        if body.HasField("id"):
            require(self._calls.named(body.id) is None, "CALL-004", f"id {body.id} is registered already")
        self._calls.add(body)

    def dispatched(self, event: Event) -> None:
        """A call goes to its host [CALL-010 to CALL-014]."""
        body: session_pb2.CallDispatched = event.body
        require, call = self._require, self._calls.at(body.index)
        if call is None:
            require(False, "CALL-010", f"call {body.index} was dispatched before it was emitted")
            return
        require(not call.dispatched, "SEC-022", f"call {body.index} was dispatched twice")
        require(not call.status, "CALL-022", f"call {body.index} was dispatched after it was resolved")
        require(call.row is None, "CALL-022", f"call {body.index} was dispatched after it settled")
        waits = [reference for reference in call.references if not self._calls.resolved_ok(reference)]
        require(not waits, "CALL-011", f"call {body.index} was dispatched before {waits}")
        same = (_id(body), body.function) == (call.id, call.function)
        require(same, "CALL-012", "not the call of its index")
        self._arguments(call, body.arguments)
        owner = self._facts.client_owned(body.function)
        require(owner == body.client_owned, "WIRE-014", f"client_owned {body.client_owned}, not {owner}")
        self._time_out(body)
        call.dispatched = True

    def _arguments(self, call: Call, text: str) -> None:
        """They are those of the body, as far as it has them as they are [CALL-012]."""
        given = members(text)
        self._require(given is not None, "CALL-012", "the arguments are no JSON object")
        written = self._blocks.literals(call.raw)
        if given is not None:
            changed = [name for name, value in written.items() if name not in given or given[name] != value]
            self._require(not changed, "CALL-012", f"the arguments {changed} are not as they were written")

    def _time_out(self, body: session_pb2.CallDispatched) -> None:
        most = self._facts.limit("max_call_time_ms")
        tool = self._facts.client_tool(body.function)
        if tool is not None:
            due = min(most, tool.timeout_ms) if tool.HasField("timeout_ms") else most
            self._require(body.timeout_ms == due, "CALL-014", f"timeout_ms {body.timeout_ms}, not {due}")
        self._require(0 < body.timeout_ms <= most, "CALL-014", f"timeout_ms {body.timeout_ms}, at most {most}")

    def cancel_requested(self, event: Event) -> None:
        """A host is to stop a call [CALL-073]."""
        body: session_pb2.CallCancelRequested = event.body
        call = self._calls.at(body.index)
        self._require(call and call.dispatched, "CALL-073", f"call {body.index} was never dispatched")
        if call is not None:
            self._require(not call.stopped, "CALL-073", f"the host of call {body.index} was stopped twice")
            self._require(_id(body) == call.id, "CALL-073", f"call {body.index} has the id {call.id}")
            owner = self._facts.client_owned(call.function)
            self._require(owner == body.client_owned, "WIRE-014", f"client_owned {body.client_owned}, not {owner}")
            call.stopped = True

    # --- settled ---------------------------------------------------------------------------------------------

    def settled(self, event: Event) -> None:
        """A call settles [SES-091, SES-092]."""
        row: types_pb2.CallRow = event.body.row
        call = self._calls.at(row.index)
        if call is None:
            self._require(False, "SES-092", f"call {row.index} settled before it was emitted")
            return
        self._require(call.row is None, "SES-092", f"call {row.index} settled twice")
        call.row = row
        self._row_of(call, row)

    def _row_of(self, call: Call, row: types_pb2.CallRow) -> None:
        require, index = self._require, row.index
        require((_id(row), row.function) == (call.id, call.function), "SES-091", f"row {index} is of another call")
        if row.delivery == types_pb2.DELIVERY_DELIVERED:
            at = self.delivered.get(row.id, [])
            told = row.token_index if row.HasField("token_index") else None
            require(at == [told], "SES-091", f"call {index} is DELIVERED at {told}, not {at}")
        elif row.delivery == types_pb2.DELIVERY_NOT_AWAITED:
            require(call.id is None, "CALL-041", f"named call {index} is NOT_AWAITED")
        else:
            known = row.reason in types_pb2.UndeliveredReason.values() and row.reason
            require(known, "SES-091", f"call {index} is UNDELIVERED without a reason")
            require(row.payload or not call.status, "SES-094", f"the payload of call {index} is lost")
        result = member(types_pb2.Result, row.result)
        if call.status:
            due = _RESULTS.get(call.status)
            require(row.result == due, "SES-091", f"call {index}: {result}, but accepted was {call.status}")
        elif call.id is not None:
            unresolved = row.result in _WITHOUT_RESULT
            require(unresolved, "SES-091", f"call {index}: {result}, but nothing was accepted for it")

    def ledger(self, rows: list[types_pb2.CallRow]) -> None:
        """The ledger has one row for each call, the one that it settled with [SES-090, SES-092]."""
        require = self._require
        indices = [row.index for row in rows]
        require(indices == list(range(len(self._calls))), "SES-090", f"the ledger has rows of calls {indices}")
        for row in rows:
            call = self._calls.at(row.index)
            settled = call.row if call is not None else None
            require(settled is not None, "SES-092", f"call {row.index} has no CallSettled")
            require(settled is None or settled == row, "SES-090", f"call {row.index}: ledger and CallSettled differ")
        for call in self._calls:
            require(call.row is not None, "SES-092", f"call {call.index} never settled")


def _id(body: session_pb2.CallDispatched | session_pb2.CallCancelRequested | types_pb2.CallRow) -> str | None:
    return body.id if body.HasField("id") else None
