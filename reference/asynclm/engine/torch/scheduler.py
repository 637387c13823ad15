"""Who takes part in a step, and with how many tokens. Pure: numbers in, numbers out.

Least recently served first, so nobody starves. Three kinds of work share a step:

* decode steps, one token each;
* short prefills (an interrupt's ids, a short prompt, the end of a long one), which go first among prefills, so that an
  interrupt costs about one step;
* long prefills, one after another in the order of arrival, which all together count as one in turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asynclm.engine.base import SequenceId

CPU_CHUNK = 64
"""Tokens prefilled beside other sequences' decode steps on CPU. Where a decode step takes 13 ms, one with a chunk of 64
takes 45 and one with 256 takes 150, by which the whole prompt is done a sixth sooner."""

GPU_CHUNK = 512
"""The same on a GPU, which computes so many in hardly more time than one."""

LONG_SHARE = 4
"""While short prefills fill the chunk, the long ones get this fraction of it on top, so that no flood stops them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """How much goes into one step.

    Attributes:
        max_batch: sequences.
        step_tokens: tokens, decode steps and prefill together.
        chunk: tokens of prefill while others decode.

    Raises:
        ValueError: one of them is not positive.
    """

    max_batch: int = 32
    step_tokens: int = 512
    chunk: int = CPU_CHUNK

    def __post_init__(self) -> None:
        for name in ("max_batch", "step_tokens", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sequence that could take part.

    Attributes:
        number: its id.
        pending: tokens to compute before its next token is known, at least one.
        place: its place in the queue, drawn when it last got a token, or was opened; the lowest goes first.
    """

    number: SequenceId
    pending: int
    place: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A step.

    Attributes:
        tokens: how many tokens to compute of each sequence that takes part, in the order of their places.
        long: whether long prefills are among them.
    """

    tokens: Mapping[SequenceId, int]
    long: bool = False


class Scheduler:
    """Plans steps, and says who is next.

    Attributes:
        limits: what a step holds at most.
    """

    def __init__(self, limits: StepLimits) -> None:
        self.limits = limits
        self._places = itertools.count()
        self._long_place = self.draw()

    def draw(self) -> int:
        """A place in the queue, behind all others: for a new sequence, and for each in a plan that got its token."""
        return next(self._places)

    def plan(self, candidates: Sequence[Candidate]) -> Plan:
        """What the next step computes; changes nothing. At least one token if there is any candidate."""
        long = [c for c in candidates if c.pending > self.limits.chunk]
        short = [c for c in candidates if 1 < c.pending <= self.limits.chunk]
        budget = _Budget(self.limits, decodes=len(candidates) - len(long) - len(short), short=short)
        tokens: dict[SequenceId, int] = {}

        def admit(candidate: Candidate) -> None:
            if len(tokens) < self.limits.max_batch and (length := budget.take(candidate.pending)):
                tokens[candidate.number] = length

        waiting = sorted((c for c in candidates if c.pending <= self.limits.chunk), key=_place)
        before = [c for c in waiting if c.place < self._long_place]
        for candidate in before:
            admit(candidate)
        took_part = len(tokens)
        for candidate in sorted(long, key=_place):
            admit(candidate)
        prefills_long = len(tokens) > took_part
        for candidate in waiting[len(before) :]:
            admit(candidate)
        return Plan(tokens, prefills_long)

    def done(self, plan: Plan) -> None:
        """The planned step has been computed."""
        if plan.long:
            self._long_place = self.draw()


class _Budget:
    """The tokens that are left of a step, by kind of work. What waits for whom decides: decode steps for prefills of
    both kinds, short ones for the long."""

    def __init__(self, limits: StepLimits, *, decodes: int, short: Sequence[Candidate]) -> None:
        self._left = limits.step_tokens
        self._chunk = limits.chunk
        room = max(1, limits.step_tokens - min(decodes, limits.max_batch))
        chunk = min(limits.chunk, room)
        self._short = chunk if decodes else room
        unused = chunk - sum(candidate.pending for candidate in short)
        self._long = max(unused, chunk // LONG_SHARE, 1) if decodes or short else room

    def take(self, pending: int) -> int:
        """How many tokens of so many can be computed."""
        if pending == 1:
            taken = min(1, self._left)
        elif pending <= self._chunk:
            taken = min(pending, self._short, self._left)
            self._short -= taken
        else:
            taken = min(pending, self._long, self._left)
            self._long -= taken
        self._left -= taken
        return taken


def _place(candidate: Candidate) -> int:
    return candidate.place
