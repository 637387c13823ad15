"""The engine loop: one thread that drains the inbox, drives the session machines and steps the engines.

The life of a token and the life of a result both run through here: inbox → machine →
safe point → `engine.append`; `engine.step` → machine → reports. No rule of the protocol lives in this file; it carries
effects out. An interrupt that has arrived waits for at most the step that is running.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from asynclm.engine.base import Engine, EngineError, Sampled, SamplingParams, SequenceId, StepRequest
from asynclm.engine.constraints import SessionConstraint
from asynclm.engine.script import Forbidden, Force, Free, Own, Script, ScriptError, ScriptPlayer
from asynclm.engine.text_mask import free_text_bits
from asynclm.session.config import SessionConfig
from asynclm.session.effects import (
    CallCancelRequested,
    CallDispatched,
    Effect,
    Finished,
    Inject,
    Report,
    Resume,
    Suspend,
    Usage,
)
from asynclm.session.events import (
    Event,
    FinishRequested,
    StepMasked,
    StreamEnded,
    TimeAdvanced,
    TokenSampled,
)
from asynclm.session.machine import RemoteProtocolError, Session
from asynclm.session.mask import Kind, Mask
from asynclm.session.state import FinishReason

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TimedReport:
    """A report and the session clock's time at which it was made, in milliseconds."""

    report: Report
    time_ms: int


Sink = Callable[[Sequence[TimedReport]], None]
"""Takes a session's reports, in order, on the loop's thread; must not block."""


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
    manual_clock: bool = False


class SessionNotFoundError(KeyError):
    """No open session has this id."""


class _Running:
    """A session in the loop: its machine, its sequence, its clock, and what it has not reported yet."""

    def __init__(self, request: SessionRequest, started_ns: int) -> None:
        self.id = request.session_id
        self.engine = request.engine
        self.constraint = request.constraint
        self.sink = request.sink
        self.machine = Session(request.config, request.engine.codec)
        self.sequence: SequenceId = request.engine.open(request.prompt_ids, request.sampling)
        self.player = ScriptPlayer(request.script, request.engine.codec) if request.script is not None else None
        self.outbox: list[TimedReport] = []
        self.decoder = request.engine.codec.decoder()
        self.mask = Mask(frozenset())
        self.sampling_freely = False
        self.unanswered: StepRequest | None = None
        self._manual_ms: int | None = 0 if request.manual_clock else None
        self._started_ns = started_ns

    def now_ms(self, now_ns: int) -> int:
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

    @property
    def due_ns(self) -> int | None:
        """When its next timer is due on the loop's clock; None on a manual clock."""
        due = self.machine.next_timer_ms
        if due is None or self._manual_ms is not None:
            return None
        return self._started_ns + due * 1_000_000


def _last_words(running: _Running, error: Exception) -> Finished:
    """The end of a session whose machine cannot say it any more."""
    usage = Usage(prompt_tokens=0, cached_tokens=0, sampled_tokens=0, injected_tokens=0)
    return Finished(
        token_index=running.machine.token_index,
        reason=FinishReason.ENGINE_ERROR,
        message=str(error)[:500],
        usage=usage,
        calls=(),
        interrupts=(),
    )


