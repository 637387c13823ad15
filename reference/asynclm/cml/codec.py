"""How a session's stream is spelled: the seam between token ids and CML.

The session machine sees a stream of units. In the token form a unit is a token id; in the text form (hosted chat
APIs) it is a piece of text. A `Codec` turns units into text and control tokens, and interrupts into units.
Implementations: `binding.TokenCodec` (token form) and `text_form.TextCodec` (text form).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from asynclm.cml.blocks import Block
from asynclm.cml.control import BodyLanguage, Control, Status


class EndOfSequence(enum.Enum):
    """The one value that a decoder gives for an end-of-sequence token."""

    EOS = "end_of_sequence"


EOS: Final = EndOfSequence.EOS

Item = str | Control | EndOfSequence
"""What units decode to: text (never empty), a control token, or end of sequence."""


@runtime_checkable
class Tokenizer(Protocol):
    """What this project needs of a tokenizer. No method ever adds tokens of its own accord."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        ...

    @property
    def special_ids(self) -> frozenset[int]:
        """Every special id: control, role, turn and sequence markers, reserved ones included."""
        ...

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a turn or a sequence; never empty."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's definition, in hex."""
        ...

    def encode(self, text: str) -> list[int]:
        """Encodes text as ordinary tokens; never yields an id in `special_ids` [CML-052]."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that an ordinary token stands for; `b""` for a special token."""
        ...

    def special_id(self, spelling: str) -> int | None:
        """The id of a special token by its spelling, or None."""
        ...

    def spelling(self, token_id: int) -> str:
        """The name of a token in the vocabulary, for messages."""
        ...


class Decoder(Protocol):
    """Turns one session's units into items, incrementally; holds unfinished UTF-8 sequences back."""

    @property
    def pending(self) -> bool:
        """Whether text is held back: an unfinished text sequence, not interruptible."""
        ...

    def feed(self, token_id: int) -> tuple[Item, ...]:
        """Decodes one unit. A control token or end of sequence flushes held-back bytes as U+FFFD first."""
        ...

    def flush(self) -> str:
        """Gives up what is held back, as text (possibly empty)."""
        ...


@runtime_checkable
class PieceDecoder(Decoder, Protocol):
    """A decoder of the text form: its units are pieces of text, not ids; `feed` raises TypeError."""

    def feed_text(self, piece: str) -> tuple[Item, ...]:
        """Decodes one piece, of any length."""
        ...


class Codec(Protocol):
    """The spelling of one session's stream."""

    @property
    def control_ids(self) -> Mapping[Control, int]:
        """The token id of each control token; empty in the text form."""
        ...

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end the sequence; empty in the text form."""
        ...

    def decoder(self) -> Decoder:
        """A fresh decoder for one session."""
        ...

    def encode_text(self, text: str) -> Sequence[int]:
        """Ordinary text as units; no control token can come of it. Empty in the text form."""
        ...

    def encode(self, blocks: Iterable[Block], language: BodyLanguage) -> Sequence[int]:
        """A document as units, for prompts [CML-071]."""
        ...

    def frame(self, source: str, status: Status, payload: str) -> Sequence[int]:
        """An interrupt block as units: `[INTR] source[:status] [HEAD] payload [END]` [CML-054].

        Empty in the text form; its text is `text_form.frame_text(source, status, payload)`.

        Raises:
            CmlError: the source is outside the grammar.
        """
        ...
