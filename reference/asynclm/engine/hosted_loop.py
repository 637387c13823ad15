"""The engine loop of hosted models: a session steps when something of it has arrived, and never waits for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

from asynclm.engine.base import Engine, StepRequest
from asynclm.engine.carrier import Carrier
from asynclm.engine.hosted import Arrival, Ended, HostedSession, Piece, Repeated, Restarted
from asynclm.engine.loop import EngineLoop
from asynclm.engine.running import Running, SessionRequest
from asynclm.session.effects import Effect, Finished, Inject, Notice
from asynclm.session.events import FinishRequested, RequestRestarted, TextReplayed, TokenSampled
from asynclm.session.state import FinishReason, NoticeCode


class HostedCarrier(Carrier):
    """Carries effects out on hosted sessions: interrupts are handed over as what they say, not as ids."""

    def apply(self, running: Running, effects: Sequence[Effect]) -> None:
        """Carries effects out; `Finished` tells what the session cost [SES-116]."""
        super().apply(running, [self._billed(running, effect) for effect in effects])

    def _billed(self, running: Running, effect: Effect) -> Effect:
        if not isinstance(effect, Finished):
            return effect
        session = _hosted(running)
        session.close(running.sequence)
        return dataclasses.replace(effect, hosted=session.cost())

    def _carry_out(self, running: Running, effect: Effect) -> None:
        match effect:
            case Inject(interrupts=interrupts):
                _hosted(running).interrupt(interrupts)
            case Notice(code=NoticeCode.FORGED):
                _hosted(running).cut(forged=True)
            case Notice(code=NoticeCode.BLOCK_LIMIT):
                _hosted(running).cut(forged=False)
            case _:
                super()._carry_out(running, effect)


class HostedLoop(EngineLoop):
    """Runs sessions whose tokens come from elsewhere."""

    carrier = HostedCarrier

    def _open(self, request: SessionRequest) -> None:
        super()._open(request)
        running = self._sessions[request.session_id]
        _hosted(running).listen(lambda: self._arrived(running))

    def _arrived(self, running: Running) -> None:
        """Something has come for a session; called on any thread."""
        self.call(lambda: self._look_after(running))

    def _look_after(self, running: Running) -> None:
        """A session that could step waits for what is to be taken, unless something may have to be committed first."""
        super()._look_after(running)
        if running.id not in self._ready:
            return
        if running.machine.commits_next:
            return  # what goes with the next request is not there yet
        session = _hosted(running)
        session.want()
        if not session.available:
            self._ready.pop(running.id, None)

    def _step_engine(self, engine: Engine, batch: list[tuple[Running, StepRequest]]) -> None:
        for running, _ in batch:
            arrival = None
            try:
                arrival = self._take(running)
                match arrival:
                    case Piece(text):
                        self._carrier.receive(running, TokenSampled(piece=text))
                    case Ended(None, _):
                        self._carrier.receive(running, TokenSampled(piece="", ends=True))
                    case Ended(FinishReason() as reason, message):
                        self._carrier.receive(running, FinishRequested(reason=reason, message=message))
            except Exception as error:
                self._carrier.fail(running, error)
            self._carrier.flush(running)
            if arrival is None:  # it has had its safe point, and waits for what comes next
                self._ready.pop(running.id, None)

    def _take(self, running: Running) -> Arrival | None:
        """The next unit; what is told of the request itself is passed on before it, and costs nothing."""
        while True:
            arrival = _hosted(running).take()
            match arrival:
                case Restarted():
                    self._carrier.receive(running, RequestRestarted())
                case Repeated(text):
                    self._carrier.receive(running, TextReplayed(text=text))
                case _:
                    return arrival


def _hosted(running: Running) -> HostedSession:
    return cast(HostedSession, running.engine)
