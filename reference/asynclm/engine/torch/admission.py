"""Who holds KV memory when there is not enough for all. Pure: numbers in, numbers out.

Memory is given by ticket, the lowest first. What is needed is taken from the prefix store, then from suspended
sequences, then from those that nobody asks for, then from running ones with later tickets, the latest first. Whoever
has had its turn while others waited for memory draws a new ticket, the last one, so everybody comes to be the first,
and the first is never refused.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from asynclm.engine.base import SequenceId
from asynclm.engine.torch.scheduler import Candidate, Plan, Scheduler

TURN_TOKENS = 256
"""Tokens that a sequence samples before it may lose its memory to those that wait for theirs. Computing a dropped
context again takes as long as sampling about a tenth of its tokens, so turns cost little."""


class Standing(enum.IntEnum):
    """How readily a sequence gives its memory up."""

    SUSPENDED = 0
    IDLE = 1
    """Not suspended, but not asked for in this step."""
    ASKED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A sequence that holds memory or asks for it.

    Attributes:
        number: its id.
        ticket: its place in turn.
        held: bytes.
        need: bytes that it must hold to take part in a step; not less than `held`.
        growth: bytes that it will need next while it runs.
        standing: whether it is asked for.
        due: when it is expected back, if it is suspended; those expected last give their memory up first.
    """

    number: SequenceId
    ticket: int
    held: int
    need: int
    growth: int
    standing: Standing
    due: float = math.inf


@dataclass(frozen=True, slots=True)
class Decision:
    """Who gets memory and who gives it up.

    Attributes:
        refused: sequences that take no part in this step for want of memory.
        given_up: sequences to lose what they hold, in this order.
        prefixes: bytes to be freed in the prefix store.
        spare: bytes that are left.
    """

    refused: frozenset[SequenceId] = frozenset()
    given_up: tuple[SequenceId, ...] = ()
    prefixes: int = 0
    spare: int = 0


def plan_step(
    scheduler: Scheduler,
    candidates: Sequence[Candidate],
    holders: Mapping[SequenceId, Holder],
    free: int,
    prefixes: int,
) -> tuple[Plan, Decision]:
    """Plans a step of sequences that all have memory for it; changes nothing.

    Args:
        scheduler: plans what is computed.
        candidates: the sequences asked for.
        holders: those, and all others that hold memory.
        free: bytes that nobody holds; negative if the limit was lowered.
        prefixes: bytes in the prefix store.
    """
    refused: set[SequenceId] = set()
    while True:
        plan = scheduler.plan([c for c in candidates if c.number not in refused])
        decision = decide(holders, plan.tokens, free, prefixes)
        if not decision.refused:
            return plan, Decision(frozenset(refused), decision.given_up, decision.prefixes, decision.spare)
        refused |= decision.refused


def decide(holders: Mapping[SequenceId, Holder], chosen: Collection[SequenceId], free: int, prefixes: int) -> Decision:
    """Gives memory to the chosen, or refuses it; see `plan_step` for the arguments."""
    purse = _Purse(holders.values(), free, prefixes)
    refused: set[SequenceId] = set()
    running = [h for h in holders.values() if h.standing is Standing.ASKED and h.held]
    first_refused = math.inf
    for want in sorted((holders[number] for number in chosen), key=_ticket):
        extra = want.need - want.held
        if want.number in purse.given_up or (not want.held and want.ticket > first_refused):
            refused.add(want.number)
        elif not purse.take(want, extra, headroom=0 if want.held else _headroom(want, running)):
            refused.add(want.number)
            if not want.held:
                first_refused = min(first_refused, want.ticket)
    # Whoever holds nothing waits behind the first that was refused, chosen in this step or not.
    refused |= {h.number for h in holders.values() if not h.held and h.ticket > first_refused}
    return Decision(frozenset(refused), tuple(purse.given_up), purse.prefixes_taken, purse.free)


class _Purse:
    """Memory that is free or can be taken back, in the order in which it is."""

    def __init__(self, holders: Iterable[Holder], free: int, prefixes: int) -> None:
        self.free = free
        self.prefixes_taken = 0
        self.given_up: dict[SequenceId, None] = {}
        self._prefixes = prefixes
        self._holders = sorted((h for h in holders if h.held), key=_readiness)

    def take(self, want: Holder, extra: int, headroom: int) -> bool:
        """Takes so many bytes for a sequence, if they and the headroom can be had."""
        if extra <= 0:
            return True
        from_prefixes = min(self._prefixes, max(0, extra - self.free))
        found = self.free + from_prefixes
        reachable = self.free + self._prefixes
        victims = []
        for holder in self._holders:
            if holder.number in self.given_up or not _may_take(want, holder):
                continue
            reachable += holder.held
            if found < extra:
                found += holder.held
                victims.append(holder.number)
        if found < extra or reachable < extra + headroom:
            return False
        self.free = found - extra
        self._prefixes -= from_prefixes
        self.prefixes_taken += from_prefixes
        self.given_up |= dict.fromkeys(victims)
        return True


def _may_take(want: Holder, holder: Holder) -> bool:
    return holder.number != want.number and (holder.standing is not Standing.ASKED or holder.ticket > want.ticket)


def _headroom(want: Holder, running: Iterable[Holder]) -> int:
    """What those before it will need next: without it, a sequence let in would soon be driven out again."""
    return sum(holder.growth for holder in running if holder.ticket < want.ticket)


def _ticket(holder: Holder) -> int:
    return holder.ticket


def _readiness(holder: Holder) -> tuple[Standing, float, int]:
    return holder.standing, -holder.due if holder.standing is Standing.SUSPENDED else 0.0, -holder.ticket
