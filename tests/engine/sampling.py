"""Random logits for tests of masks: as soon a word as anything else; after a while, what closes what is open."""

from __future__ import annotations

from typing import Any

import numpy as np

from asynclm.cml.binding import TokenCodec, bind
from asynclm.cml.control import Control
from asynclm.engine.base import Bits

PATIENCE = 30


class RandomLogits:
    """Chooses ids at random, closing tokens being likelier the longer a block is."""

    def __init__(self, tokenizer: Any) -> None:
        self.patience = PATIENCE
        self.codec: TokenCodec = bind(tokenizer)
        self.random = np.random.default_rng(0)
        self.end = self.codec.control_ids[Control.END]
        end = np.arange(tokenizer.vocab_size) == self.end
        spelled = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        words, closing, commas = (np.array([f(data) for data in spelled]) for f in (_is_word, _closes, _is_comma))
        everything = np.ones(tokenizer.vocab_size, bool)
        self._starting = ((words, everything), (~words, everything))
        self._finishing = (end, closing, commas, everything)

    def choose(self, bits: Bits, written: int, *, literal: bool = False) -> int:
        """One of the ids that a mask allows, `written` ids into a block; `literal`: no word if it can be helped."""
        allowed = np.unpackbits(bits.view(np.uint8), bitorder="little")[: self._finishing[0].size] == 1
        token_sets = self._finishing if written >= self.patience else self._starting[self.random.integers(2)]
        if literal:
            token_sets = self._starting[1]
        choices = next(found for wanted in token_sets if (found := np.flatnonzero(allowed & wanted)).size)
        return int(choices[self.random.integers(choices.size)])


def _is_word(spelled: bytes) -> bool:
    return (spelled.strip() or b"?")[0] in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"


def _closes(spelled: bytes) -> bool:
    return bool(spelled) and set(spelled) <= set(b')"]}')


def _is_comma(spelled: bytes) -> bool:
    return spelled in (b",", b", ", b'",', b"],", b"},")
