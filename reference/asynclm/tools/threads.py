"""Threads for sync tools. A thread that hangs is left behind: it blocks neither the next call nor the program's end."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_IDLE_THREADS = 32
"""Threads kept for the next call."""


@dataclass(slots=True)
class _Job(Generic[T]):
    function: Callable[[], T]
    context: contextvars.Context
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[T]


class ToolThreads:
    """Runs functions in daemon threads, one each, reusing idle ones.

    Unlike `concurrent.futures.ThreadPoolExecutor`, a function whose waiter has gone no longer counts against anybody,
    and the interpreter does not wait for it at exit: a tool that hangs must not stop a server. All methods belong to
    the event loop's thread.
    """

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[_Job[object] | None]] = []
        self._abandoned = 0
        self._closed = False

    @property
    def abandoned(self) -> int:
        """Functions that still run although nobody waits for them."""
        return self._abandoned

    async def run(self, function: Callable[[], T]) -> T:
        """Runs a function in a thread and waits for it. If the waiter is cancelled, the function runs on, abandoned.

        Raises:
            BaseException: whatever the function raises, except `StopIteration`, which becomes a RuntimeError.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._hand_over(_Job(function, contextvars.copy_context(), loop, future))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done():
                self._abandoned += 1
                future.add_done_callback(self._recovered)
            raise

    def close(self) -> None:
        """Ends idle threads; the others end with their function."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)

    def _hand_over(self, job: _Job[T]) -> None:
        inbox: queue.SimpleQueue[_Job[object] | None]
        if self._idle:
            inbox = self._idle.pop()
        else:
            inbox = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,), name="asynclm-tool", daemon=True).start()
        inbox.put(job)  # type: ignore[arg-type]

    def _work(self, inbox: queue.SimpleQueue[_Job[object] | None]) -> None:
        while (job := inbox.get()) is not None:
            value: object = None
            error: BaseException | None = None
            try:
                value = job.context.run(job.function)
            except StopIteration as stop:
                error = RuntimeError(f"the tool raised StopIteration: {stop.value!r}"[:200])
            except BaseException as raised:  # SystemExit from a tool must not end a worker in silence
                error = raised
            try:
                job.loop.call_soon_threadsafe(self._done, job, value, error, inbox)
            except RuntimeError:  # the loop is closed: nobody is left to tell
                return
            del job, value, error  # a waiting thread keeps no argument and no result alive

    def _done(
        self,
        job: _Job[object],
        value: object,
        error: BaseException | None,
        inbox: queue.SimpleQueue[_Job[object] | None],
    ) -> None:
        if self._closed or len(self._idle) >= MAX_IDLE_THREADS:
            inbox.put(None)
        else:
            self._idle.append(inbox)
        if job.future.done():
            return
        if error is None:
            job.future.set_result(value)
        else:
            job.future.set_exception(error)

    def _recovered(self, future: asyncio.Future[T]) -> None:
        self._abandoned -= 1
        if not future.cancelled():
            future.exception()  # read, so that asyncio does not report it as lost
