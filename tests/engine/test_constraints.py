"""Masks as bits: kinds, blocks under grammar, fallbacks and the cache; on the byte tokenizer."""

from __future__ import annotations

import re

import numpy as np
import pytest

from asynclm.cml.binding import Binding, bind
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.text_form import TextCodec
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine import guidance
from asynclm.engine.base import Bits
from asynclm.engine.constraints import (
    Constraint,
    GrammarUnavailableError,
    SessionConstraint,
    compile_constraint,
    effective_constraints,
)
from asynclm.session.config import Constraints
from asynclm.session.mask import BlockRule, Kind, Mask

TOKENIZER = ByteTokenizer()
CODEC = bind(TOKENIZER)
IDS = CODEC.control_ids
SEND = ToolSpec(
    name="send",
    parameters={
        "type": "object",
        "properties": {
            "to": {"type": "string"},
            "n": {"type": "integer", "minimum": 0},
            "o": {"type": "object", "properties": {"a": {"type": "boolean"}}},
        },
        "required": ["to"],
    },
)
NOP = ToolSpec(name="mail.nop")
TOOLS = (SEND, NOP)
INSIDE = frozenset({Kind.TEXT, Kind.HEAD, Kind.END})
PYTHON = Constraint(CODEC, TOKENIZER, TOOLS, BodyLanguage.PYTHON)
JSON = Constraint(CODEC, TOKENIZER, TOOLS, BodyLanguage.JSON)


def allowed(bits: Bits) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).tolist())


def encode(text: str) -> list[int]:
    """Text with `[HEAD]` and `[END]` spelled out, as ids."""
    ids: list[int] = []
    for part in re.split(r"(\[(?:HEAD|END)\])", text):
        ids += [IDS[Control(part)]] if part in ("[HEAD]", "[END]") else CODEC.encode_text(part)
    return ids


def walk(session: SessionConstraint, mask: Mask, ids: list[int]) -> int:
    """Feeds ids as far as the mask allows; gives how many went in. `bits` and `allows` agree on every id."""
    for count, token_id in enumerate(ids):
        bits = allowed(session.bits(mask))
        assert {i for i in range(TOKENIZER.vocab_size) if session.allows(mask, i)} == bits
        if token_id not in bits:
            return count
        session.accept(token_id)
    return len(ids)


def takes(constraint: Constraint, rule: BlockRule, text: str) -> bool:
    ids = encode(text)
    return walk(constraint.session(), Mask(INSIDE, rule, 1), ids) == len(ids)


def refuses_the_last(constraint: Constraint, rule: BlockRule, text: str) -> None:
    """The text goes in up to its last token, and not further."""
    ids = encode(text)
    assert walk(constraint.session(), Mask(INSIDE, rule, 1), ids) == len(ids) - 1


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.TEXT, Kind.EOS)])
def test_a_control_kind_is_its_id(kind: Kind):
    assert allowed(PYTHON.static.bits(frozenset({kind}))) == {IDS[Control[kind.name]]}


def test_text_is_every_ordinary_token_and_end_is_every_end_of_sequence():
    assert allowed(PYTHON.static.bits(frozenset({Kind.TEXT}))) == set(range(256))
    assert allowed(PYTHON.static.bits(frozenset({Kind.EOS}))) == CODEC.eos_ids


def test_other_special_tokens_are_never_allowed():
    everything = allowed(PYTHON.session().bits(Mask(frozenset(Kind) - {Kind.INTR})))
    roles = TOKENIZER.special_ids - set(IDS.values()) - CODEC.eos_ids
    assert roles
    assert everything == set(range(TOKENIZER.vocab_size)) - roles - {IDS[Control.INTR]}
    assert not any(PYTHON.session().allows(Mask(frozenset(Kind)), i) for i in roles)


def test_ids_outside_the_vocabulary_are_not_allowed():
    session = PYTHON.session()
    width = PYTHON.static.bits(frozenset(Kind)).size * 32
    assert not any(session.allows(Mask(frozenset(Kind)), i) for i in (-1, TOKENIZER.vocab_size, width, width + 1))


