"""Masks as bits: what a session may sample next, for one codec, one set of tools and one body language.

`Constraint` is compiled once for a set of tools and shared; `SessionConstraint` follows one session. Outside blocks,
and for constraints below GRAMMAR, a mask is a lookup. Inside blocks under GRAMMAR an llguidance matcher is consulted,
and a second one for tools whose arguments are copied: what these may be changes as results come, so their rules are
compiled anew at the next block, and those of the other tools stay as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

import numpy as np

from asynclm.cml.codec import Codec, Tokenizer
from asynclm.cml.control import BodyLanguage
from asynclm.cml.grammar import constrained_grammar
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine import guidance, spans
from asynclm.engine.base import Bits
from asynclm.engine.body_grammar import body_grammar
from asynclm.engine.guidance import GrammarError, GrammarUnavailableError
from asynclm.engine.static_masks import codec_key, digest, static_masks
from asynclm.session.config import Constraints
from asynclm.session.copying import CopySources
from asynclm.session.mask import BlockRule, Kind, Mask

__all__ = [
    "Constraint",
    "GrammarError",
    "GrammarUnavailableError",
    "SessionConstraint",
    "compile_constraint",
    "effective_constraints",
]

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
        self.static = static_masks(codec, tokenizer)
        self.unenforced: tuple[str, ...] = ()
        self._codec = codec
        self._tokenizer = tokenizer
        self._language = language
        self._copying = tuple(tool for tool in tools if tool.copies)
        self._origins = {origin for tool in self._copying for origin in tool.copies.values()}
        self._matchers: dict[BlockRule, Any] = {}
        if grammar:
            self._matchers[BlockRule.TRAP] = _matcher("trap_inside", "body: ID\n", codec, tokenizer)
            self._matchers[BlockRule.CALL] = self._calls([tool for tool in tools if not tool.copies])
            self._loose = self._calls(self._copying, spans.loose_rules(self._origins)) if self._copying else None

    def _calls(self, tools: Sequence[ToolSpec], more: Sequence[str] = ()) -> Any:
        """Compiles the rules of calls: as the schemas stand, else without what llguidance cannot compile.

        Args:
            tools: those that are not copied from anywhere, or those that are.
            more: the rules of copies.
        """
        further = "\n".join((*more, ""))
        body = body_grammar(tools, self._language, lambda _: "", builtins=not more)
        try:
            matcher = _matcher("call_inside", body.rules + further, self._codec, self._tokenizer)
        except GrammarError:
            body = body_grammar(tools, self._language, guidance.complaint, builtins=not more)
            matcher = _matcher("call_inside", body.rules + further, self._codec, self._tokenizer)
        self.unenforced += body.unenforced
        return matcher

    def copying(self, sources: CopySources) -> Any:
        """A matcher for calls of the tools whose arguments are copied, from these texts.

        Takes about a millisecond a tool and one for a thousand characters of text.
        """
        rules = "\n".join((*spans.span_rules(self._origins, sources), ""))
        copied = {origin for origin in self._origins if sources.texts(origin)}
        for complaint in (lambda _: "", guidance.complaint):
            body = body_grammar(self._copying, self._language, complaint, builtins=False, copied=copied)
            try:
                return _matcher("call_inside", body.rules + rules, self._codec, self._tokenizer, large=True)
            except GrammarError:
                continue
        return self._loose

    def session(self) -> SessionConstraint:
        """A fresh follower of one session."""
        return SessionConstraint(self)

    def matcher(self, rule: BlockRule) -> Any:
        """A fresh matcher for the inside of a block; of calls, for those of tools that copy nothing.

        Raises:
            ValueError: this constraint was made without grammar.
        """
        if rule not in self._matchers:
            raise ValueError("the mask asks for a grammar, but this constraint was compiled without one")
        return self._matchers[rule].deep_copy()


def _matcher(start: str, rules: str, codec: Codec, tokenizer: Tokenizer, *, large: bool = False) -> Any:
    text = constrained_grammar(f"start: {start}\n{rules}", codec.control_ids)
    matcher = guidance.new_matcher(text, tokenizer, large=large)
    matcher.compute_bitmask()  # the first mask takes the longest by far; copies find it done
    return matcher


class SessionConstraint:
    """Follows one session through its blocks.

    Not thread-safe, but not bound to a thread: one at a time may use it. llguidance lets go of the interpreter's lock
    while it compiles and computes.
    """

    __slots__ = ("_accepted", "_block", "_constraint", "_copying", "_matchers", "_sources")

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint
        self._block: int | None = None
        self._matchers: list[Any] = []
        self._accepted: list[int] = []
        self._sources: CopySources | None = None
        self._copying: Any = None

    def bits(self, mask: Mask) -> Bits:
        """The ids that the mask allows, shape `(ceil(vocab / 32),)`; read-only.

        Where the grammar has no way to go on, `[END]` is allowed and the machine judges the block as it stands.
        """
        static = self._constraint.static.bits(mask.kinds)
        matchers = self._follow(mask)
        if not matchers:
            return static
        found = [_bits(matcher) for matcher in matchers]
        either = found[0] if len(found) == 1 else found[0] | found[1]
        bits: Bits = either[: static.size] & static
        return bits if bits[bits.argmax()] else self._constraint.static.bits(_END)

    def accept(self, token_id: int) -> None:
        """Takes the id that was sampled inside a block; called after `bits` or `allows` gave the mask for it.

        An id that the grammar does not allow (a script's free sampling may give one) ends its rule over this block.
        The matchers take it where the next mask is made or asked.
        """
        self._accepted.append(token_id)

    def allows(self, mask: Mask, token_id: int) -> bool:
        """Whether the mask allows one id, without computing the others: its bit in `bits`.

        Only where llguidance gives up computing a mask, which takes more work than its limits allow, do they differ:
        `bits` has no more than `[END]` then, and this still allows what the grammar takes.
        """
        static, matchers = self._constraint.static, self._follow(mask)
        is_kind = static.allows(mask.kinds, token_id)
        if not matchers:
            return is_kind
        if is_kind and any(matcher.validate_tokens([token_id]) == 1 for matcher in matchers):
            return True
        if not static.allows(_END, token_id):
            return False
        bits = self.bits(mask)  # only all ids together show that there is no way to go on
        return bool(bits.item(token_id // 32) >> token_id % 32 & 1)

    def _follow(self, mask: Mask) -> list[Any]:
        """The matchers of the block that the mask speaks of: its calls are what either allows. Empty: no grammar."""
        if mask.block_rule is None:
            return []
        if mask.block_number != self._block:
            self._block = mask.block_number
            self._accepted.clear()
            self._matchers = [self._constraint.matcher(mask.block_rule)]
            if mask.block_rule is BlockRule.CALL and mask.copied is not None:
                self._matchers.append(self._copies_of(mask.copied))
        elif self._accepted:
            for token_id in self._accepted:
                self._matchers = [matcher for matcher in self._matchers if matcher.consume_token(token_id)]
            self._accepted.clear()
        return self._matchers

    def _copies_of(self, sources: CopySources) -> Any:
        if self._copying is None or sources is not self._sources:
            self._copying = self._constraint.copying(sources)
            self._sources = sources
        return self._copying.deep_copy()


def _bits(matcher: Any) -> Bits:
    bits: Bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint32)
    return np.zeros_like(bits) if matcher.is_error() else bits


_constraints: OrderedDict[str, Constraint] = OrderedDict()
_lock = Lock()


def compile_constraint(
    codec: Codec,
    tokenizer: Tokenizer,
    tools: tuple[ToolSpec, ...] = (),
    language: BodyLanguage = BodyLanguage.PYTHON,
    *,
    grammar: bool = True,
) -> Constraint:
    """The `Constraint` of these tools, from a cache of the last ones used; some ms a tool when it has to compile.

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
    key = f"{codec_key(codec, tokenizer)} {language.value} {grammar} {digest(spelled)}"
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
