"""Masks as bits: what a session may sample next, for one codec, one set of tools and one body language.

`Constraint` is compiled once for a set of tools and shared; `SessionConstraint` follows one session. Outside blocks,
and for constraints below GRAMMAR, a mask is a lookup. Inside blocks under GRAMMAR an llguidance matcher is consulted.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

import numpy as np

from asynclm.cml.codec import Codec, Tokenizer
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.grammar import constrained_grammar
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine import guidance
from asynclm.engine.base import Bits
from asynclm.engine.body_grammar import body_grammar
from asynclm.engine.guidance import GrammarError, GrammarUnavailableError
from asynclm.session.config import Constraints
from asynclm.session.mask import BlockRule, Kind, Mask

__all__ = [
    "Constraint",
    "GrammarError",
    "GrammarUnavailableError",
    "SessionConstraint",
    "compile_constraint",
    "effective_constraints",
]

_CONTROL_KINDS: Mapping[Kind, Control] = {
    Kind.CALL: Control.CALL,
    Kind.INTR: Control.INTR,
    Kind.TRAP: Control.TRAP,
    Kind.END: Control.END,
    Kind.HEAD: Control.HEAD,
}
_END: Final = frozenset({Kind.END})
_KEPT = 64


def effective_constraints(asked: Constraints | None) -> Constraints:
    """The constraints of a session that asked for these; without a wish, the strongest there are.

    Raises:
        GrammarUnavailableError: GRAMMAR was asked for by name, and llguidance is not installed.
    """
    if asked is None:
        return Constraints.GRAMMAR if guidance.available() else Constraints.GATES
    if asked is Constraints.GRAMMAR and not guidance.available():
        raise GrammarUnavailableError
    return asked


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


class Constraint:
    """The masks of one set of tools, for one tokenizer and binding. Safe to share between threads.

    Under GRAMMAR a call's body is one of the declared tools with arguments that fit their schemas, or `cml.cancel`;
    each argument is JSON text or a reference; an id before `[HEAD]` is not a reserved word; a trap's condition is one
    of [CML-033]. Whether ids are known or free is the session's business.

    Args:
        codec: the binding of control tokens.
        tokenizer: the vocabulary.
        tools: what the model may call.
        language: the language of call bodies.
        grammar: whether masks inside blocks will be asked for.

    Attributes:
        unenforced: what of the tools' schemas the grammar does not hold, as `tool: path`; it is checked when a call is
            dispatched, and a call that fails there is not run.

    Raises:
        ValueError: the codec has no token form, or a name is not allowed in this body language.
        GrammarUnavailableError: `grammar` without llguidance.
        GrammarError: the tools make a grammar too large for llguidance.
    """

    def __init__(
        self,
        codec: Codec,
        tokenizer: Tokenizer,
        tools: tuple[ToolSpec, ...] = (),
        language: BodyLanguage = BodyLanguage.PYTHON,
        *,
        grammar: bool = True,
    ) -> None:
        self.static = _static_masks(codec, tokenizer)
        self.unenforced: tuple[str, ...] = ()
        self._matchers: dict[BlockRule, Any] = {}
        if grammar:
            self._matchers[BlockRule.TRAP] = _matcher("trap_inside", "body: ID\n", codec, tokenizer)
            self._matchers[BlockRule.CALL] = self._calls(codec, tokenizer, tools, language)

    def _calls(self, codec: Codec, tokenizer: Tokenizer, tools: tuple[ToolSpec, ...], language: BodyLanguage) -> Any:
        """Compiles the rules of calls: as the schemas stand, else without what llguidance cannot compile."""
        body = body_grammar(tools, language, lambda _: "")
        try:
            matcher = _matcher("call_inside", body.rules, codec, tokenizer)
        except GrammarError:
            body = body_grammar(tools, language, guidance.complaint)
            matcher = _matcher("call_inside", body.rules, codec, tokenizer)
        self.unenforced = body.unenforced
        return matcher

    def session(self) -> SessionConstraint:
        """A fresh follower of one session."""
        return SessionConstraint(self)

    def matcher(self, rule: BlockRule) -> Any:
        """A fresh matcher for the inside of a block.

        Raises:
            ValueError: this constraint was made without grammar.
        """
        if rule not in self._matchers:
            raise ValueError("the mask asks for a grammar, but this constraint was compiled without one")
        return self._matchers[rule].deep_copy()


def _matcher(start: str, rules: str, codec: Codec, tokenizer: Tokenizer) -> Any:
    text = constrained_grammar(f"start: {start}\n{rules}", codec.control_ids)
    matcher = guidance.new_matcher(text, tokenizer)
    matcher.compute_bitmask()  # the first mask takes the longest by far; copies find it done
    return matcher


class SessionConstraint:
    """Follows one session through its blocks. Not thread-safe; belongs to the loop's thread."""

    __slots__ = ("_block", "_constraint", "_matcher")

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint
        self._block: int | None = None
        self._matcher: Any = None

    def bits(self, mask: Mask) -> Bits:
        """The ids that the mask allows, shape `(ceil(vocab / 32),)`; read-only.

        Where the grammar has no way to go on, `[END]` is allowed and the machine judges the block as it stands.
        """
        static = self._constraint.static.bits(mask.kinds)
        matcher = self._follow(mask)
        if matcher is None:
            return static
        bits: Bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint32)[: static.size] & static
        if matcher.is_error() or not bits.any():
            return self._constraint.static.bits(_END)
        return bits

    def accept(self, token_id: int) -> None:
        """Takes the id that was sampled inside a block; called after `bits` or `allows` gave the mask for it.

        An id that the grammar does not allow (a script's free sampling may give one) ends its rule over this block.
        """
        if self._matcher is not None and not self._matcher.consume_token(token_id):
            self._matcher = None

    def allows(self, mask: Mask, token_id: int) -> bool:
        """Whether the mask allows one id, without computing the others."""
        static = self._constraint.static.bits(mask.kinds)
        if not (0 <= token_id < static.size * 32 and static[token_id // 32] >> np.uint32(token_id % 32) & 1):
            return False
        matcher = self._follow(mask)
        if matcher is None or matcher.validate_tokens([token_id]) == 1:
            return True
        bits = self.bits(mask)
        return bool(bits[token_id // 32] >> np.uint32(token_id % 32) & 1)

    def _follow(self, mask: Mask) -> Any:
        """The matcher of the block that the mask speaks of; None where no grammar rules."""
        if mask.block_rule is None:
            return None
        if mask.block_number != self._block:
            self._block = mask.block_number
            self._matcher = self._constraint.matcher(mask.block_rule)
        return self._matcher


_constraints: OrderedDict[str, Constraint] = OrderedDict()
_static: OrderedDict[str, StaticMasks] = OrderedDict()
_lock = Lock()


def compile_constraint(
    codec: Codec,
    tokenizer: Tokenizer,
    tools: tuple[ToolSpec, ...] = (),
    language: BodyLanguage = BodyLanguage.PYTHON,
    *,
    grammar: bool = True,
) -> Constraint:
    """The `Constraint` of these tools, from a cache of the last ones used; about 1 ms a tool when it has to compile.

    Args:
        codec: the binding of control tokens.
        tokenizer: the vocabulary.
        tools: what the model may call; only names and parameters matter here.
        language: the language of call bodies.
        grammar: whether the session is under GRAMMAR; below it nothing is compiled.

    Raises:
        ValueError, GrammarUnavailableError, GrammarError: as `Constraint`.
    """
    spelled = [[tool.name, tool.to_json_schema_text()] for tool in tools] if grammar else []
    key = f"{_codec_key(codec, tokenizer)} {language.value} {grammar} {_digest(spelled)}"
    with _lock:
        found = _constraints.get(key)
        if found is not None:
            _constraints.move_to_end(key)
            return found
    made = Constraint(codec, tokenizer, tools, language, grammar=grammar)
    with _lock:
        _constraints[key] = made
        if len(_constraints) > _KEPT:
            _constraints.popitem(last=False)
    return made


def _static_masks(codec: Codec, tokenizer: Tokenizer) -> StaticMasks:
    key = _codec_key(codec, tokenizer)
    with _lock:
        found = _static.get(key)
    if found is None:
        found = StaticMasks(codec, tokenizer)
        with _lock:
            _static[key] = found
            if len(_static) > _KEPT:
                _static.popitem(last=False)
    return found


def _codec_key(codec: Codec, tokenizer: Tokenizer) -> str:
    controls = sorted((control.name, token_id) for control, token_id in codec.control_ids.items())
    return f"{tokenizer.fingerprint} {_digest([controls, sorted(codec.eos_ids)])}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