class EngineLoop:
    """Runs sessions on one thread of its own. All public methods may be called from any thread."""

    def __init__(self, tool_host: ToolHost | None = None, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._tool_host = tool_host
        self._clock_ns = clock_ns
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._sessions: dict[str, _Running] = {}
        self._thread = threading.Thread(target=self._run, name="asynclm-engine", daemon=True)
        self._stopping = False

    # --- from any thread -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finishes every session (ABORTED) and ends the thread."""
        if not self._thread.is_alive():
            return
        self._inbox.put(None)
        self._thread.join()

    def open(self, request: SessionRequest) -> Future[None]:
        """Opens a session; the future fails with what `Engine.open` raises."""
        return self.call(lambda: self._open(request))

    def post(self, session_id: str, event: Event, on_error: Callable[[Exception], None] | None = None) -> None:
        """Applies an event to a session, in order of posting.

        Args:
            session_id: an open session; unknown ones are ignored, since a session may finish at any time.
            event: what happened.
            on_error: called on the loop's thread with what the machine raised for a fault of the peer.
        """
        self._inbox.put(lambda: self._receive_posted(session_id, event, on_error))

    def advance(self, session_id: str, ms: int) -> Future[int]:
        """Moves a manual clock and gives its time in ms; due timers have fired when the future is done.

        The future fails with SessionNotFoundError for unknown sessions and ValueError on the wall clock.
        """
        return self.call(lambda: self._advance(session_id, ms))

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Runs a function on the loop's thread, between two steps."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        if self._stopping:
            future.set_exception(RuntimeError("the engine loop has stopped"))
        else:
            self._inbox.put(run)
        return future

    def inspect(self, session_id: str, look: Callable[[Session], T]) -> Future[T]:
        """Looks at a session's machine between two steps; fails with SessionNotFoundError for unknown sessions."""
        return self.call(lambda: look(self._find(session_id).machine))

    # --- on the loop's thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._drain_inbox():
            self._fire_timers()
            self._step()
        self._stopping = True
        for running in list(self._sessions.values()):
            self._receive(running, FinishRequested(reason=FinishReason.ABORTED, message="the server stopped"))
            self._flush(running)

    def _drain_inbox(self) -> bool:
        """Carries out everything in the inbox; waits for something to do if no session can step."""
        timeout = 0.0 if any(r.machine.can_step for r in self._sessions.values()) else self._seconds_to_timer()
        try:
            job = self._inbox.get(block=timeout != 0.0, timeout=timeout)
            while job is not None:
                job()
                job = self._inbox.get_nowait()
        except queue.Empty:
            return True
        return False

    def _seconds_to_timer(self) -> float | None:
        due = [d for r in self._sessions.values() if (d := r.due_ns) is not None]
        if not due:
            return None
        return max(0.0, (min(due) - self._clock_ns()) / 1e9)

    def _fire_timers(self) -> None:
        now = self._clock_ns()
        for running in list(self._sessions.values()):
            due = running.due_ns
            if due is not None and due <= now:
                self._tick(running)
                self._flush(running)

    def _step(self) -> None:
        """One decode step over every session that can take one, engine by engine."""
        batches: dict[int, tuple[Engine, list[tuple[_Running, StepRequest]]]] = {}
        for running in list(self._sessions.values()):
            if not running.machine.can_step:
                continue
            self._tick(running)
            try:
                request = self._plan(running)
            except Exception as error:
                self._fail(running, error)
                continue
            if request is not None:
                batches.setdefault(id(running.engine), (running.engine, []))[1].append((running, request))
            self._flush(running)
        for engine, batch in batches.values():
            self._step_engine(engine, batch)

    def _plan(self, running: _Running) -> StepRequest | None:
        """What the session asks of the next step, or None if it takes none after all."""
        machine = running.machine
        if running.unanswered is not None:
            return running.unanswered if machine.can_step else None
        if machine.can_step:
            self._apply(running, machine.safe_point())
        while machine.can_step:
            running.mask = mask = machine.mask()
            running.sampling_freely = False
            if running.player is None:
                return StepRequest(running.sequence, running.constraint.bits(mask))
            wish = running.player.next(functools.partial(running.constraint.allows, mask), machine.resolve_reference)
            match wish:
                case Force(token_id):
                    return StepRequest(running.sequence, None, token_id)
                case Free(in_string):
                    running.sampling_freely = True
                    return StepRequest(running.sequence, free_text_bits(running.engine, in_string=in_string))
                case Own():
                    return StepRequest(running.sequence, running.constraint.bits(mask))
                case Forbidden(what):
                    self._receive(running, StepMasked(token=what))
                case None:
                    return self._plan_script_end(running, mask)
        return None

    def _plan_script_end(self, running: _Running, mask: Mask) -> StepRequest | None:
        """An exhausted script samples end of sequence, or finishes SCRIPT_END if that is masked [SCR-007]."""
        if Kind.EOS in mask.kinds:
            return StepRequest(running.sequence, None, min(running.engine.codec.eos_ids))
        self._receive(running, StreamEnded(reason=FinishReason.SCRIPT_END))
        return None

    def _step_engine(self, engine: Engine, batch: list[tuple[_Running, StepRequest]]) -> None:
        while batch:
            try:
                sampled = engine.step([request for _, request in batch])
            except Exception as error:
                batch = self._drop_failed(engine, batch, error)
                continue
            tokens = {token.sequence: token for token in sampled}
            for running, request in batch:
                if request.sequence in tokens:
                    running.unanswered = None
                    self._sampled(running, tokens[request.sequence])
                else:  # a long prompt is prefilled over several steps; the request stands until its token comes
                    running.unanswered = request
            return

    def _drop_failed(
        self, engine: Engine, batch: list[tuple[_Running, StepRequest]], error: Exception
    ) -> list[tuple[_Running, StepRequest]]:
        """Ends the sessions that a fault of the engine concerns and returns the rest, to be tried again."""
        lost = error.sequence if isinstance(error, EngineError) else None
        if lost is None:
            log.exception("engine %s failed; its running sessions end", engine.info.name, exc_info=error)
        kept = []
        for running, request in batch:
            if lost is None or request.sequence == lost:
                self._receive(running, FinishRequested(reason=FinishReason.ENGINE_ERROR, message=str(error)[:500]))
                self._flush(running)
            else:
                kept.append((running, request))
        return kept if len(kept) < len(batch) else []

    def _sampled(self, running: _Running, token: Sampled) -> None:
        if running.mask.block_rule is not None:
            running.constraint.accept(token.token_id)
        if running.player is not None and running.sampling_freely:
            items = running.decoder.feed(token.token_id)
            running.player.sampled("".join(item for item in items if isinstance(item, str)))
        self._receive(running, TokenSampled(token_id=token.token_id, logprob=token.logprob))
        self._flush(running)

    # --- sessions --------------------------------------------------------------------------------------------

    def _open(self, request: SessionRequest) -> None:
        if request.session_id in self._sessions:
            raise ValueError(f"session id {request.session_id!r} is taken")
        self._sessions[request.session_id] = _Running(request, self._clock_ns())

    def _find(self, session_id: str) -> _Running:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise SessionNotFoundError(session_id) from None

    def _advance(self, session_id: str, ms: int) -> int:
        """Moves a manual clock; what falls due on the way happens at its own time [SCR-022]."""
        running = self._find(session_id)
        if not running.manual:
            raise ValueError("advance: the session runs on the wall clock; only 'script:<id>' sessions can be advanced")
        if ms < 0:
            raise ValueError(f"advance.ms is {ms}; it must be 0 or more")
        now = running.now_ms(0)
        target = now + ms
        while not running.machine.finished:
            due = running.machine.next_timer_ms
            if due is None or not now < due < target:
                break
            now = due
            running.move_clock(due)
            self._tick(running)
        running.move_clock(target)
        self._tick(running)
        self._flush(running)
        return target

    def _tick(self, running: _Running) -> None:
        now = running.now_ms(self._clock_ns())
        if not running.machine.finished:
            self._receive(running, TimeAdvanced(now_ms=now))

    def _receive_posted(
        self, session_id: str, event: Event, on_error: Callable[[Exception], None] | None = None
    ) -> None:
        running = self._sessions.get(session_id)
        if running is None:
            return
        self._tick(running)
        self._receive(running, event, on_error)
        self._flush(running)

    def _receive(self, running: _Running, event: Event, on_error: Callable[[Exception], None] | None = None) -> None:
        """Applies one event and carries its effects out; a fault ends this session and no other."""
        if running.machine.finished:
            return
        try:
            effects = running.machine.receive(event)
        except RemoteProtocolError as error:
            if on_error is not None:
                on_error(error)
            return
        except Exception as error:
            self._fail(running, error)
            return
        self._apply(running, effects)

    def _fail(self, running: _Running, error: Exception) -> None:
        """Ends one session for a fault that is not its peer's; the others go on."""
        if not isinstance(error, ScriptError):
            log.exception("session %s failed", running.id, exc_info=error)
        reason = FinishReason.SCRIPT_END if isinstance(error, ScriptError) else FinishReason.ENGINE_ERROR
        try:
            effects = running.machine.receive(FinishRequested(reason=reason, message=str(error)[:500]))
        except Exception:
            effects = [_last_words(running, error)]
            self._sessions.pop(running.id, None)
        self._apply(running, effects)
        self._flush(running)

    def _apply(self, running: _Running, effects: Sequence[Effect]) -> None:
        now = running.now_ms(self._clock_ns())
        for effect in effects:
            match effect:
                case Inject(ids=ids):
                    running.engine.append(running.sequence, ids)
                case Suspend(expected_wait_ms=wait):
                    running.engine.suspend(running.sequence, wait)
                case Resume():
                    running.engine.resume(running.sequence)
                case _:
                    running.outbox.append(TimedReport(effect, now))
                    if isinstance(effect, CallDispatched) and not effect.client_owned and self._tool_host:
                        self._tool_host.dispatch(running.id, effect)
                    elif isinstance(effect, CallCancelRequested) and not effect.client_owned and self._tool_host:
                        self._tool_host.cancel(running.id, effect)
                    elif isinstance(effect, Finished):
                        running.engine.close(running.sequence)

    def _flush(self, running: _Running) -> None:
        if running.outbox:
            reports, running.outbox = running.outbox, []
            running.sink(reports)
        if running.machine.finished:
            self._sessions.pop(running.id, None)
