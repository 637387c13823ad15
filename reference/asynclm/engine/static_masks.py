"""Masks outside of grammars: which ids each set of kinds of token allows, for one codec; looked up, not computed."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np

from asynclm.cml.codec import Codec, Tokenizer
from asynclm.cml.control import Control
from asynclm.engine.base import Bits
from asynclm.session.mask import Kind

_CONTROL_KINDS: Mapping[Kind, Control] = {
    Kind.CALL: Control.CALL,
    Kind.INTR: Control.INTR,
    Kind.TRAP: Control.TRAP,
    Kind.END: Control.END,
    Kind.HEAD: Control.HEAD,
}
_KEPT = 64


class StaticMasks:
    """The bits of each set of kinds, for one codec; computed once each."""

    def __init__(self, codec: Codec, tokenizer: Tokenizer) -> None:
        if set(codec.control_ids) != set(Control):
            raise ValueError("masks need the token form: this codec binds no control tokens")
        self._width = (tokenizer.vocab_size + 31) // 32 * 32
        self._ids: dict[Kind, np.ndarray[Any, np.dtype[np.int64]]] = {
            kind: np.array([codec.control_ids[control]]) for kind, control in _CONTROL_KINDS.items()
        }
        self._ids[Kind.EOS] = np.array(sorted(codec.eos_ids))
        special = tokenizer.special_ids
        ordinary = (i for i in range(tokenizer.vocab_size) if i not in special and tokenizer.token_bytes(i))
        self._ids[Kind.TEXT] = np.fromiter(ordinary, np.int64)
        self._known: dict[frozenset[Kind], Bits] = {}

    def bits(self, kinds: frozenset[Kind]) -> Bits:
        """The ids of these kinds; read-only. Other special tokens are never among them."""
        known = self._known.get(kinds)
        if known is None:
            allowed = np.zeros(self._width, dtype=bool)
            for kind in kinds:
                allowed[self._ids[kind]] = True
            known = np.packbits(allowed, bitorder="little").view(np.uint32)
            known.flags.writeable = False
            self._known[kinds] = known
        return known

    def allows(self, kinds: frozenset[Kind], token_id: int) -> bool:
        """Whether an id is of one of these kinds; any number may be asked for."""
        bits = self.bits(kinds)
        return 0 <= token_id < bits.size * 32 and bool(bits.item(token_id // 32) >> token_id % 32 & 1)


_static: OrderedDict[str, StaticMasks] = OrderedDict()
_lock = Lock()


def static_masks(codec: Codec, tokenizer: Tokenizer) -> StaticMasks:
    """The `StaticMasks` of a codec, from a cache.

    Raises:
        ValueError: the codec has no token form.
    """
    key = codec_key(codec, tokenizer)
    with _lock:
        found = _static.get(key)
    if found is None:
        found = StaticMasks(codec, tokenizer)
        with _lock:
            _static[key] = found
            if len(_static) > _KEPT:
                _static.popitem(last=False)
    return found


def codec_key(codec: Codec, tokenizer: Tokenizer) -> str:
    """What tells one binding of one vocabulary from others."""
    controls = sorted((control.name, token_id) for control, token_id in codec.control_ids.items())
    return f"{tokenizer.fingerprint} {digest([controls, sorted(codec.eos_ids)])}"


def digest(value: object) -> str:
    """SHA-256 of a JSON value, in hex."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
