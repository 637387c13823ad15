"""What a session looks like in time: the values that the drawings draw. All times are milliseconds of its clock."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from asynclm.demo.transcript import Landed, Span
from asynclm.session.effects import Usage
from asynclm.session.state import Delivery, FinishReason, Result


class Activity(enum.StrEnum):
    """What the model does in a stretch of time."""

    PREFILL = "prefill"
    """The prompt is read; ends with the first token."""
    TEXT = "text"
    """Text outside blocks is decoded."""
    BLOCK = "block"
    """A call or a trap is written: not interruptible."""
    TRAPPED = "trapped"
    """Decoding stands still at a trap, for its condition."""
    DRAINING = "draining"
    """Decoding stands still after end of sequence, for pending calls."""
    IDLE = "idle"
    """The answer is complete; the session is kept."""

    @property
    def decoding(self) -> bool:
        """Whether tokens are computed."""
        return self in (Activity.PREFILL, Activity.TEXT, Activity.BLOCK)

    @property
    def waiting(self) -> bool:
        """Whether the model stands still for results."""
        return self in (Activity.TRAPPED, Activity.DRAINING)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one activity; `label` is a trap's condition, else empty."""

    activity: Activity
    start_ms: int
    end_ms: int
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpan:
    """One call's life.

    Attributes:
        index: the call index.
        id: its id, or None for an anonymous call.
        function: the function's name.
        raw: the body as written.
        written_ms: when the model began to write it.
        emitted_ms: when its block closed.
        dispatched_ms: when it began to run; None if it never did.
        resolved_ms: when its result was accepted; None if it never was.
        committed_ms: when its result came into the context; None if it never did.
        result: how it resolved; None while it has not.
        delivery: whether its result reached the context; None while that is open.
    """

    index: int
    id: str | None
    function: str
    raw: str
    written_ms: int
    emitted_ms: int
    dispatched_ms: int | None = None
    resolved_ms: int | None = None
    committed_ms: int | None = None
    result: Result | None = None
    delivery: Delivery | None = None

    @property
    def label(self) -> str:
        """The id, or the index for an anonymous call."""
        return self.id if self.id is not None else f"#{self.index}"

    @property
    def run_ms(self) -> int | None:
        """How long it ran, from dispatch to its result."""
        if self.dispatched_ms is None or self.resolved_ms is None:
            return None
        return self.resolved_ms - self.dispatched_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One session laid out in time.

    Attributes:
        title: what the session is called (`async`, say).
        segments: what the model did, without gaps or overlaps.
        calls: its calls, by index.
        interrupts: every committed interrupt, in order.
        transcript: what was written, in order.
        first_token_ms: when the first token came; None if none did.
        last_token_ms: when the last sampled token came; None if none did.
        duration_ms: when the session finished, or the last event.
        reason: why it finished; None while it has not.
        usage: token counts; None while it has not finished.
    """

    title: str
    segments: tuple[Segment, ...]
    calls: tuple[CallSpan, ...]
    interrupts: tuple[Landed, ...]
    transcript: tuple[Span, ...]
    first_token_ms: int | None
    last_token_ms: int | None
    duration_ms: int
    reason: FinishReason | None = None
    usage: Usage | None = None

    @property
    def latency_ms(self) -> int:
        """From the first to the last generated token, as the paper measures it (§6.1)."""
        if self.first_token_ms is None or self.last_token_ms is None:
            return 0
        return self.last_token_ms - self.first_token_ms

    def spent_ms(self, *activities: Activity) -> int:
        """Time spent in these activities."""
        return sum(s.end_ms - s.start_ms for s in self.segments if s.activity in activities)

    @property
    def waiting_ms(self) -> int:
        """Time that the model stood still for results."""
        return self.spent_ms(*(a for a in Activity if a.waiting))

    @property
    def running_ms(self) -> int:
        """Time that calls ran, added up over the calls."""
        return sum(call.run_ms or 0 for call in self.calls)

    @property
    def overlap_ms(self) -> int:
        """Time during which the model decoded while at least one call ran."""
        runs = _union([(c.dispatched_ms, c.resolved_ms) for c in self.calls])
        busy = [(s.start_ms, s.end_ms) for s in self.segments if s.activity.decoding]
        return sum(max(0, min(b, end) - max(a, start)) for a, b in busy for start, end in runs)


def _union(spans: Iterable[tuple[int | None, int | None]]) -> list[tuple[int, int]]:
    """Intervals that cover the given ones and do not overlap; open ones are left out."""
    union: list[tuple[int, int]] = []
    for start, end in sorted((a, b) for a, b in spans if a is not None and b is not None):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union
