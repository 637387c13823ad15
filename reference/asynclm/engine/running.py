"""A session in the loop: what it was opened with, its machine, its sequence, its clock, its outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from asynclm.engine.base import Engine, SamplingParams, SequenceId, StepRequest
from asynclm.engine.constraints import SessionConstraint
from asynclm.engine.script import Script, ScriptPlayer
from asynclm.engine.stats import InterruptTrace
from asynclm.session.config import SessionConfig
from asynclm.session.effects import CallCancelRequested, CallDispatched, Finished, Report
from asynclm.session.events import InterruptReceived, OutputHeld
from asynclm.session.machine import Session
from asynclm.session.mask import Mask
from asynclm.session.state import FinishReason, Scheduling, State
from asynclm.session.transitions import WAITING

_INTERRUPTIBLE = frozenset({State.DECODING}) | WAITING


@dataclass(frozen=True, slots=True)
class TimedReport:
    """A report and the session clock's time at which it was made, in milliseconds."""

    report: Report
    time_ms: int


Sink = Callable[[Sequence[TimedReport]], OutputHeld | None]
"""Takes a session's reports, in order, on the loop's thread; must not block.

Gives `OutputHeld` if whoever reads them is too far behind, which the session is told at once: it then decodes no
further until `OutputHeld(held=False)` is posted [WIRE-061, WIRE-094].
"""


class ToolHost(Protocol):
    """Runs server-owned calls. Both methods are called on the loop's thread and must not block."""

    def dispatch(self, session_id: str, call: CallDispatched) -> None:
        """Starts a call; its answers come back through `EngineLoop.post`."""
        ...

    def cancel(self, session_id: str, request: CallCancelRequested) -> None:
        """Stops a dispatched call."""
        ...


@dataclass(frozen=True, kw_only=True)
class SessionRequest:
    """Everything the loop needs to run a session.

    Attributes:
        session_id: unique among open sessions.
        engine: the engine that computes it.
        prompt_ids: the whole prompt.
        config: the machine's settings; its `prompt_tokens` is the length of `prompt_ids`.
        sampling: how tokens are chosen.
        constraint: its mask maker.
        script: forces its tokens, or None.
        adapter: the adapter that computes it, or None for the model as it is.
        manual_clock: time moves only by `EngineLoop.advance` [SCR-020].
        sink: takes its reports.
    """

    session_id: str
    engine: Engine
    prompt_ids: tuple[int, ...]
    config: SessionConfig
    sampling: SamplingParams
    constraint: SessionConstraint
    sink: Sink
    script: Script | None = None
    adapter: str | None = None
    manual_clock: bool = False


class Running:
    """A session in the loop: its machine, its sequence, its clock, and what it has not reported yet.

    Attributes:
        over: its `Finished` has been made; nothing comes after it.
        held: whether it waits for its reader, as it was last told.
        trace: when its interrupts were accepted.
        mask: what its next token is sampled under.
        request: what was asked for under `mask`, to be asked for again while it holds; None for what a script wants.
        sampled_before: it has sampled a token, so that the engine knows what of its prompt was cached.
        alarm_ns: when, on the loop's clock, the loop looks after its timers; None if none runs.
    """

    def __init__(self, request: SessionRequest, started_ns: int) -> None:
        self.id = request.session_id
        self.engine = request.engine
        self.constraint = request.constraint
        self.sink = request.sink
        self.machine = Session(request.config, request.engine.codec)
        self.sequence: SequenceId = request.engine.open(request.prompt_ids, request.sampling, adapter=request.adapter)
        self.player = ScriptPlayer(request.script, request.engine.codec) if request.script is not None else None
        self.outbox: list[TimedReport] = []
        self.decoder = request.engine.codec.decoder()
        self.mask = Mask(frozenset())
        self.request: StepRequest | None = None
        self.sampling_freely = False
        self.over = False
        self.held = OutputHeld(held=False)
        self.alarm_ns: int | None = None
        self.unanswered: StepRequest | None = None
        self.trace = InterruptTrace()
        self.sampled_before = False
        self._manual_ms: int | None = 0 if request.manual_clock else None
        self._started_ns = started_ns

    def now_ms(self, now_ns: int) -> int:
        """The session clock, given the loop's."""
        if self._manual_ms is not None:
            return self._manual_ms
        return (now_ns - self._started_ns) // 1_000_000

    def move_clock(self, to_ms: int) -> None:
        """Sets a manual clock."""
        self._manual_ms = to_ms

    @property
    def manual(self) -> bool:
        """Whether the clock is a manual one."""
        return self._manual_ms is not None

    def takes_at_once(self, event: InterruptReceived) -> bool:
        """Whether an interrupt would probably be committed at the next safe point; may be asked from any thread."""
        if self.player is not None or self.machine.state not in _INTERRUPTIBLE:
            return False
        if event.scheduling is None:
            return event.status is None or event.status.terminal
        return event.scheduling is Scheduling.IMMEDIATE

    @property
    def due_ns(self) -> int | None:
        """When its next timer is due on the loop's clock; None on a manual clock."""
        due = self.machine.next_timer_ms
        if due is None or self._manual_ms is not None:
            return None
        return self._started_ns + due * 1_000_000

    def last_words(self, message: str) -> Finished:
        """The end of a session whose machine cannot say it any more, with the account that it can still give."""
        ledger = self.machine.ledger()
        return Finished(
            token_index=self.machine.token_index,
            reason=FinishReason.ENGINE_ERROR,
            message=message,
            usage=self.machine.usage(),
            calls=ledger.calls,
            interrupts=ledger.interrupts,
        )
