"""Applies events to sessions' machines and carries the effects out, on the loop's thread.

A fault, wherever it comes from, ends the sessions that it concerns and no other [ERR-007, ERR-008].
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence

from asynclm.cml.control import Status
from asynclm.engine.base import EngineError
from asynclm.engine.running import Running, TimedReport, ToolHost
from asynclm.engine.script import ScriptError
from asynclm.engine.stats import LoopStats
from asynclm.session.effects import (
    CallCancelRequested,
    CallDispatched,
    Effect,
    Finished,
    Inject,
    Resume,
    Suspend,
    Tokens,
)
from asynclm.session.events import Event, FinishRequested, InterruptReceived, OutputHeld, TimeAdvanced
from asynclm.session.machine import RemoteProtocolError
from asynclm.session.state import FinishReason
from asynclm.tools.errors import ToolError

log = logging.getLogger(__name__)


class Carrier:
    """What happens to one session at a time.

    Args:
        tool_host: runs server-owned calls, if there are any.
        post: gives an event to a session, behind what is in the inbox.
        done: called when everything that was to be done with a session for now has been done and told.

    Attributes:
        stats: counts what happens to sessions.
        now_ns: the loop's clock, as it was last read: before each job and each step, and after it.
    """

    def __init__(
        self,
        tool_host: ToolHost | None,
        post: Callable[[str, Event], None],
        done: Callable[[Running], None],
    ) -> None:
        self._tool_host = tool_host
        self._post = post
        self._done = done
        self.now_ns = 0
        self.stats = LoopStats()

    def tick(self, running: Running) -> bool:
        """Tells a session the time, and whether more happened than that it passed."""
        if running.over:
            return False
        now = running.now_ms(self.now_ns)
        if running.machine.pass_time(now):
            return False
        self.receive(running, TimeAdvanced(now_ms=now))
        return True

    def receive(self, running: Running, event: Event, on_error: Callable[[Exception], None] | None = None) -> None:
        """Applies one event and carries its effects out; a fault ends this session and no other."""
        if running.over:
            return
        if isinstance(event, OutputHeld):
            running.held = event
        try:
            effects = running.machine.receive(event)
        except RemoteProtocolError as error:
            if on_error is not None:
                on_error(error)
            return
        except Exception as error:
            self.fail(running, error)
            return
        self.apply(running, effects)

    def fail(self, running: Running, error: Exception) -> None:
        """Ends one session for a fault that is not its peer's; the others go on."""
        if running.over:
            log.error("session %s is over and failed", running.id, exc_info=error)
            return
        reason, message = _blame(running, error)
        try:
            effects = running.machine.receive(FinishRequested(reason=reason, message=message))
        except Exception as another:
            log.exception("session %s cannot even finish", running.id, exc_info=another)
            effects = [running.last_words(message)]
        self.apply(running, effects)
        self.flush(running)

    def apply(self, running: Running, effects: Sequence[Effect]) -> None:
        """Carries effects out; if one cannot be, the others are told all the same, and the session ends."""
        now = running.now_ms(self.now_ns)
        fault: Exception | None = None
        for effect in effects:
            if type(effect) is Tokens:  # by far the most frequent, and nothing to carry out
                if running.trace.committed:
                    self.stats.answered(running.trace, self.now_ns)
                running.outbox.append(TimedReport(effect, now))
                continue
            if not isinstance(effect, Inject | Suspend | Resume):
                running.outbox.append(TimedReport(effect, now))
                running.over = running.over or isinstance(effect, Finished)
                self.stats.reported(running.trace, effect, self.now_ns)
            try:
                self._carry_out(running, effect)
            except Exception as error:
                fault = fault or error
        if fault is not None:
            self.fail(running, fault)

    def _carry_out(self, running: Running, effect: Effect) -> None:
        match effect:
            case Inject(ids=ids):
                running.engine.append(running.sequence, ids)
            case Suspend(expected_wait_ms=wait):
                running.engine.suspend(running.sequence, wait)
            case Resume():
                running.engine.resume(running.sequence)
            case CallDispatched(client_owned=False) | CallCancelRequested(client_owned=False):
                self._tell_tool_host(running, effect)
            case Finished():
                running.engine.close(running.sequence)

    def _tell_tool_host(self, running: Running, report: CallDispatched | CallCancelRequested) -> None:
        """Starts or stops a server-owned call; one that cannot be started is answered with an error [ERR-048]."""
        try:
            if self._tool_host is None:
                raise RuntimeError("this server runs no tools")
            if isinstance(report, CallDispatched):
                self._tool_host.dispatch(running.id, report)
            else:
                self._tool_host.cancel(running.id, report)
        except Exception as error:
            log.exception("call %d of session %s could not be passed on", report.index, running.id, exc_info=error)
            if isinstance(report, CallDispatched):
                lost = ToolError("the host of this tool is not there", retryable=True)
                answer = InterruptReceived(
                    call_index=report.index, status=Status.ERROR, payload=lost.payload, from_client=False
                )
                self._post(running.id, answer)

    def flush(self, running: Running, *, stepping: bool = False) -> None:
        """Hands over what a session has reported since the last time.

        Args:
            running: the session.
            stepping: a step of it has been planned and will be taken: it is told to wait only after that.
        """
        while running.outbox:
            reports, running.outbox = running.outbox, []
            try:
                held = running.sink(reports)
            except Exception as error:  # nobody hears it any more
                running.sink = _nobody
                self.fail(running, error)
                continue
            if held is not None and held != running.held and not stepping:
                self.receive(running, held)
        self._done(running)


def _nobody(_: Sequence[TimedReport]) -> None:
    """Stands for a listener that failed."""


def _blame(running: Running, error: Exception) -> tuple[FinishReason, str]:
    """Why a session ends. Only what engines and scripts say of themselves is for the client [ERR-005]."""
    if isinstance(error, ScriptError):
        return FinishReason.SCRIPT_END, str(error)[:500]
    if isinstance(error, EngineError):
        cause = error.__cause__
        log.error("session %s: %s", running.id, error, exc_info=cause)
        return FinishReason.ENGINE_ERROR, str(error)[:500]
    incident = uuid.uuid4().hex[:12]
    log.error("session %s failed, incident %s", running.id, incident, exc_info=error)
    return FinishReason.ENGINE_ERROR, f"a fault of the server; its log names it {incident}"
