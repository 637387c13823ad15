"""Chat templates around placeholders, so that what peers supply never meets the template engine's tokenizer.

A template renders messages to segments: markup, whose special-token spellings become special ids, and content, which
is encoded by itself with special tokens off [BIND-020, BIND-021].
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Role(enum.StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Literal text, always [CML-070]."""

    text: str


@dataclass(frozen=True, slots=True)
class CmlPart:
    """CML in its text form, parsed and encoded with control tokens, never executed [CML-071, CML-072]."""

    cml: str


Part = TextPart | CmlPart


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the prompt."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that the template itself wrote; special-token spellings in it are special tokens."""

    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """Parts of a message, in their place in the template."""

    parts: tuple[Part, ...]


Segment = Markup | Content


class PromptTemplate(Protocol):
    """Renders a conversation up to the point where the assistant begins to speak."""

    def render(self, messages: Sequence[Message]) -> tuple[Segment, ...]:
        """Renders messages to segments.

        Raises:
            ValueError: the template refuses the conversation (its order of roles, say).
        """
        ...
