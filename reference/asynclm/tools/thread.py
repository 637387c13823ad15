"""An executor with a thread and an event loop of its own, so that tools start while decoding saturates the CPU."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

from asynclm.tools.call import ToolCall
from asynclm.tools.executor import ToolExecutor


class ToolThread:
    """Owns a `ToolExecutor` on its own event loop. Every method may be called from any thread.

    The decode loop's thread never yields to an event loop; a tool that shared one with it would first run at the next
    trap. Here a dispatched call wakes this thread, and the operating system sees to the rest.

    Args:
        make: makes the executor; called on the thread, once its loop runs.
    """

    def __init__(self, make: Callable[[], ToolExecutor]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="asynclm-tools", daemon=True)
        self._closed = False
        self._thread.start()
        try:
            self._executor: ToolExecutor = self.call(make).result()
        except BaseException:
            self._closed = True
            self._stop()
            raise

    def submit(self, call: ToolCall) -> None:
        """Takes a dispatched call; calls are submitted in the order in which this is called.

        Raises:
            RuntimeError: the thread is closed.
        """
        self._check_open()
        self._loop.call_soon_threadsafe(self._executor.submit, call)

    def cancel(self, session_id: str, index: int) -> None:
        """Cancels a call, if it is not answered yet."""
        self._check_open()
        self._loop.call_soon_threadsafe(self._executor.cancel, session_id, index)

    def cancel_session(self, session_id: str) -> None:
        """Cancels every call of a session."""
        self._check_open()
        self._loop.call_soon_threadsafe(self._executor.cancel_session, session_id)

    def call(self, function: Callable[[], Any]) -> concurrent.futures.Future[Any]:
        """Runs a function on the loop's thread and gives its result."""

        async def run() -> Any:
            return function()

        self._check_open()
        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def close(self, grace_seconds: float = 5.0) -> None:
        """Cancels everything, gives coroutines so long to clean up, and ends the thread. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._executor.aclose(grace_seconds), self._loop).result()
        self._stop()

    def __enter__(self) -> ToolThread:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the tools thread is closed")

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()
