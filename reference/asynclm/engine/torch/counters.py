"""Counts what the engine does; `EngineStats` is the snapshot."""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from asynclm.engine.base import EngineStats


@dataclass(slots=True)
class Counters:
    """The counters of `EngineStats`, under the same names; written by the engine's thread."""

    steps: int = 0
    step_seconds: float = 0.0
    batched_sequences: int = 0
    sampled_tokens: int = 0
    prefilled_tokens: int = 0
    injected_tokens: int = 0
    recomputed_tokens: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    kept: int = 0
    swapped: int = 0
    dropped: int = 0
    waiting_sequences: int = 0
    last_batch: int = 0

    def count_step(self, seconds: float, *, asked: int, batch: int, sampled: int) -> None:
        """A step was done."""
        self.steps += 1
        self.step_seconds += seconds
        self.batched_sequences += batch
        self.sampled_tokens += sampled
        self.waiting_sequences = asked - sampled
        self.last_batch = batch


_NAMES = tuple(field.name for field in fields(Counters))
_values = attrgetter(*_NAMES)


class Snapshot:
    """What the counters said at one moment, and what was held then; `EngineStats` are made of it when asked for.

    One is taken at each step, and few are asked for.

    Args:
        counters: which go on counting.
        held: the fields of `EngineStats` that are no counters.
    """

    __slots__ = ("_counted", "_held")

    def __init__(self, counters: Counters, **held: int) -> None:
        self._counted: tuple[Any, ...] = _values(counters)
        self._held = held

    def stats(self) -> EngineStats:
        """The statistics of that moment."""
        return EngineStats(**dict(zip(_NAMES, self._counted, strict=True)), **self._held)
