"""Masks, symbolically: which kinds of token may be sampled next, and what rules the inside of a block."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from asynclm.cml.control import Control
from asynclm.session.config import Constraints
from asynclm.session.copying import CopySources


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
        copied: what arguments may be copied from, the same throughout a block; None if no tool asks.
    """

    kinds: frozenset[Kind]
    block_rule: BlockRule | None = None
    block_number: int = 0
    copied: CopySources | None = None


_ANY = frozenset(Kind) - {Kind.INTR}
_OUTSIDE = frozenset({Kind.TEXT, Kind.CALL, Kind.TRAP, Kind.EOS})
_BLOCK = frozenset({Kind.TEXT, Kind.END})
_CALL_WITHOUT_HEAD = _BLOCK | {Kind.HEAD}
_ONLY_END = frozenset({Kind.END})
_RULES = {Control.CALL: BlockRule.CALL, Control.TRAP: BlockRule.TRAP}


def outside_block(constraints: Constraints, *, trap_gated: bool, end_gated: bool) -> frozenset[Kind]:
    """The kinds that may be sampled outside blocks [SES-010 to SES-015].

    Args:
        constraints: the session's.
        trap_gated: nothing is pending, so a trap could not end.
        end_gated: calls are pending and end of sequence has to wait for them.
    """
    if constraints is Constraints.NONE:
        return _ANY
    if constraints is Constraints.STATIC:
        return _OUTSIDE
    return _OUTSIDE - ({Kind.TRAP} if trap_gated else set()) - ({Kind.EOS} if end_gated else set())


def inside_block(
    constraints: Constraints, opened: Control, *, head_seen: bool, at_limit: bool
) -> tuple[frozenset[Kind], BlockRule | None]:
    """The kinds that may be sampled inside a block, and the grammar that rules there [SES-012, SES-016, SES-078].

    The limit of a block's length is no constraint: it holds under NONE too, and stands above the grammar.
    """
    if at_limit:
        return _ONLY_END, None
    if constraints is Constraints.NONE:
        return _ANY, None
    rule = _RULES.get(opened) if constraints is Constraints.GRAMMAR else None
    return (_CALL_WITHOUT_HEAD if opened is Control.CALL and not head_seen else _BLOCK), rule
