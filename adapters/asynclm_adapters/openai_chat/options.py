"""Settings of the adapter, validated on construction."""

from __future__ import annotations

import enum
from dataclasses import dataclass

PRESETS = {"gpt-4o": 128_000, "gpt-4o-mini": 128_000}
"""Named models and their context lengths, in tokens."""

DEFAULT_CONTEXT = 32_768


class InterruptRole(enum.StrEnum):
    """As what an interrupt enters the conversation."""

    TOOL = "tool"
    """A synthetic tool call and its result."""
    DEVELOPER = "developer"
    USER = "user"


@dataclass(frozen=True, kw_only=True)
class OpenAIOptions:
    """How to reach a chat-completions endpoint, and how to speak with it.

    Attributes:
        model: the name that the endpoint knows.
        base_url: the endpoint; None for OpenAI's own, or `OPENAI_BASE_URL`.
        api_key: the key; None for `OPENAI_API_KEY`.
        interrupt_role: as what interrupts enter the conversation.
        context_length: tokens of prompt and answer together; None for the preset's.
        max_sequences: sessions open at once.
        retries: how often a request is tried again that failed before its first token, or whose stream broke off.
        backoff_s: seconds until the first of those, where the endpoint does not say; it doubles.
        first_token_s: seconds that the first token of a request may take.
        stall_s: seconds that a stream may be silent for.
        scripts: the endpoint plays scripts (`asynclm mock-openai`).

    Raises:
        ValueError: a setting is out of range.
    """

    model: str = "gpt-4o"
    base_url: str | None = None
    api_key: str | None = None
    interrupt_role: InterruptRole = InterruptRole.TOOL
    context_length: int | None = None
    max_sequences: int = 64
    retries: int = 4
    backoff_s: float = 0.25
    first_token_s: float = 60.0
    stall_s: float = 30.0
    scripts: bool = False

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model is empty; give the name that the endpoint knows, such as gpt-4o")
        for name in ("max_sequences", "backoff_s", "first_token_s", "stall_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; it must be 0 or more")

    @property
    def tokens(self) -> int:
        """The context length in force."""
        return self.context_length or PRESETS.get(self.model, DEFAULT_CONTEXT)
