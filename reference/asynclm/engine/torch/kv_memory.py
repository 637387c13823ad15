"""The KV memory of all sequences: who holds what, within a limit. Carries out what admission and policy decide."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping

from asynclm.engine.base import EngineError, SequenceId
from asynclm.engine.torch.admission import TURN_TOKENS, Decision, Holder, Standing, plan_step
from asynclm.engine.torch.counters import Counters
from asynclm.engine.torch.kv_cache import GRAIN
from asynclm.engine.torch.kv_policy import Action, FixedPolicy, KvPolicy
from asynclm.engine.torch.prefix import PrefixStore
from asynclm.engine.torch.scheduler import Candidate, Plan, Scheduler
from asynclm.engine.torch.sequence import SequenceState
from asynclm.engine.torch.swap import SwapFullError, SwapStore

SPARE_FRACTION = 8
"""A cache that grows gets this fraction of its length as room to spare, so that it is seldom moved to a larger one."""


class KvMemory:
    """Gives sequences room for their keys and values and takes it back.

    Attributes:
        limit: the most bytes held on the device, prefixes included; 0 for no limit.
        held: bytes held by sequences.
        prefixes: beginnings of prompts, kept for later sequences while there is room.
        turn_tokens: see `admission.TURN_TOKENS`.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        limit: int = 0,
        prefix_limit: int = 0,
        longest: int,
        policy: KvPolicy | None = None,
        swap: SwapStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Makes one in which nothing is held.

        Args:
            counters: counts what happens here.
            limit: bytes; 0 for no limit.
            prefix_limit: bytes of it that prefixes may take; 0 for none.
            longest: tokens in a context.
            policy: what happens to suspended sequences' caches; None to keep them while there is room.
            swap: where they are swapped to; None to drop them instead.
            clock: in seconds.

        Raises:
            ValueError: a limit is negative.
        """
        for name, value in (("kv_memory", limit), ("prefix_memory", prefix_limit)):
            if value < 0:
                raise ValueError(f"{name} is {value}; it must be 0 or more")
        self.limit = limit
        self.held = 0
        self.prefixes = PrefixStore(prefix_limit)
        self.turn_tokens = TURN_TOKENS
        self._counters = counters
        self._longest = longest
        self._policy = policy or FixedPolicy(Action.KEEP)
        self._swap = swap
        self._clock = clock
        self._tickets = itertools.count()
        self._spare = math.inf
        self._refused_bytes = 0

    @property
    def swapped(self) -> int:
        """Bytes swapped out."""
        return self._swap.nbytes if self._swap is not None else 0

    @property
    def nbytes(self) -> int:
        """Bytes held on the device."""
        return self.held + self.prefixes.nbytes

    def draw_ticket(self) -> int:
        """A place in turn, behind all others."""
        return next(self._tickets)

    def fits(self, sequence: SequenceState) -> bool:
        """Whether a sequence could be computed if it were alone."""
        return not self.limit or sequence.cache.bytes_for(len(sequence.ids)) <= self.limit

    # --- steps -----------------------------------------------------------------------------------------------

    def plan(
        self,
        scheduler: Scheduler,
        sequences: Mapping[SequenceId, SequenceState],
        asked: Mapping[SequenceId, SequenceState],
    ) -> Plan:
        """Plans a step that there is memory for, and makes room for it.

        Args:
            scheduler: plans what is computed.
            sequences: all that are open.
            asked: those that a token is wanted of.

        Raises:
            EngineError: one of those asked for does not fit, even alone.
        """
        for sequence in asked.values():
            self.resume(sequence)
            if not self.fits(sequence):
                raise EngineError(
                    f"the KV cache of {len(sequence.ids)} tokens takes "
                    f"{sequence.cache.bytes_for(len(sequence.ids)) >> 10} KiB; there may be {self.limit >> 10} KiB",
                    sequence=sequence.number,
                )
        candidates = [Candidate(s.number, self._pending(s), s.place) for s in asked.values()]
        self._refused_bytes = 0
        self._spare = math.inf
        if not self.limit:
            return scheduler.plan(candidates)
        free = self.limit - self.nbytes
        plan = scheduler.plan(candidates)
        extra = sum(_need(asked[number]) - asked[number].cache.nbytes for number in plan.tokens)
        headroom = sum(s.cache.bytes_for(GRAIN) for s in asked.values())
        if extra + headroom <= free:
            self._spare = free - extra
            return plan
        holders = self._holders(sequences.values(), asked)
        plan, decision = plan_step(scheduler, candidates, holders, free, self.prefixes.nbytes)
        self._carry_out(decision, sequences, asked)
        return plan

    def prepare(self, sequence: SequenceState) -> None:
        """Brings a planned sequence's keys and values to where they are computed with, with room for all its tokens.

        Raises:
            EngineError: the device has no room, whatever the limit says.
        """
        try:
            self._reserve(sequence)
            if sequence.swapped is not None:
                self._swap_in(sequence)
            elif sequence.computed == 0:
                self._fill(sequence)
        except MemoryError as error:
            raise EngineError(str(error), sequence=sequence.number) from error

    def computed(self, sequence: SequenceState, length: int) -> None:
        """So many more tokens of a sequence were computed."""
        start, end = sequence.computed, sequence.computed + length
        again = max(0, min(end, sequence.furthest) - start)
        first_sampled = length > again and sequence.furthest == sequence.sampled_place
        self._counters.recomputed_tokens += again
        self._counters.prefilled_tokens += length - again - first_sampled
        sequence.computed = end
        sequence.furthest = max(sequence.furthest, end)

    def answered(self, sequence: SequenceState) -> None:
        """A sequence got a token, from sound logits: its prompt is good for others, and it has had part of its turn."""
        if not sequence.shared and self.prefixes.limit:
            sequence.shared = True
            room = self.limit - self.nbytes if self.limit else self.prefixes.limit
            prompt = sequence.ids[: sequence.prompt_length]
            self.prefixes.add(sequence.cache, prompt, sequence.adapter, room=max(0, room))
        sequence.turn_tokens += 1
        if self._refused_bytes and sequence.turn_tokens >= self.turn_tokens:
            sequence.ticket, sequence.turn_tokens = self.draw_ticket(), 0

    # --- suspension ------------------------------------------------------------------------------------------

    def suspend(self, sequence: SequenceState, expected_wait_ms: int | None) -> None:
        """Does with a sequence's cache what the policy says."""
        sequence.suspended = True
        sequence.due = math.inf if expected_wait_ms is None else self._clock() + expected_wait_ms / 1e3
        if sequence.cache.nbytes:
            action = self._policy.decide(len(sequence.ids), expected_wait_ms, self.pressure)
            if action is not Action.KEEP:
                self._put_aside(sequence, action)

    def resume(self, sequence: SequenceState) -> None:
        """Ends `suspend`; what was moved or dropped comes back with the next step."""
        if sequence.suspended:
            sequence.suspended = False
            self._counters.kept += bool(sequence.cache.nbytes)

    @property
    def pressure(self) -> float:
        """The share of the limit that sequences hold or were refused in the last step."""
        return (self.held + self._refused_bytes) / self.limit if self.limit else 0.0

    def forget(self, sequence: SequenceState) -> None:
        """Frees all that a sequence holds, here and where it was swapped to."""
        self._free(sequence)
        self._forget_swapped(sequence)

    def close(self) -> None:
        """Gives back what belongs to no sequence."""
        self.prefixes.free(self.prefixes.nbytes)
        if self._swap is not None:
            self._swap.close()

    # --- inside ----------------------------------------------------------------------------------------------

    def _pending(self, sequence: SequenceState) -> int:
        found = 0 if sequence.computed else self.prefixes.find(sequence.ids, sequence.adapter)
        return sequence.pending - found

    def _holders(
        self, sequences: Iterable[SequenceState], asked: Mapping[SequenceId, SequenceState]
    ) -> dict[SequenceId, Holder]:
        return {
            s.number: Holder(
                number=s.number,
                ticket=s.ticket,
                held=s.cache.nbytes,
                need=_need(s),
                growth=s.cache.bytes_for(GRAIN),
                standing=(
                    Standing.ASKED if s.number in asked else Standing.SUSPENDED if s.suspended else Standing.IDLE
                ),
                due=s.due,
            )
            for s in sequences
            if s.number in asked or s.cache.nbytes
        }

    def _carry_out(
        self,
        decision: Decision,
        sequences: Mapping[SequenceId, SequenceState],
        asked: Mapping[SequenceId, SequenceState],
    ) -> None:
        self.prefixes.free(decision.prefixes)
        for number in decision.given_up:
            sequence = sequences[number]
            if number in asked:
                self._counters.preemptions += 1
                self._drop(sequence)
            else:
                self._put_aside(sequence, self._policy.evict(len(sequence.ids)))
        self._spare = decision.spare
        self._refused_bytes = sum(_need(asked[n]) - asked[n].cache.nbytes for n in decision.refused if n in asked)

    def _put_aside(self, sequence: SequenceState, action: Action) -> None:
        """Swaps a cache out, or drops it."""
        if action is Action.SWAP and self._swap is not None and sequence.computed:
            try:
                sequence.swapped = self._swap.put(sequence.cache.rows[:, :, :, : sequence.computed])
            except SwapFullError:
                pass  # nothing of it was swapped: it is dropped
            else:
                self._counters.swapped += 1
                self._free(sequence)
                return
        self._counters.dropped += 1
        self._drop(sequence)

    def _drop(self, sequence: SequenceState) -> None:
        self._free(sequence)
        sequence.computed = 0

    def _free(self, sequence: SequenceState) -> None:
        self.held -= sequence.cache.nbytes
        sequence.cache.free()

    def _reserve(self, sequence: SequenceState) -> None:
        cache, length = sequence.cache, len(sequence.ids)
        if length <= cache.capacity:
            return
        before = cache.nbytes
        roomy = min(self._longest, length + max(GRAIN, length // SPARE_FRACTION))
        luxury = cache.bytes_for(roomy) - cache.bytes_for(length)
        if luxury <= self._spare:
            self._spare -= luxury
            length = roomy
        cache.reserve(length)
        self.held += cache.nbytes - before

    def _swap_in(self, sequence: SequenceState) -> None:
        assert self._swap is not None
        assert sequence.swapped is not None
        try:
            sequence.cache.rows[:, :, :, : sequence.computed] = self._swap.get(sequence.swapped)
        except OSError:  # what cannot be read any more is computed again
            sequence.computed = 0
        self._forget_swapped(sequence)

    def _forget_swapped(self, sequence: SequenceState) -> None:
        if self._swap is not None and sequence.swapped is not None:
            self._swap.free(sequence.swapped)
        sequence.swapped = None

    def _fill(self, sequence: SequenceState) -> None:
        found = self.prefixes.fill(sequence.cache, sequence.ids, sequence.adapter)
        sequence.computed = found
        if not sequence.furthest:
            sequence.hits = min(found, sequence.prompt_length)
            sequence.furthest = found
            self._counters.prefix_hit_tokens += sequence.hits


def _need(sequence: SequenceState) -> int:
    """Bytes with which a sequence can take part in a step."""
    return max(sequence.cache.nbytes, sequence.cache.bytes_for(len(sequence.ids)))
