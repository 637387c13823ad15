"""The engine loop: one thread that drains the inbox, drives the session machines and steps the engines.

The life of a token and the life of a result both run through here: inbox → machine → safe point → `engine.append`;
`engine.step` → machine → reports. No rule of the protocol lives in this file; it carries effects out. An interrupt that
has arrived waits for at most the step that is running.
"""

from __future__ import annotations

import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from asynclm.engine.base import Engine, EngineError, Sampled, StepRequest
from asynclm.engine.carrier import Carrier
from asynclm.engine.planning import Planner
from asynclm.engine.running import Running, SessionRequest, ToolHost
from asynclm.engine.stats import LoopSnapshot
from asynclm.engine.token_texts import with_texts
from asynclm.session.events import Event, FinishRequested, InterruptReceived, TokenSampled
from asynclm.session.machine import Session
from asynclm.session.state import FinishReason

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_WAIT_S = 3600.0
"""The loop looks at its timers at least this often; the system's own waits take no time of any length."""

MOST_DRAINING_S = 0.005
"""What the inbox may take before a step, if a session can step; the rest waits for the next one [SES-006]."""

LATEST_MS = 1 << 62
"""Where manual clocks stop, so that what is due some time after it can still be told."""


class SessionNotFoundError(KeyError):
    """No open session has this id."""


