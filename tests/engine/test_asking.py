"""Asked for one id, a mask says what its bits say: random tools, real vocabularies, all the way through blocks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.engine.sampling import RandomLogits
from tests.engine.tool_sets import Maker

from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.control import BodyLanguage, Control
from asynclm.engine.base import Bits
from asynclm.engine.constraints import Constraint
from asynclm.session.copying import CopySources
from asynclm.session.mask import BlockRule, Kind, Mask

SOURCES = (CopySources(('Send "the agenda"\nto Kim.',), ()), CopySources(("Room 42",), ("3", "Kim, Zoë")))
TEXT_OR_END = frozenset({Kind.TEXT, Kind.END})
OUTSIDE = frozenset({Kind.TEXT, Kind.CALL, Kind.TRAP, Kind.EOS})
MOST = 60
"""Tokens of a block, before its limit; enough for most to end before it."""


def allowed(bits: Bits, token_id: int) -> bool:
    return 0 <= token_id < bits.size * 32 and bool(bits[token_id // 32] >> np.uint32(token_id % 32) & 1)


def masks(number: int, rule: BlockRule, copied: CopySources | None) -> Iterator[Mask]:
    """The masks of a block, from the token before it to its limit."""
    yield Mask(OUTSIDE - {random.Random(number).choice(list(OUTSIDE))}, None, number - 1)
    for place in range(MOST):
        kinds = TEXT_OR_END | {Kind.HEAD} if rule is BlockRule.CALL and place < MOST // 2 else TEXT_OR_END
        yield Mask(kinds, rule, number, copied if rule is BlockRule.CALL else None)
    yield Mask(frozenset({Kind.END}), None, number)


class Pair:
    """Two followers of one session: one computes its masks, the other is only ever asked."""

    def __init__(self, logits: RandomLogits, seed: int, language: BodyLanguage) -> None:
        tools = Maker(seed).tools()
        constraint = Constraint(logits.codec, logits.codec.tokenizer, tools, language)
        self.logits, self.random = logits, random.Random(seed)
        self.computing, self.asked = constraint.session(), constraint.session()
        self.copies = any(tool.copies for tool in tools)

    def ids(self) -> list[int]:
        """Ids of each sort: control tokens and other special ones, ordinary ones, and numbers that are no ids."""
        tokenizer = self.logits.codec.tokenizer
        size = tokenizer.vocab_size
        return [*tokenizer.special_ids, *self.random.sample(range(size), 60), -1, *range(size, size + 66)]

    def compare(self, mask: Mask) -> Bits:
        """The mask's bits, which the asked follower agrees with."""
        bits = self.computing.bits(mask)
        likely = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))
        for token_id in (*self.ids(), *self.random.choices(likely.tolist(), k=10)):
            assert self.asked.allows(mask, token_id) == allowed(bits, token_id), (mask, token_id)
        return bits

    def block(self, number: int, rule: BlockRule) -> Iterator[Mask]:
        """Samples a block; gives the masks under which it was written."""
        for place, mask in enumerate(masks(number, rule, SOURCES[number % 2] if self.copies else None)):
            bits = self.compare(mask)
            yield mask
            if mask.block_rule is not None:
                token_id = self.logits.choose(bits, place)
                self.computing.accept(token_id)
                self.asked.accept(token_id)
                if token_id == self.logits.end:
                    return


@pytest.mark.weights
@pytest.mark.parametrize("vocabulary", ["bytes", "smollm2"])
def test_asked_for_one_id_a_mask_says_what_its_bits_say(vocabulary: str, request: pytest.FixtureRequest) -> None:
    """[SES-010], [SES-016], [SES-078]."""
    smollm2 = vocabulary == "smollm2"
    logits = RandomLogits(request.getfixturevalue("smollm2_tokenizer") if smollm2 else ByteTokenizer())
    count: Counter[BlockRule | None] = Counter()
    for seed in range(4):
        for language in BodyLanguage:
            pair = Pair(logits, seed, language)
            for number, rule in enumerate((BlockRule.CALL, BlockRule.TRAP, BlockRule.CALL), 1):
                count.update(mask.block_rule for mask in pair.block(number, rule))
    assert count[BlockRule.CALL] > 300
    assert count[BlockRule.TRAP] > 30
    assert count[None] > 24  # some blocks reached their limit


def test_an_id_is_asked_for_without_computing_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    logits: Any = RandomLogits(ByteTokenizer())
    session = Constraint(logits.codec, logits.codec.tokenizer, Maker(1).tools()).session()
    mask = Mask(TEXT_OR_END | {Kind.HEAD}, BlockRule.CALL, 1)
    monkeypatch.setattr(type(session), "bits", lambda *_: pytest.fail("a mask is computed"))
    assert not session.allows(mask, ord("!"))
    for token_id in (*logits.codec.encode_text("c1"), logits.codec.control_ids[Control.HEAD]):
        assert session.allows(mask, token_id)
        session.accept(token_id)
