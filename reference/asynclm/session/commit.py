"""The safe point: what is queued enters the context, in one batch (spec: interrupts, sections 1 and 5)."""

from __future__ import annotations

from asynclm.session.core import Core
from asynclm.session.effects import CallSettled, Inject, InterruptCommitted
from asynclm.session.ending import Ending
from asynclm.session.hold import Hold
from asynclm.session.outbox import Phase
from asynclm.session.queue import Accepted
from asynclm.session.state import Delivery, FinishReason, State
from asynclm.session.waits import Waits


class Committer:
    """Commits batches, as far as they fit."""

    def __init__(self, core: Core, hold: Hold, waits: Waits, ending: Ending) -> None:
        self._core = core
        self._hold = hold
        self._waits = waits
        self._ending = ending
        self._most_tokens = core.config.limits.context_length - core.config.prompt_tokens

    @property
    def due(self) -> bool:
        """Whether a safe point would commit something now."""
        core = self._core
        batch = core.queue.batch() if core.cell.state is State.DECODING and len(core.queue) else []
        return bool(batch) and not self._hold.holds(batch, waited=core.awaiting_commit)

    def safe_point(self) -> None:
        """Immediately before a decode step: commits if the state and the policies allow it [INT-001, INT-002]."""
        core = self._core
        due, core.awaiting_commit = self.due, False
        if due and not self._commit(core.queue.batch()):
            message = f"an interrupt does not fit the context of {core.config.limits.context_length} tokens"
            self._ending.finish(FinishReason.CONTEXT_FULL, message)
            return
        if core.token_index >= self._most_tokens:
            message = f"the context of {core.config.limits.context_length} tokens is full"
            self._ending.finish(FinishReason.CONTEXT_FULL, message)

    def _commit(self, batch: list[Accepted]) -> bool:
        """Commits interrupts in order; False if one does not fit, and it and the rest stay queued [INT-042]."""
        core = self._core
        injected: list[int] = []
        reports: list[InterruptCommitted | CallSettled] = []
        fits = True
        for interrupt in batch:
            ids = tuple(core.codec.frame(interrupt.source, interrupt.status, interrupt.payload))
            # In PIECE units a frame has no ids; it is one unit, like a received piece [WIRE-074].
            length = len(ids) or 1
            if core.context_used + length > core.config.limits.context_length:
                fits = False
                break
            index = core.token_index
            core.token_index += length
            reports += self._enter(interrupt, ids, index)
            core.injected += length
            injected += ids
        if reports:
            committed = tuple(report for report in reports if isinstance(report, InterruptCommitted))
            core.out.add(Phase.COMMITTED, Inject(ids=tuple(injected), interrupts=committed))
            for report in reports:
                core.out.add(Phase.COMMITTED, report)
            self._hold.committed()
        return fits

    def _enter(self, interrupt: Accepted, ids: tuple[int, ...], index: int) -> list[InterruptCommitted | CallSettled]:
        core = self._core
        report = InterruptCommitted(
            token_index=index,
            number=interrupt.number,
            source=interrupt.source,
            status=interrupt.status,
            payload=interrupt.payload,
            ids=ids,
        )
        call = None if interrupt.call_index is None else core.calls.by_index(interrupt.call_index)
        core.copying.delivered(interrupt.source, interrupt.status, interrupt.payload, call)
        core.queue.commit(interrupt, index)
        self._waits.committed(interrupt.source)
        if call is None or not interrupt.status.terminal:
            return [report]
        row = call.settle(Delivery.DELIVERED, core.now_ms, token_index=index)
        core.calls.close(call)
        return [report, CallSettled(token_index=core.token_index, row=row)]