class EngineLoop:
    """Runs sessions on one thread of its own. All public methods may be called from any thread."""

    carrier = Carrier
    """What carries effects out."""

    def __init__(self, tool_host: ToolHost | None = None, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._sessions: dict[str, Running] = {}
        self._ready: dict[str, Running] = {}
        self._alarms: list[tuple[int, str]] = []
        self._thread = threading.Thread(target=self._run, name="asynclm-engine", daemon=True)
        self._stopped = False
        self._gate = threading.Lock()
        self._carrier = self.carrier(tool_host, self.post, self._look_after)
        self._planner = Planner(self._carrier)

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

    def post(
        self,
        session_id: str,
        event: Event,
        on_error: Callable[[Exception], None] | None = None,
        *,
        unless: Callable[[], bool] | None = None,
    ) -> None:
        """Applies an event to a session, in order of posting.

        Args:
            session_id: an open session; unknown ones are ignored, since a session may finish at any time.
            event: what happened.
            on_error: called on the loop's thread with what the machine raised for a fault of the peer.
            unless: asked on the loop's thread when the event's turn comes; if it says so, the event is dropped.
        """
        self._inbox.put(lambda: self._receive_posted(session_id, event, on_error, unless))
        if isinstance(event, InterruptReceived):
            running = self._sessions.get(session_id)
            if running is not None and running.takes_at_once(event):
                running.engine.give_way()

    def advance(self, session_id: str, ms: int) -> Future[int]:
        """Moves a manual clock and gives its time in ms; due timers have fired when the future is done.

        The future fails with SessionNotFoundError for unknown sessions and ValueError on the wall clock.
        """
        return self.call(lambda: self._advance(session_id, ms))

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Runs a function on the loop's thread, between two steps."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return  # whoever asked is gone
            try:
                result = function()
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._gate:  # nothing is put into an inbox that nobody empties any more
            if self._stopped:
                future.set_exception(RuntimeError("the engine loop has stopped"))
            else:
                self._inbox.put(run)
        return future

    def inspect(self, session_id: str, look: Callable[[Session], T]) -> Future[T]:
        """Looks at a session's machine between two steps; fails with SessionNotFoundError for unknown sessions."""
        return self.call(lambda: look(self._find(session_id).machine))

    def snapshot(self) -> LoopSnapshot:
        """What the loop has done and holds, at this moment; costs the loop's thread nothing."""
        machines = [running.machine for running in list(self._sessions.values())]
        waiting = [(machine.state, machine.queued_interrupts) for machine in machines]
        return self._carrier.stats.snapshot(self._inbox.qsize(), waiting)

    # --- on the loop's thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._drain_inbox():
            self._fire_timers()
            self._step()
        for running in list(self._sessions.values()):
            self._carrier.receive(running, FinishRequested(reason=FinishReason.ABORTED, message="the server stopped"))
            self._carrier.flush(running)
        with self._gate:
            self._stopped = True
        self._answer_the_rest()

    def _answer_the_rest(self) -> None:
        """Nobody waits for ever for an answer from a loop that has stopped."""
        while True:
            try:
                job = self._inbox.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                self._do(job)

    def _drain_inbox(self) -> bool:
        """Carries out what is in the inbox by now; waits for something to do if no session can step."""
        if self._ready and self._inbox.empty():
            return True
        timeout = 0.0 if self._ready else self._seconds_to_timer()
        stop_ns = self._clock_ns() + int(MOST_DRAINING_S * 1e9)
        try:
            job = self._inbox.get(block=timeout != 0.0, timeout=timeout)
            for _ in range(self._inbox.qsize()):  # what comes meanwhile waits, so that no flood stops decoding
                if job is None:
                    return False
                self._do(job)
                if self._ready and self._clock_ns() > stop_ns:
                    return True
                job = self._inbox.get_nowait()
            if job is None:
                return False
            self._do(job)
        except queue.Empty:
            pass
        return True

    def _do(self, job: Callable[[], None]) -> None:
        self._carrier.now_ns = self._clock_ns()
        try:
            job()
        except Exception as error:
            log.exception("a job of the engine loop failed", exc_info=error)

    def _seconds_to_timer(self) -> float | None:
        if not self._alarms:
            return None
        return min(LONGEST_WAIT_S, max(0.0, (self._alarms[0][0] - self._clock_ns()) / 1e9))

    def _fire_timers(self) -> None:
        now = self._carrier.now_ns = self._clock_ns()
        while self._alarms and self._alarms[0][0] <= now:
            alarm, session_id = heapq.heappop(self._alarms)
            running = self._sessions.get(session_id)
            if running is None or running.alarm_ns != alarm:
                continue
            running.alarm_ns = None
            self._carrier.tick(running)
            self._carrier.flush(running)

    def _look_after(self, running: Running) -> None:
        """Something was done with a session: notes whether it can step, and when it has to be looked at again.

        So a step costs nothing for the sessions that wait.
        """
        if running.over:
            if self._sessions.get(running.id) is running:
                del self._sessions[running.id]
                self._ready.pop(running.id, None)
            return
        if running.machine.can_step:
            self._ready[running.id] = running
        else:
            self._ready.pop(running.id, None)
        due = running.due_ns
        if due is not None and (running.alarm_ns is None or due < running.alarm_ns):
            running.alarm_ns = due
            heapq.heappush(self._alarms, (due, running.id))

    def _step(self) -> None:
        """One decode step over every session that can take one, engine by engine."""
        batches: dict[int, tuple[Engine, list[tuple[Running, StepRequest]]]] = {}
        for running in list(self._ready.values()):
            if self._carrier.tick(running) and (running.over or not running.machine.can_step):
                self._carrier.flush(running)
                continue
            try:
                request = self._planner.plan(running)
            except Exception as error:
                self._carrier.fail(running, error)
                continue
            if request is not None:
                batches.setdefault(id(running.engine), (running.engine, []))[1].append((running, request))
            if running.outbox or request is None:
                self._carrier.flush(running, stepping=request is not None)
        for engine, batch in batches.values():
            self._step_engine(engine, batch)

    def _step_engine(self, engine: Engine, batch: list[tuple[Running, StepRequest]]) -> None:
        while batch:
            began_ns = self._clock_ns()
            try:
                sampled = engine.step([request for _, request in batch])
            except Exception as error:
                batch = self._drop_failed(engine, batch, error)
                continue
            now_ns = self._carrier.now_ns = self._clock_ns()
            self._carrier.stats.stepped(engine.info.name, now_ns - began_ns, len(batch))
            tokens = {token.sequence: token for token in sampled}
            for running, request in batch:
                if request.sequence in tokens:
                    running.unanswered = None
                    try:
                        self._sampled(running, tokens[request.sequence])
                    except Exception as error:
                        self._carrier.fail(running, error)
                elif running.player is not None:  # what a script has said is not taken back
                    running.unanswered = request
            return

    def _drop_failed(
        self, engine: Engine, batch: list[tuple[Running, StepRequest]], error: Exception
    ) -> list[tuple[Running, StepRequest]]:
        """Ends the sessions that a fault of the engine concerns and returns the rest, to be tried again."""
        lost = error.sequence if isinstance(error, EngineError) else None
        kept = [(running, request) for running, request in batch if lost is not None and request.sequence != lost]
        if len(kept) == len(batch):
            kept = []  # nobody's sequence: the engine is not to be trusted with the others
        for running, _ in batch:
            if not any(running is spared for spared, _ in kept):
                self._carrier.fail(running, error)
        return kept

    def _sampled(self, running: Running, token: Sampled) -> None:
        if running.mask.block_rule is not None:
            running.constraint.accept(token.token_id)
        if running.player is not None and running.sampling_freely:
            items = running.decoder.feed(token.token_id)
            running.player.sampled("".join(item for item in items if isinstance(item, str)))
        if not running.sampled_before:
            running.sampled_before = True
            running.machine.note_cached_tokens(running.engine.cached_tokens(running.sequence))
        top = with_texts(token.top, running.engine.tokenizer) if token.top else ()
        event = TokenSampled(token_id=token.token_id, logprob=token.logprob, rank=token.rank, top=top)
        self._carrier.receive(running, event)
        self._carrier.flush(running)

    # --- sessions --------------------------------------------------------------------------------------------

    def _open(self, request: SessionRequest) -> None:
        if self._stopped:
            raise RuntimeError("the engine loop has stopped")
        if request.session_id in self._sessions:
            raise ValueError(f"session id {request.session_id!r} is taken")
        running = self._sessions[request.session_id] = Running(request, self._carrier.now_ns)
        self._carrier.stats.started += 1
        self._look_after(running)

    def _find(self, session_id: str) -> Running:
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
        target = min(now + ms, LATEST_MS)
        while not running.over:
            due = running.machine.next_timer_ms
            if due is None or not now < due < target:
                break
            now = due
            running.move_clock(due)
            self._carrier.tick(running)
        running.move_clock(target)
        self._carrier.tick(running)
        self._carrier.flush(running)
        return target

    def _receive_posted(
        self,
        session_id: str,
        event: Event,
        on_error: Callable[[Exception], None] | None = None,
        unless: Callable[[], bool] | None = None,
    ) -> None:
        running = self._sessions.get(session_id)
        if running is None or (unless is not None and unless()):
            return
        self._carrier.tick(running)
        self._carrier.receive(running, event, on_error)
        self._carrier.flush(running)
