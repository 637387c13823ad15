"""What tokens say by themselves, for people who look at what a model might have sampled [WIRE-063]."""

from __future__ import annotations

from collections.abc import Iterable

from asynclm.cml.codec import Tokenizer
from asynclm.engine.base import ScoredId
from asynclm.session.events import TokenLogprob


def token_text(token_id: int, tokenizer: Tokenizer) -> str:
    """The text of one token: bytes that are no text by themselves are U+FFFD, special tokens are spelled."""
    if token_id in tokenizer.special_ids:
        return tokenizer.spelling(token_id)
    return tokenizer.token_bytes(token_id).decode("utf-8", "replace")


def with_texts(scored: Iterable[ScoredId], tokenizer: Tokenizer) -> tuple[TokenLogprob, ...]:
    """Scored ids with their texts."""
    return tuple(
        TokenLogprob(token_id=s.token_id, logprob=s.logprob, text=token_text(s.token_id, tokenizer)) for s in scored
    )
