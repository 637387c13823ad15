"""One sequence's state: its ids, how many of them its KV cache holds, and its place among the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from asynclm.engine.base import SequenceId
from asynclm.engine.torch.kv_cache import SequenceCache
from asynclm.engine.torch.sampler import Sampler
from asynclm.engine.torch.swap import SwapHandle


class SequenceState:
    """What the engine knows of an open sequence.

    Attributes:
        number: its id.
        ids: all its tokens: prompt, sampled and injected.
        prompt_length: how many of them are the prompt's.
        adapter: the adapter's name, or None for the model as it is.
        sampler: chooses its tokens.
        cache: its KV cache.
        computed: tokens whose keys and values exist, in the cache or where it was swapped to.
        furthest: the most that were ever computed; what is computed below it is computed again.
        hits: tokens of the prompt whose keys and values were found in the prefix store.
        sampled_place: the place in `ids` of the last sampled token; -1 if there is none.
        shared: its prompt was offered to the prefix store.
        place: its place in the scheduler's queue.
        ticket: its place in turn for memory.
        turn_tokens: tokens sampled since it drew that ticket.
        suspended: no step is expected.
        due: when it is expected back, on the memory's clock.
        swapped: where its keys and values are, if they are not in the cache.
    """

    def __init__(
        self,
        number: SequenceId,
        prompt_ids: Sequence[int],
        *,
        cache: SequenceCache,
        sampler: Sampler,
        adapter: str | None = None,
        place: int = 0,
        ticket: int = 0,
    ) -> None:
        self.number = number
        self.ids = list(prompt_ids)
        self.prompt_length = len(prompt_ids)
        self.adapter = adapter
        self.sampler = sampler
        self.cache = cache
        self.computed = 0
        self.furthest = 0
        self.hits = 0
        self.sampled_place = -1
        self.shared = False
        self.place = place
        self.ticket = ticket
        self.turn_tokens = 0
        self.suspended = False
        self.due = math.inf
        self.swapped: SwapHandle | None = None

    @property
    def pending(self) -> int:
        """Tokens still to be computed, at least one: the last sampled token is always among them."""
        return len(self.ids) - self.computed

    def took(self, token_id: int) -> None:
        """A token was sampled, or forced."""
        self.sampled_place = len(self.ids)
        self.ids.append(token_id)
