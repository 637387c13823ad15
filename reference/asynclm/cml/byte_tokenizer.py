"""A tokenizer without a vocabulary file: one id a byte, and the special tokens of a chat model."""

from __future__ import annotations

import hashlib

from asynclm.cml.detokenise import scrub

SPECIAL_TOKENS = (
    "<|call|>",
    "<|intr|>",
    "<|trap|>",
    "<|end|>",
    "<|head|>",
    "<|eos|>",
    "<|im_start|>",
    "<|im_end|>",
)
"""Special tokens by id, from 256."""

_BYTES = tuple(bytes([value]) for value in range(256))
_SPECIAL_IDS = {spelling: 256 + index for index, spelling in enumerate(SPECIAL_TOKENS)}


class ByteTokenizer:
    """Ids 0 to 255 are bytes of UTF-8, then come `SPECIAL_TOKENS`. For scripted models and tests; a `Tokenizer`."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return 256 + len(SPECIAL_TOKENS)

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids from 256."""
        return frozenset(_SPECIAL_IDS.values())

    @property
    def eos_ids(self) -> frozenset[int]:
        """End of sequence and end of turn."""
        return frozenset({_SPECIAL_IDS["<|eos|>"], _SPECIAL_IDS["<|im_end|>"]})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the special tokens' spellings, in hex."""
        return hashlib.sha256("\n".join(("bytes", *SPECIAL_TOKENS)).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The bytes of the text; a special token's spelling stays text, half of a surrogate pair is U+FFFD."""
        return list(scrub(text).encode())

    def token_bytes(self, token_id: int) -> bytes:
        """The byte itself, `b""` for a special token.

        Raises:
            ValueError: there is no such id.
        """
        self._check(token_id)
        return _BYTES[token_id] if token_id < 256 else b""

    def special_id(self, spelling: str) -> int | None:
        """The id of a special token by its spelling, or None."""
        return _SPECIAL_IDS.get(spelling)

    def spelling(self, token_id: int) -> str:
        """A special token's spelling, or the byte as `<0x41>`.

        Raises:
            ValueError: there is no such id.
        """
        self._check(token_id)
        return f"<0x{token_id:02X}>" if token_id < 256 else SPECIAL_TOKENS[token_id - 256]

    def _check(self, token_id: int) -> None:
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(f"token id {token_id}: allowed are 0 to {self.vocab_size - 1}")
