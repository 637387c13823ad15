"""Masks, symbolically: which kinds of token may be sampled next, and what rules the inside of a block."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """A kind of token. TEXT is every ordinary token; other special tokens are never allowed."""

    TEXT = "text"
    CALL = "call"
    TRAP = "trap"
    END = "end"
    HEAD = "head"
    INTR = "intr"
    EOS = "eos"


class BlockRule(enum.Enum):
    """What rules the inside of a block under GRAMMAR."""

    CALL = "call"
    TRAP = "trap"


@dataclass(frozen=True, slots=True)
class Mask:
    """Which tokens may be sampled next.

    Attributes:
        kinds: the kinds that may be sampled; never INTR.
        block_rule: inside a block under GRAMMAR, the grammar that text and control tokens must follow; else None.
        block_number: blocks opened so far. A constraint engine starts a fresh matcher when it changes and feeds it
            each token sampled inside the block, the opening token excluded.
    """

    kinds: frozenset[Kind]
    block_rule: BlockRule | None = None
    block_number: int = 0
