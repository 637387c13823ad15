"""The provider's prompt cache, as OpenAI documents it: prefixes from 1,024 tokens on, in steps of 128."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from asynclm_adapters.openai_mock.clock import Clock

MINIMUM_TOKENS = 1024
STEP_TOKENS = 128
KEPT_S = 300.0
"""How long an unused prefix is kept: the lower end of what is documented (5 to 10 minutes)."""


class PrefixCache:
    """Prefixes of the prompts seen, by digest; knows how much of a new prompt it has."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used_s: dict[bytes, float] = {}

    def reset(self) -> None:
        """Forgets every prompt."""
        self._used_s.clear()

    def use(self, model: str, tokens: Sequence[str]) -> int:
        """Looks a prompt up and stores it; returns how many of its tokens were cached.

        The last token is always computed: it is what the first output token comes from.
        """
        now = self._clock.now()
        self._used_s = {digest: at for digest, at in self._used_s.items() if now - at <= KEPT_S}
        cached = 0
        hit = True
        for length, digest in _prefixes(model, tokens):
            hit = hit and digest in self._used_s
            cached = length if hit else cached
            self._used_s[digest] = now
        return cached


def _prefixes(model: str, tokens: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    state = hashlib.blake2b(model.encode(), digest_size=16)
    for start in range(0, len(tokens) - STEP_TOKENS, STEP_TOKENS):
        state.update("\0".join(("", *tokens[start : start + STEP_TOKENS])).encode("utf-8", "surrogatepass"))
        length = start + STEP_TOKENS
        if length >= MINIMUM_TOKENS:
            yield length, state.digest()
