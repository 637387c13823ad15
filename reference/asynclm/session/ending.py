"""The end of a session: what is pending is cancelled or detached, every call settles, `Finished` is last."""

from __future__ import annotations

from asynclm.cml.control import Status
from asynclm.session.calls import CallRecord
from asynclm.session.config import OnEnd
from asynclm.session.core import Core
from asynclm.session.desk import CallDesk
from asynclm.session.effects import CallSettled, Finished
from asynclm.session.outbox import Phase
from asynclm.session.payloads import error_payload
from asynclm.session.probes import Probes
from asynclm.session.reader import Reader
from asynclm.session.state import (
    CancelOrigin,
    Delivery,
    ErrorType,
    FinishReason,
    NoticeCode,
    Scheduling,
    UndeliveredReason,
)
from asynclm.session.transitions import CallState, Trigger

_FROM_OUTSIDE = frozenset({FinishReason.ABORTED, FinishReason.DISCONNECTED, FinishReason.DRAINED})
"""Ends that neither the model nor the client's `Finish` brought about."""


class Ending:
    """Finishes the session, once."""

    def __init__(self, core: Core, desk: CallDesk, probes: Probes, reader: Reader) -> None:
        self._core = core
        self._desk = desk
        self._probes = probes
        self._reader = reader

    def finish(
        self,
        reason: FinishReason,
        message: str = "",
        *,
        cancel: bool | None = None,
        stop_string: str | None = None,
    ) -> None:
        """Ends the session in any state [SES-070].

        Args:
            reason: why.
            message: a sentence for the client.
            cancel: whether pending calls are cancelled (else detached); None: by `on_end`, or because the session is
                ended from outside [SES-072].
            stop_string: the stop string that ended it, if one did.
        """
        core = self._core
        self._reader.give_up(core)
        if self._reader.open_block is not None:
            core.notice(NoticeCode.INCOMPLETE_BLOCK, "the session ended inside a block, which was not run")
        if cancel is None:
            cancel = core.config.on_end is OnEnd.CANCEL or reason in _FROM_OUTSIDE
        core.cell.move(Trigger.FINISH)
        core.timers.clear()
        self._probes.answer()
        self._hand_back(reason)
        origin = CancelOrigin.DISCONNECT if reason is FinishReason.DISCONNECTED else CancelOrigin.END
        for call in core.calls.open:
            self._settle(call, reason, origin if cancel else None)
        ledger = core.ledger
        report = Finished(
            token_index=core.token_index,
            reason=reason,
            message=message,
            usage=core.usage,
            calls=ledger.calls,
            interrupts=ledger.interrupts,
            stop_string=stop_string,
        )
        core.out.add(Phase.FINISHED, report)

    def _hand_back(self, reason: FinishReason) -> None:
        """What is queued will not be delivered; the ledger has its payload [INT-045]."""
        for interrupt in self._core.queue.remaining():
            silent = reason is FinishReason.STOP and interrupt.scheduling is Scheduling.SILENT
            why = UndeliveredReason.SILENT_AT_END if silent else _undelivered(reason)
            self._core.queue.abandon(interrupt, why)

    def _settle(self, call: CallRecord, reason: FinishReason, cancel: CancelOrigin | None) -> None:
        core = self._core
        why: UndeliveredReason | None
        if call.state is CallState.RESOLVED:
            assert call.interrupt is not None
            why = call.interrupt.reason
        elif cancel is not None and self._cancellable(call):
            if call.state is CallState.DISPATCHED:
                self._desk.stop_host(call, cancel)
            message = f"the call of {call.function} was cancelled: the session ended"
            call.resolve(Status.CANCELLED, error_payload(ErrorType.CANCELLED, message), core.now_ms)
            why = UndeliveredReason.CANCELLED_AT_END
        else:
            why = UndeliveredReason.DETACHED
        row = call.settle(Delivery.UNDELIVERED, core.now_ms, reason=why)
        core.calls.close(call)
        core.out.add(Phase.ENDING, CallSettled(token_index=core.token_index, row=row))

    @staticmethod
    def _cancellable(call: CallRecord) -> bool:
        return call.state is CallState.HELD or (call.tool is not None and call.tool.cancellable)


def _undelivered(reason: FinishReason) -> UndeliveredReason:
    full = reason is FinishReason.CONTEXT_FULL
    return UndeliveredReason.CONTEXT_FULL if full else UndeliveredReason.SESSION_FINISHED
