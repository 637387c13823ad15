"""What a model says in reply to a request, piece by piece, faults included; and the seam to plug in a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    from asynclm_adapters.openai_mock.request import ChatRequest

FinishReason: TypeAlias = Literal["stop", "length", "content_filter", "tool_calls"]
FINISH_REASONS: tuple[FinishReason, ...] = get_args(FinishReason)


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that goes out as one chunk.

    Attributes:
        text: the text; may be empty.
        tokens: how many tokens it is, where the model knows; None: the server's tokenizer counts.
    """

    text: str
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A tool call, or more of its arguments, that goes out as one chunk.

    Attributes:
        index: which call of the reply it is, from 0.
        id: the call's id; only in its first chunk, and so is its name.
        name: the function.
        arguments: JSON text, or the next part of it.
        tokens: how many tokens the chunk is; None: the server's tokenizer counts name and arguments.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The reply ends here."""

    reason: FinishReason = "stop"


@dataclass(frozen=True, slots=True)
class Failure:
    """The request fails: by its HTTP status before the first delta, by an error event in the stream after it.

    Attributes:
        status: the HTTP status, 400 to 599.
        retry_after_s: what `Retry-After` says; None: the header is absent.
        code: the error's `code`; None: the usual one of the status.
        message: the error's message; None: the usual one of the status.
    """

    status: int
    retry_after_s: float | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection is cut."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing more comes, and the connection stays open until the client closes it."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Text written to the response's body as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class EmptyChoices:
    """A chunk whose `choices` is empty."""


@dataclass(frozen=True, slots=True)
class IgnoreStop:
    """From here on stop sequences of the request are not honoured."""


Piece: TypeAlias = Delta | CallDelta | Finish | Failure | Drop | Stall | Raw | EmptyChoices | IgnoreStop


class Model(Protocol):
    """Something that replies to requests."""

    def reply(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """The pieces of the reply, in order; its end is `Finish("stop")`.

        The iterator is asked on once a piece has happened (a delta: once the transport has taken it), also after the
        last one, and is closed where it has not: so a model knows what it has said.

        Raises:
            ApiError: the request is refused (before the first piece).
        """
        ...


class Echo:
    """A model that says the last user message back, word by word."""

    async def reply(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """The words of the last user message, each with the space before it."""
        said = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        for number, word in enumerate(said.split()):
            yield Delta(f" {word}" if number else word)
