"""Runs dispatched calls on an event loop: concurrency limit, order, time-outs, cancellation, reuse of results."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from asynclm.cml.control import Status
from asynclm.tools.cache import CacheKey, ResultCache, cache_key
from asynclm.tools.call import ToolCall, ToolUpdate
from asynclm.tools.context import ToolContext
from asynclm.tools.errors import ToolErrorType, error_payload
from asynclm.tools.run import run_tool
from asynclm.tools.threads import ToolThreads
from asynclm.tools.tool import Tool
from asynclm.tools.toolset import ToolSet
from asynclm.tools.waiting import LongestFirst

log = logging.getLogger("asynclm.tools")


@dataclass(eq=False, slots=True)
class _Entry:
    """One submitted call."""

    call: ToolCall
    run: _Run | None = None
    timer: asyncio.TimerHandle | None = None


@dataclass(eq=False, slots=True)
class _Run:
    """One execution of a tool. Several calls share it if the tool is cacheable and their arguments are equal."""

    tool: Tool
    arguments_json: str
    context: ToolContext
    key: CacheKey | None
    entries: list[_Entry] = field(default_factory=list)
    ticket: int = -1
    task: asyncio.Task[None] | None = None


class ToolExecutor:
    """Runs calls of a set of tools.

    All methods belong to the thread of one event loop; `ToolThread` gives an executor a loop of its own. A call is
    answered by exactly one final update. A tool that does not stop when it is cancelled or timed out is left behind: it
    takes no place from others, but only `max_abandoned` of them may be about.

    Args:
        tools: the tools that can be called.
        max_concurrency: calls that run at once; the others wait, and the longest starts first.
        max_abandoned: tools left behind, beyond which calls are refused with an error of type `limit`.
        cache: where results of cacheable tools are kept; one of the default size if not given.
        on_update: gets every update, on the loop's thread.

    Raises:
        ValueError: a limit is not positive.
    """

    def __init__(
        self,
        tools: ToolSet | Iterable[Tool | Callable[..., Any]],
        *,
        on_update: Callable[[ToolUpdate], None],
        max_concurrency: int = 16,
        max_abandoned: int = 64,
        cache: ResultCache | None = None,
    ) -> None:
        for name, value in (("max_concurrency", max_concurrency), ("max_abandoned", max_abandoned)):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        self.tools = tools if isinstance(tools, ToolSet) else ToolSet(tools)
        self._on_update = on_update
        self._max_concurrency = max_concurrency
        self._max_abandoned = max_abandoned
        self._cache = ResultCache() if cache is None else cache
        self._threads = ToolThreads()
        self._entries: dict[tuple[str, int], _Entry] = {}
        self._shared: dict[CacheKey, _Run] = {}
        self._waiting: LongestFirst[_Run] = LongestFirst()
        self._running: set[_Run] = set()
        self._left_behind: set[asyncio.Task[None]] = set()
        self._pump_scheduled = False
        self._closed = False

    @property
    def running(self) -> int:
        """Tools that run and are waited for."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Tools that wait for a place."""
        return len(self._waiting)

    @property
    def abandoned(self) -> int:
        """Tools that were cancelled or timed out and have not stopped yet."""
        return len(self._left_behind) + self._threads.abandoned

    def submit(self, call: ToolCall) -> None:
        """Takes a dispatched call. It starts in the next turn of the event loop, if there is room.

        Raises:
            ValueError: a call of that session and index has not been answered yet.
            RuntimeError: the executor is closed.
        """
        if self._closed:
            raise RuntimeError("the executor is closed")
        place = (call.session_id, call.index)
        if place in self._entries:
            raise ValueError(f"call {call.index} of session {call.session_id[:80]!r} was submitted before")
        entry = self._entries[place] = _Entry(call)
        tool = self.tools.get(call.function)
        if tool is None:
            known = ", ".join(self.tools.names[:20]) or "none"
            message = f"there is no function {call.function[:80]!r}; there are: {known}"
            self._finish(entry, Status.ERROR, error_payload(ToolErrorType.UNKNOWN_FUNCTION, message))
        elif self.abandoned >= self._max_abandoned:
            message = f"{self.abandoned} tools hang; no more are started until some stop"
            self._finish(entry, Status.ERROR, error_payload(ToolErrorType.LIMIT, message, retryable=True))
        else:
            self._admit(entry, tool)

    def cancel(self, session_id: str, index: int) -> bool:
        """Cancels a call: answers it CANCELLED, and stops its tool if no other call shares it.

        Returns:
            Whether there was such a call, not answered yet.
        """
        entry = self._entries.get((session_id, index))
        if entry is None:
            return False
        started = entry.run is not None and entry.run.task is not None
        message = "cancelled while it ran" if started else "cancelled before it started"
        self._leave(entry, Status.CANCELLED, error_payload(ToolErrorType.CANCELLED, message))
        return True

    def cancel_session(self, session_id: str) -> int:
        """Cancels every call of a session.

        Returns:
            How many there were.
        """
        indices = [index for session, index in self._entries if session == session_id]
        return sum(self.cancel(session_id, index) for index in indices)

    async def aclose(self, grace_seconds: float = 5.0) -> None:
        """Cancels everything, and gives cancelled coroutines so long to clean up."""
        self._closed = True
        for session_id, index in list(self._entries):
            self.cancel(session_id, index)
        if self._left_behind:
            await asyncio.wait(list(self._left_behind), timeout=grace_seconds)
        self._threads.close()

    def _admit(self, entry: _Entry, tool: Tool) -> None:
        call = entry.call
        loop = asyncio.get_running_loop()
        timeout_ms = call.timeout_ms if call.timeout_ms is not None else tool.spec.timeout_ms
        deadline = None if timeout_ms is None else loop.time() + timeout_ms / 1000.0
        key = cache_key(call.function, call.arguments_json) if tool.spec.cacheable else None
        kept = self._cache.get(key) if key else None
        if kept is not None:
            self._finish(entry, Status.OK, kept, cached=True)
            return
        run = self._shared.get(key) if key else None
        if run is None:
            run = self._new_run(tool, call, key, loop)
            run.context.deadline = deadline
        elif run.context.deadline is not None:
            run.context.deadline = None if deadline is None else max(deadline, run.context.deadline)
        run.entries.append(entry)
        entry.run = run
        if call.timed and deadline is not None and timeout_ms is not None:
            entry.timer = loop.call_at(deadline, self._time_out, entry, timeout_ms)

    def _new_run(self, tool: Tool, call: ToolCall, key: CacheKey | None, loop: asyncio.AbstractEventLoop) -> _Run:
        context = ToolContext(
            session_id=call.session_id, index=call.index, call_id=call.id, function=call.function, clock=loop.time
        )
        run = _Run(tool, call.arguments_json, context, key)
        context.emit = self._emitter(run, loop)
        if key:
            self._shared[key] = run
        run.ticket = self._waiting.push(run, tool.spec.expected_duration_ms)
        self._schedule_pump(loop)
        return run

    def _schedule_pump(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not at once: of the calls that are submitted together the longest starts first.
        if not self._pump_scheduled:
            self._pump_scheduled = True
            loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        while len(self._running) < self._max_concurrency and (run := self._waiting.pop()) is not None:
            self._running.add(run)
            run.task = asyncio.create_task(self._execute(run), name=f"tool {run.tool.name}")

    async def _execute(self, run: _Run) -> None:
        outcome = await run_tool(run.tool, run.arguments_json, run.context, self._threads)
        if run not in self._running:
            return  # left behind: everybody has been answered
        self._forget(run)
        if run.key and outcome.status is Status.OK:
            self._cache.put(run.key, outcome.payload)
        for entry in run.entries:
            self._finish(entry, outcome.status, outcome.payload)

    def _forget(self, run: _Run) -> None:
        """Takes a run out of the books, and its place free for the next."""
        self._running.discard(run)
        if run.key and self._shared.get(run.key) is run:
            del self._shared[run.key]
        self._schedule_pump(asyncio.get_running_loop())

    def _time_out(self, entry: _Entry, timeout_ms: int) -> None:
        retryable = entry.run is not None and entry.run.tool.spec.idempotent
        message = f"no result within {timeout_ms} ms"
        self._leave(entry, Status.TIMEOUT, error_payload(ToolErrorType.TIMEOUT, message, retryable=retryable))

    def _leave(self, entry: _Entry, status: Status, payload: str) -> None:
        """Answers one call before its tool has; the last one to leave stops the tool."""
        run = entry.run
        if run is not None:
            run.entries.remove(entry)
            if not run.entries:
                self._stop(run)
        self._finish(entry, status, payload)

    def _stop(self, run: _Run) -> None:
        run.context.set_cancelled()
        if run.task is None:
            self._waiting.remove(run.ticket)
        else:
            self._left_behind.add(run.task)
            run.task.add_done_callback(self._left_behind.discard)
            run.task.cancel()
        self._forget(run)

    def _emitter(self, run: _Run, loop: asyncio.AbstractEventLoop) -> Callable[[Status, str], None]:
        loop_thread = threading.get_ident()

        def emit(status: Status, payload: str) -> None:
            if threading.get_ident() == loop_thread:
                self._publish(run, status, payload)
            elif not run.context.cancelled:
                loop.call_soon_threadsafe(self._publish, run, status, payload)

        return emit

    def _publish(self, run: _Run, status: Status, payload: str) -> None:
        if run in self._running:
            for entry in run.entries:
                self._report(entry, status, payload, final=False)

    def _finish(self, entry: _Entry, status: Status, payload: str, *, cached: bool = False) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
        del self._entries[entry.call.session_id, entry.call.index]
        self._report(entry, status, payload, final=True, cached=cached)

    def _report(self, entry: _Entry, status: Status, payload: str, *, final: bool, cached: bool = False) -> None:
        update = ToolUpdate(
            session_id=entry.call.session_id,
            index=entry.call.index,
            status=status,
            payload=payload,
            final=final,
            cached=cached,
        )
        try:
            self._on_update(update)
        except Exception:  # one session's listener must not take the others down
            log.exception("on_update failed for call %d of session %s", update.index, update.session_id)
