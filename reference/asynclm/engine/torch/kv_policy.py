"""What happens to the KV cache of a sequence that is suspended: a pure choice, by costs, expected wait and memory.

The paper's rule (§5.4) drops a cache whenever the wait is longer than bringing it back takes. With memory to spare that
only adds latency at resume, so here idle memory has a price, which rises from nothing to the paper's with the share of
the KV memory that is in use. The choice can be made anew while a sequence waits: a cache that is kept can be dropped
at any time, at no cost beyond what dropping it at first would have had.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from asynclm.engine.torch.cost_curves import CostCurves
from asynclm.engine.torch.options import KV_POLICIES

FREE_PRESSURE = 0.5
"""Up to this share of the KV memory, idle caches cost nothing: every other sequence finds room."""

FULL_PRESSURE = 0.9
"""From this share on, idle caches cost what the paper's rule says: a millisecond of waiting against one of return."""

UNKNOWN_WAIT_MS = 5_000
"""The wait that is assumed when nothing is known of it: a person, or a client's tool of undeclared duration.

Rather too long than too short: a wait overestimated costs one return, which is bounded; a wait underestimated holds
memory, while it is short, for as long as it lasts.
"""


class Action(enum.Enum):
    """What to do with a suspended sequence's KV cache."""

    KEEP = "keep"
    """It stays where it is."""
    SWAP = "swap"
    """It is moved to where memory is cheaper, and moved back."""
    RECOMPUTE = "recompute"
    """It is dropped, and computed again from the sequence's ids."""


class KvPolicy(Protocol):
    """Chooses; pure, so the same arguments always give the same action."""

    def decide(self, context_tokens: int, expected_wait_ms: int | None, pressure: float) -> Action:
        """What to do with a cache now.

        Args:
            context_tokens: tokens in the sequence's context.
            expected_wait_ms: how long no step is expected, or None if nothing is known.
            pressure: share of the KV memory in use or asked for; 0 if there is no limit, 1 or more if it is full.
        """
        ...

    def evict(self, context_tokens: int) -> Action:
        """How to give up a cache whose memory is needed now: SWAP or RECOMPUTE."""
        ...


@dataclass(frozen=True, slots=True)
class FixedPolicy:
    """Always the same; also the baseline that measurements compare with.

    With KEEP, memory that is needed is taken by dropping: a server that was told to keep caches was not told to fill
    a disk.
    """

    action: Action

    def decide(self, context_tokens: int, expected_wait_ms: int | None, pressure: float) -> Action:
        """See `KvPolicy.decide`."""
        return self.action

    def evict(self, context_tokens: int) -> Action:
        """See `KvPolicy.evict`."""
        return Action.RECOMPUTE if self.action is Action.KEEP else self.action


@dataclass(frozen=True, slots=True)
class AutoPolicy:
    """By measured costs: keeps what would be back later than it is wanted, at the price that memory has now."""

    curves: CostCurves

    def decide(self, context_tokens: int, expected_wait_ms: int | None, pressure: float) -> Action:
        """See `KvPolicy.decide`.

        The paper's rule, with the wait weighed by `price(pressure)`: at full price it is the paper's, at none it keeps
        everything.
        """
        wait = UNKNOWN_WAIT_MS if expected_wait_ms is None else max(0, expected_wait_ms)
        if self.return_ms(context_tokens) >= wait * price(pressure):
            return Action.KEEP
        return self.evict(context_tokens)

    def evict(self, context_tokens: int) -> Action:
        """The cheaper way back."""
        cheaper = self.curves.recompute(context_tokens) < self.curves.swap(context_tokens)
        return Action.RECOMPUTE if cheaper else Action.SWAP

    def return_ms(self, context_tokens: int) -> float:
        """What the cheaper way back takes, in milliseconds."""
        return min(self.curves.recompute(context_tokens), self.curves.swap(context_tokens))


def price(pressure: float) -> float:
    """What a millisecond of idle KV cache costs, in milliseconds of delay: 0 to 1, rising with the pressure."""
    return min(1.0, max(0.0, (pressure - FREE_PRESSURE) / (FULL_PRESSURE - FREE_PRESSURE)))


def make_policy(name: str, curves: CostCurves | None = None) -> KvPolicy:
    """The policy of this name.

    Args:
        name: one of `options.KV_POLICIES`.
        curves: measured costs, which `auto` needs and the others do not.

    Raises:
        ValueError: there is no such policy, or `auto` got no curves.
    """
    if name not in KV_POLICIES:
        raise ValueError(f"kv_policy is {name[:40]!r}; allowed: {', '.join(KV_POLICIES)}")
    if name != "auto":
        return FixedPolicy(Action(name))
    if curves is None:
        raise ValueError("kv_policy auto needs measured costs")
    return AutoPolicy(curves)