def test_masks_of_kinds_are_kept_and_read_only():
    bits = PYTHON.session().bits(Mask(frozenset({Kind.TEXT})))
    assert bits is JSON.session().bits(Mask(frozenset({Kind.TEXT})))
    assert (bits.dtype, bits.shape) == (np.uint32, ((TOKENIZER.vocab_size + 31) // 32,))
    with pytest.raises(ValueError, match="read-only"):
        bits[0] = 0


def test_the_text_form_has_no_masks():
    with pytest.raises(ValueError, match="token form"):
        Constraint(TextCodec(), TOKENIZER)


@pytest.mark.parametrize(
    "text",
    [
        'send(to="a", n=3)[END]',
        'send(n=3,to="a")[END]',
        ' a[HEAD] send(to="a") [END]',
        "a [HEAD]send(to=x.y[0])[END]",
        "send(to=truex, n=all1)[END]",
        'send(to="é\\n\\"", o={"a": true})[END]',
        'send(to="x", o={"a":true})[END]',
        'send(to="x", o={})[END]',
        "mail.nop()[END]",
        'cml.cancel(id="a")[END]',
        'c[HEAD]cml.cancel(id="a")[END]',
    ],
)
def test_python_calls(text: str):
    assert takes(PYTHON, BlockRule.CALL, text)


@pytest.mark.parametrize(
    "text",
    [
        "fly(",
        "send[END]",
        "send()",
        "send(n=1)",
        'send("',
        "send(to=1",
        "send(to=true)",
        "send(to=true.",
        "send(to=all)",
        "send(to=x[01",
        'send(to="a", n=-',
        'send(to="a", n=1.',
        'send(to="a", t',
        'send(to="a",  ',
        "send(to ",
        'send(to="a",)',
        'send(to="a", c',
        'send(to="a", o={"b',
        "send(to='",
        'send(to="\\ud',
        'send(to="a")x',
        'send(to="a")  ',
        "  ",
        "mail.nop(x",
        "all[HEAD]",
        "null[HEAD]",
        "1",
        "a b",
        "a[HEAD]b",
        'cml.cancel(id="null"',
        "cml.cancel(id=a",
        "cml.cancel()",
        "{",
        "[END]",
        "[HEAD]",
    ],
)
def test_no_python_calls(text: str):
    refuses_the_last(PYTHON, BlockRule.CALL, text)


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"send","arguments":{"to":"a","n":3}}[END]',
        '{"name": "send", "arguments": {"n": 3, "to": "a"}}[END]',
        'a[HEAD]{"name":"send","arguments":{},"refs":{"to":"x.y[0]"}}[END]',
        '{"name":"send","arguments":{"n":1},"refs":{"o":"b","to":"x"}}[END]',
        '{"name":"mail.nop","arguments":{}}[END]',
        '{"name":"cml.cancel","arguments":{"id":"a"}}[END]',
    ],
)
def test_json_calls(text: str):
    assert takes(JSON, BlockRule.CALL, text)


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"f',
        '{"name":"send"}',
        '{"a',
        '{"name":"send","arguments":{}}',
        '{"name":"send","arguments":{},"refs":{"n":"x"}',
        '{"name":"send","arguments":{"to":"a"},"refs":{}',
        '{"name":"send","arguments":{"to":"a"},"refs":{"t',
        '{"name":"send","arguments":{"to":"a","n":1,"o":{}},',
        '{"name":"send","arguments":{"to":"a","t',
        '{"name":"send","arguments":{"to":1',
        '{"name":"send","arguments":{"to":"a"},"refs":{"n":"x","n',
        '{"name":"send","arguments":{"to":"a"},"refs":{"n":"all"',
        '{"name":"send","arguments":{"to":"a"},"refs":{"n":"1',
        '{"name":"cml.cancel","arguments":{}',
        "send(",
    ],
)
def test_no_json_calls(text: str):
    refuses_the_last(JSON, BlockRule.CALL, text)


@pytest.mark.parametrize(
    "text", ["[END]", " [END]", "a[END]", " a, b within 3 [END]", "any a,b[END]", "within 0.5[END]", "all[END]"]
)
def test_traps(text: str):
    assert takes(PYTHON, BlockRule.TRAP, text)


@pytest.mark.parametrize(
    "text", ["any[END]", "any within ", "null[END]", "a b", "a,[END]", "all,", "within[END]", "a  ", "within 1234567"]
)
def test_no_traps(text: str):
    refuses_the_last(PYTHON, BlockRule.TRAP, text)


def test_each_block_starts_afresh():
    session = PYTHON.session()
    for block in (1, 2):
        assert walk(session, Mask(INSIDE, BlockRule.CALL, block), encode('send(to="a"')) == 11
    assert walk(session, Mask(INSIDE, BlockRule.TRAP, 3), encode("a[END]")) == 2
    assert walk(session, Mask(INSIDE, BlockRule.CALL, 4), encode("mail.nop()[END]")) == 11


def test_the_matcher_is_not_consulted_outside_blocks():
    session = PYTHON.session()
    outside = Mask(frozenset({Kind.TEXT, Kind.CALL, Kind.TRAP, Kind.EOS}))
    assert walk(session, Mask(INSIDE, BlockRule.CALL, 1), encode("mail.nop()[END]")) == 11
    assert allowed(session.bits(outside)) == {*range(256), IDS[Control.CALL], IDS[Control.TRAP], *CODEC.eos_ids}
    assert session.allows(outside, ord("~"))


def test_at_the_block_limit_only_the_end_is_left():
    session = PYTHON.session()
    mask = Mask(INSIDE, BlockRule.CALL, 1)
    assert walk(session, mask, encode('send(to="a')) == 10
    assert not session.allows(mask, IDS[Control.END])
    limit = Mask(frozenset({Kind.END}), None, 1)
    assert allowed(session.bits(limit)) == {IDS[Control.END]}
    assert session.allows(limit, IDS[Control.END])


