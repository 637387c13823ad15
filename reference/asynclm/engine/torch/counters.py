"""Counts what the engine does; `EngineStats` is the snapshot."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


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

    def now(self) -> dict[str, Any]:
        """The counters by name. Made at each step, for a tenth of what `dataclasses.asdict` takes."""
        return {name: getattr(self, name) for name in _NAMES}


_NAMES = tuple(field.name for field in fields(Counters))
