"""Cancelling: one outcome for each request, whoever asks; and the model's `cml.cancel` (spec: calls, section 8)."""

from __future__ import annotations

import json

from asynclm.cml.blocks import Literal
from asynclm.session.calls import CallRecord
from asynclm.session.core import Core
from asynclm.session.desk import CANCEL, CallDesk
from asynclm.session.effects import CancelAnswered
from asynclm.session.events import CancelRequested
from asynclm.session.outbox import Phase
from asynclm.session.state import CancelOrigin, CancelOutcome, ErrorType


class Cancelling:
    """Answers cancel requests."""

    def __init__(self, core: Core, desk: CallDesk) -> None:
        self._core = core
        self._desk = desk

    def request(self, event: CancelRequested) -> None:
        """Somebody outside asks."""
        calls = self._core.calls
        if event.id is not None:
            call = calls.by_id(event.id)
        else:
            assert event.call_index is not None
            call = calls.by_index(event.call_index)
        self._answer(call, event.id, event.origin, client_seq=event.client_seq)
        self._desk.pump()

    def run_builtin(self, call: CallRecord) -> None:
        """Runs the model's `cml.cancel(id="…")`: never held, never dispatched [CALL-079]."""
        assert call.invocation is not None
        values = {argument.name: argument.value for argument in call.invocation.arguments}
        value = values.get("id")
        target = json.loads(value.json) if isinstance(value, Literal) else None
        if len(values) != 1 or not isinstance(target, str):
            self._desk.fail(call, ErrorType.INVALID_ARGUMENTS, f'{CANCEL} takes one argument, id="…" as text')
            return
        outcome = self._answer(self._core.calls.by_id(target), target, CancelOrigin.MODEL)
        payload = json.dumps({"id": target, "outcome": outcome.value}, ensure_ascii=False)
        self._desk.answer_builtin(call, payload)
        self._desk.pump()

    def _answer(
        self, call: CallRecord | None, call_id: str | None, origin: CancelOrigin, *, client_seq: int = 0
    ) -> CancelOutcome:
        outcome = CancelOutcome.NOT_FOUND if call is None else self._cancel(call, origin)
        tool = call.tool if call is not None else None
        report = CancelAnswered(
            token_index=self._core.token_index,
            outcome=outcome,
            index=call.index if call is not None else None,
            id=call.id if call is not None else call_id,
            origin=origin,
            side_effects=tool.side_effects.value if tool else "",
            idempotent=tool.idempotent if tool else False,
            client_seq=client_seq,
        )
        self._core.out.add(Phase.CANCELLED, report)
        return outcome

    def _cancel(self, call: CallRecord, origin: CancelOrigin) -> CancelOutcome:
        running = call.dispatched_ms is not None and not call.stopped
        if call.resolved and not (call.id is None and running):
            return CancelOutcome.TOO_LATE
        if call.builtin or (running and call.tool is not None and not call.tool.cancellable):
            return CancelOutcome.NOT_CANCELLABLE
        if running:
            self._desk.stop_host(call, origin)
        if not call.resolved:
            self._desk.withdraw(call, f"the {origin.value} took it back")
        return CancelOutcome.CANCELLED