def test_the_grammar_narrows_what_the_machine_allows_and_never_widens_it():
    session = PYTHON.session()
    mask = Mask(frozenset({Kind.TEXT, Kind.END}), BlockRule.CALL, 1)
    assert walk(session, mask, encode("a")) == 1
    assert IDS[Control.HEAD] not in allowed(session.bits(mask))
    with_head = Mask(INSIDE, BlockRule.CALL, 1)
    assert IDS[Control.HEAD] in allowed(session.bits(with_head))


def test_where_the_grammar_is_stuck_the_block_may_end():
    session = PYTHON.session()
    assert walk(session, Mask(INSIDE, BlockRule.CALL, 1), encode("mail.nop")) == 8
    stuck = Mask(frozenset({Kind.HEAD}), BlockRule.CALL, 1)
    assert allowed(session.bits(stuck)) == {IDS[Control.END]}
    assert session.allows(Mask(frozenset({Kind.END}), BlockRule.CALL, 1), IDS[Control.END])


def test_a_token_outside_the_grammar_ends_its_rule_over_the_block():
    session = PYTHON.session()
    mask = Mask(INSIDE, BlockRule.CALL, 1)
    assert not session.allows(mask, ord("!"))
    session.accept(ord("!"))
    assert allowed(session.bits(mask)) == {*range(256), IDS[Control.HEAD], IDS[Control.END]}
    assert session.allows(mask, ord("!"))
    session.accept(ord("?"))
    assert not session.allows(Mask(INSIDE, BlockRule.CALL, 2), ord("!"))


def test_sessions_do_not_share_their_place():
    first, second = PYTHON.session(), PYTHON.session()
    mask = Mask(INSIDE, BlockRule.CALL, 1)
    assert walk(first, mask, encode("send(")) == 5
    assert walk(second, mask, encode("mail.")) == 5
    assert {chr(i) for i in allowed(first.bits(mask))} == {"t", "n", "o"}
    assert {chr(i) for i in allowed(second.bits(mask))} == {"n"}


def test_a_grammar_that_was_not_compiled_cannot_be_asked_for():
    session = Constraint(CODEC, TOKENIZER, TOOLS, grammar=False).session()
    assert session.allows(Mask(INSIDE, None, 1), ord("!"))
    with pytest.raises(ValueError, match="without one"):
        session.bits(Mask(INSIDE, BlockRule.CALL, 1))


def test_constraints_are_compiled_once():
    first = compile_constraint(CODEC, TOKENIZER, TOOLS)
    same = ToolSpec(name="send", description="other words", parameters=SEND.parameters, timeout_ms=5)
    assert compile_constraint(bind(ByteTokenizer()), ByteTokenizer(), (same, NOP)) is first
    others = [
        compile_constraint(CODEC, TOKENIZER, (NOP, SEND)),
        compile_constraint(CODEC, TOKENIZER, (NOP,)),
        compile_constraint(CODEC, TOKENIZER, TOOLS, BodyLanguage.JSON),
        compile_constraint(CODEC, TOKENIZER, TOOLS, grammar=False),
        compile_constraint(bind(TOKENIZER, swapped()), TOKENIZER, TOOLS),
    ]
    assert len({id(first), *map(id, others)}) == 6
    assert compile_constraint(CODEC, TOKENIZER, (SEND,), grammar=False) is others[3]


def swapped() -> Binding:
    tokens = dict(CODEC.binding.tokens)
    tokens[Control.CALL], tokens[Control.TRAP] = tokens[Control.TRAP], tokens[Control.CALL]
    return Binding("swapped", tokens)


def test_the_cache_forgets_what_was_used_longest_ago():
    first = compile_constraint(CODEC, TOKENIZER, (ToolSpec(name="first"),))
    for number in range(70):
        compile_constraint(CODEC, TOKENIZER, (ToolSpec(name=f"tool{number}"),))
    assert compile_constraint(CODEC, TOKENIZER, (ToolSpec(name="tool69"),)).unenforced == ()
    assert compile_constraint(CODEC, TOKENIZER, (ToolSpec(name="first"),)) is not first


@pytest.mark.parametrize("asked", [*Constraints, None])
def test_with_llguidance_every_level_is_there(asked: Constraints | None):
    assert effective_constraints(asked) is (asked or Constraints.GRAMMAR)


def test_without_llguidance_grammar_is_refused_by_name_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guidance.importlib.util, "find_spec", lambda _: None)
    assert effective_constraints(None) is Constraints.GATES
    assert effective_constraints(Constraints.STATIC) is Constraints.STATIC
    with pytest.raises(GrammarUnavailableError, match=r"asynclm-protocol\[reference\]"):
        effective_constraints(Constraints.GRAMMAR)
    with pytest.raises(GrammarUnavailableError):
        Constraint(CODEC, TOKENIZER, TOOLS)
    gates = Constraint(CODEC, TOKENIZER, TOOLS, grammar=False).session()
    assert gates.allows(Mask(INSIDE, None, 1), ord("!"))
