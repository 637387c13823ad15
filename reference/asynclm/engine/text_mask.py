"""Masks for free sampling inside a script: ordinary text only, and inside a string literal what needs no escape."""

from __future__ import annotations

import weakref

import numpy as np

from asynclm.cml.codec import Tokenizer
from asynclm.engine.base import Bits, Engine

_cache: weakref.WeakKeyDictionary[Tokenizer, dict[bool, Bits]] = weakref.WeakKeyDictionary()


def free_text_bits(engine: Engine, *, in_string: bool) -> Bits:
    """The ids of ordinary text, shape `(ceil(vocab / 32),)`; with `in_string`, only what a string literal can hold.

    Inside a literal a token must be complete UTF-8 without quotes, backslashes and control characters, so that whatever
    is sampled, the literal can be closed after any token.
    """
    tokenizer = engine.tokenizer
    masks = _cache.setdefault(tokenizer, {})
    if in_string not in masks:
        masks[in_string] = _build(tokenizer, in_string=in_string)
    return masks[in_string]


def _build(tokenizer: Tokenizer, *, in_string: bool) -> Bits:
    allowed = np.zeros((tokenizer.vocab_size + 31) // 32 * 32, dtype=bool)
    for token_id in range(tokenizer.vocab_size):
        if token_id not in tokenizer.special_ids:
            spelled = tokenizer.token_bytes(token_id)
            allowed[token_id] = bool(spelled) and (not in_string or _fits_in_string(spelled))
    return np.packbits(allowed, bitorder="little").view(np.uint32)


def _fits_in_string(spelled: bytes) -> bool:
    try:
        text = spelled.decode()
    except UnicodeDecodeError:
        return False
    return not any(c in "\"'\\" or ord(c) < 32 or ord(c) == 127 for c in text)
