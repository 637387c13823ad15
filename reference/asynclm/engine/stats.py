"""What the engine loop has done and what it holds, counted as it goes: a few additions a step, no locks.

Counters are changed on the loop's thread alone and may be read on any other: each is exact for itself, and two that
are read together may be one step apart.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from asynclm.session.effects import (
    CallDispatched,
    CallSettled,
    Finished,
    InterruptAccepted,
    InterruptCommitted,
    InterruptRejected,
    Report,
)
from asynclm.session.state import FinishReason, RejectReason, Result, State

SECONDS = tuple(digit * 10.0**power for power in range(-5, 2) for digit in (1, 2.5, 5))
"""Upper bounds of durations' buckets: 10 us to 50 s."""

SEQUENCES = tuple(float(1 << power) for power in range(11))
"""Upper bounds of batch sizes' buckets: 1 to 1024."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram as it stands.

    Attributes:
        bounds: upper bounds of the buckets, ascending; one bucket more has no bound.
        counts: how many values fell into each bucket.
        total: the sum of the values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


class Histogram:
    """Counts values by size."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Takes a value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._total += value

    @property
    def now(self) -> Distribution:
        """What has been added so far."""
        return Distribution(self._bounds, tuple(self._counts), self._total)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSnapshot:
    """The loop's numbers at one moment.

    Attributes:
        step_seconds: duration of decode steps, by the engine's name.
        step_sequences: sequences in them, likewise.
        inbox: jobs that wait for the loop.
        sessions: open sessions by state.
        queued: interrupts accepted and not committed yet, of open sessions.
        started: sessions opened.
        finished: sessions finished, by reason.
        accepted, committed: interrupts.
        rejected: interrupts, by reason.
        dispatched: calls.
        settled: calls, by result.
        commit_seconds: from an interrupt's acceptance to its commit.
        answer_seconds: from an interrupt's acceptance to the first token sampled after its commit.
    """

    step_seconds: Mapping[str, Distribution]
    step_sequences: Mapping[str, Distribution]
    inbox: int
    sessions: Mapping[State, int]
    queued: int
    started: int
    finished: Mapping[FinishReason, int]
    accepted: int
    committed: int
    rejected: Mapping[RejectReason, int]
    dispatched: int
    settled: Mapping[Result, int]
    commit_seconds: Distribution
    answer_seconds: Distribution


@dataclass(slots=True)
class InterruptTrace:
    """When one session's interrupts were accepted, in ns of the loop's clock: those in the queue, by number, and those
    that were committed after its last token.
    """

    queued: dict[int, int] = field(default_factory=dict)
    committed: list[int] = field(default_factory=list)


class LoopStats:
    """Counts what the loop does."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[Histogram, Histogram]] = {}
        self._commit_seconds = Histogram(SECONDS)
        self._answer_seconds = Histogram(SECONDS)
        self.started = 0
        self._accepted = 0
        self._committed = 0
        self._dispatched = 0
        self._finished: Counter[FinishReason] = Counter()
        self._rejected: Counter[RejectReason] = Counter()
        self._settled: Counter[Result] = Counter()
        self._counters: Mapping[type[Report], Callable[..., None]] = {
            InterruptAccepted: self._accept,
            InterruptCommitted: self._commit,
            InterruptRejected: self._reject,
            CallDispatched: self._dispatch,
            CallSettled: self._settle,
            Finished: self._finish,
        }

    def stepped(self, engine: str, nanoseconds: int, sequences: int) -> None:
        """A decode step is done."""
        steps = self._steps.get(engine)
        if steps is None:
            steps = self._steps[engine] = (Histogram(SECONDS), Histogram(SEQUENCES))
        steps[0].add(nanoseconds / 1e9)
        steps[1].add(sequences)

    def reported(self, trace: InterruptTrace, report: Report, now_ns: int) -> None:
        """A session reports something other than `Tokens`."""
        count = self._counters.get(type(report))
        if count is not None:
            count(trace, report, now_ns)

    def answered(self, trace: InterruptTrace, now_ns: int) -> None:
        """A session has its first token after commits."""
        for accepted_ns in trace.committed:
            self._answer_seconds.add((now_ns - accepted_ns) / 1e9)
        trace.committed.clear()

    def snapshot(self, inbox: int, waiting: Sequence[tuple[State, int]]) -> LoopSnapshot:
        """The numbers as they stand.

        Args:
            inbox: jobs that wait for the loop.
            waiting: of each open session the state and the number of its queued interrupts.
        """
        steps = dict(self._steps)
        return LoopSnapshot(
            step_seconds={engine: seconds.now for engine, (seconds, _) in steps.items()},
            step_sequences={engine: sequences.now for engine, (_, sequences) in steps.items()},
            inbox=inbox,
            sessions=Counter(state for state, _ in waiting),
            queued=sum(queued for _, queued in waiting),
            started=self.started,
            finished=self._finished.copy(),
            accepted=self._accepted,
            committed=self._committed,
            rejected=self._rejected.copy(),
            dispatched=self._dispatched,
            settled=self._settled.copy(),
            commit_seconds=self._commit_seconds.now,
            answer_seconds=self._answer_seconds.now,
        )

    # --- one method for each kind of report --------------------------------------------------------------------

    def _accept(self, trace: InterruptTrace, report: InterruptAccepted, now_ns: int) -> None:
        self._accepted += 1
        trace.queued[report.number] = now_ns

    def _commit(self, trace: InterruptTrace, report: InterruptCommitted, now_ns: int) -> None:
        self._committed += 1
        accepted_ns = trace.queued.pop(report.number)
        trace.committed.append(accepted_ns)
        self._commit_seconds.add((now_ns - accepted_ns) / 1e9)

    def _reject(self, _: InterruptTrace, report: InterruptRejected, __: int) -> None:
        self._rejected[report.reason] += 1

    def _dispatch(self, _: InterruptTrace, __: CallDispatched, ___: int) -> None:
        self._dispatched += 1

    def _settle(self, _: InterruptTrace, report: CallSettled, __: int) -> None:
        self._settled[report.row.result] += 1

    def _finish(self, _: InterruptTrace, report: Finished, __: int) -> None:
        self._finished[report.reason] += 1
