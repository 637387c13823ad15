"""What a session costs on the endpoint: exact where it says so, estimated where a request was closed before its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from asynclm.session.effects import HostedUsage

CHARACTERS_A_TOKEN = 4
"""About so many characters make a token of English; endpoints tell the true number only at the end of an answer."""


def tokens_of(characters: int) -> int:
    """About how many tokens so many characters make."""
    return -(-characters // CHARACTERS_A_TOKEN)


@dataclass
class RequestCost:
    """One request.

    Attributes:
        prompt_characters: of its messages.
        received_characters: of its answer.
        discarded_characters: of those, what is no part of the context.
        first_token_ms: from sending it to the first piece; None if none came.
        told: prompt, cached and completion tokens, as the endpoint says; None if it has not said.
    """

    prompt_characters: int = 0
    received_characters: int = 0
    discarded_characters: int = 0
    first_token_ms: int | None = None
    told: tuple[int, int, int] | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its messages."""
        return self.told[0] if self.told else tokens_of(self.prompt_characters)

    @property
    def completion_tokens(self) -> int:
        """Tokens of its answer, as far as it was received or told."""
        return self.told[2] if self.told else tokens_of(self.received_characters)

    @property
    def discarded_tokens(self) -> int:
        """Of those, what is no part of the context, by its share of the characters."""
        if not self.received_characters:
            return 0
        return round(self.completion_tokens * self.discarded_characters / self.received_characters)


def total(requests: Iterable[RequestCost]) -> HostedUsage:
    """The account of a session."""
    every = list(requests)
    return HostedUsage(
        requests=len(every),
        prompt_tokens=sum(request.prompt_tokens for request in every),
        cached_tokens=sum(request.told[1] for request in every if request.told),
        completion_tokens=sum(request.completion_tokens for request in every),
        discarded_tokens=sum(request.discarded_tokens for request in every),
        estimated_requests=sum(request.told is None for request in every),
        first_token_ms=tuple(request.first_token_ms for request in every if request.first_token_ms is not None),
    )
