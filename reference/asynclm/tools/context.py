"""What a running tool knows of its call, and what it may say before its result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from asynclm.cml.control import Status
from asynclm.tools.errors import ToolError, ToolErrorType
from asynclm.tools.json_text import to_json_text


@dataclass(frozen=True, slots=True)
class Partial:
    """A part of the result, known early: yielded by a generator tool, sent as a `partial` interrupt."""

    value: object


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a tool is: yielded by a generator tool, sent as a `progress` interrupt.

    Attributes:
        message: for the model and for people.
        fraction: share of the work done, 0 to 1, or None if unknown.

    Raises:
        ValueError: fraction is out of range.
    """

    message: str
    fraction: float | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None and not 0.0 <= self.fraction <= 1.0:
            raise ValueError(f"progress.fraction is {self.fraction}; allowed: 0 to 1, or None")


@dataclass(frozen=True, slots=True)
class Result:
    """A generator tool's result; yielding it ends the tool."""

    value: object


Update = Partial | Progress | Result
"""What a generator tool may yield."""


def render_update(update: Partial | Progress) -> tuple[Status, str]:
    """An update's status and payload [INT-013].

    Raises:
        UnserializableError: JSON cannot hold the value.
    """
    if isinstance(update, Partial):
        return Status.PARTIAL, to_json_text(update.value)
    return Status.PROGRESS, to_json_text({"message": update.message, "fraction": update.fraction})


@dataclass(eq=False, kw_only=True)
class ToolContext:
    """A call's context. A tool gets it by declaring a parameter with this annotation; the model never sees that one.

    Every method may be called from the event loop and from the tool's own thread.

    Attributes:
        session_id: the session that the call belongs to.
        index: the call index in its session.
        call_id: the call's id, or None if it is anonymous.
        function: the tool's name.
        deadline: when the call times out, on `clock`, in seconds; None if it does not.
        clock: seconds, monotonic.
    """

    session_id: str = ""
    index: int = 0
    call_id: str | None = None
    function: str = ""
    deadline: float | None = None
    clock: Callable[[], float] = time.monotonic
    emit: Callable[[Status, str], None] = field(default=lambda status, payload: None, repr=False)
    """Where updates go; set by the executor."""
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any longer: cancelled, or timed out."""
        return self._cancelled.is_set()

    @property
    def remaining_ms(self) -> float | None:
        """Milliseconds until the call times out, never negative; None if it does not."""
        return None if self.deadline is None else max(0.0, (self.deadline - self.clock()) * 1000.0)

    def raise_if_cancelled(self) -> None:
        """Ends a tool that runs in a thread, which no cancel can reach from outside.

        Raises:
            ToolError: of type `cancelled`, if nobody waits for the result any longer.
        """
        if self.cancelled:
            raise ToolError("cancelled", type=ToolErrorType.CANCELLED)

    def wait_cancelled(self, seconds: float | None = None) -> bool:
        """Blocks a tool's thread until it is cancelled, at most so long; a sleep that a cancel ends.

        Returns:
            Whether it was cancelled.
        """
        return self._cancelled.wait(seconds)

    def progress(self, message: str, fraction: float | None = None) -> None:
        """Sends a `progress` interrupt.

        Raises:
            ValueError: fraction is out of range.
        """
        self.emit(*render_update(Progress(message, fraction)))

    def partial(self, value: object) -> None:
        """Sends a `partial` interrupt.

        Raises:
            UnserializableError: JSON cannot hold the value.
        """
        self.emit(*render_update(Partial(value)))

    def set_cancelled(self) -> None:
        """Sets the flag; called by the executor."""
        self._cancelled.set()
