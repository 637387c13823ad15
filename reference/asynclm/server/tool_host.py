"""The server's own tools as the loop's tool host: calls go to their thread, answers come back as interrupts."""

from __future__ import annotations

import time
from collections.abc import Callable

from asynclm.cml.control import Status
from asynclm.session.effects import CallCancelRequested, CallDispatched
from asynclm.session.events import Event, InterruptReceived
from asynclm.tools.call import ToolCall, ToolUpdate
from asynclm.tools.durations import UsualDurations
from asynclm.tools.executor import ToolExecutor
from asynclm.tools.thread import ToolThread
from asynclm.tools.toolset import ToolSet

Post = Callable[[str, Event], None]
"""Gives an event to a session by its id, from any thread."""


class LocalToolHost:
    """A `ToolHost` for tools in this process.

    Args:
        tools: the server's own tools.
        max_concurrency: calls that run at once, over all sessions.
        clock: seconds.

    Attributes:
        durations: what the tools took lately, from dispatch to result [TRAP-052].
    """

    def __init__(
        self, tools: ToolSet, *, max_concurrency: int = 16, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.tools = tools
        self.durations = UsualDurations()
        self._clock = clock
        self._dispatched: dict[tuple[str, int], tuple[str, float]] = {}
        self._post: Post | None = None
        self._thread = ToolThread(lambda: ToolExecutor(tools, max_concurrency=max_concurrency, on_update=self._answer))

    def connect(self, post: Post) -> None:
        """Says where answers go; to be called before the first dispatch."""
        self._post = post

    def dispatch(self, session_id: str, call: CallDispatched) -> None:
        """Starts a call."""
        self._dispatched[session_id, call.index] = call.function, self._clock()
        self._thread.submit(
            ToolCall(
                session_id=session_id,
                index=call.index,
                id=call.id,
                function=call.function,
                arguments_json=call.arguments,
                timeout_ms=call.timeout_ms,
                timed=False,  # the session's machine ends it, by the session's clock [CALL-054]
            )
        )

    def cancel(self, session_id: str, request: CallCancelRequested) -> None:
        """Stops a call."""
        self._thread.cancel(session_id, request.index)

    def close(self) -> None:
        """Cancels what runs and ends the thread."""
        self._thread.close()

    def _answer(self, update: ToolUpdate) -> None:
        if update.final:
            self._learn(update)
        # A final CANCELLED only answers our own cancel: the machine has resolved the call already.
        if self._post is not None and update.status is not Status.CANCELLED:
            self._post(
                update.session_id,
                InterruptReceived(
                    call_index=update.index, status=update.status, payload=update.payload, from_client=False
                ),
            )

    def _learn(self, update: ToolUpdate) -> None:
        function, since = self._dispatched.pop((update.session_id, update.index), ("", 0.0))
        if function and update.status is not Status.CANCELLED and not update.cached:
            self.durations.observe(function, (self._clock() - since) * 1000)
