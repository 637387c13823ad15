"""Bound to real tokenizers, the grammar files compile in llguidance and judge every grammar-layer case by tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asynclm.cml.binding import TokenCodec, bind
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.grammar import llguidance_grammar
from asynclm.engine.guidance import GrammarError, new_matcher

from .cases import Case, select

TOKENIZERS = [
    pytest.param("bytes", id="bytes"),
    pytest.param("smollm2_tokenizer", id="smollm2", marks=pytest.mark.weights),
    pytest.param("llama3_tokenizer", id="llama3", marks=pytest.mark.weights),
]
CASES = select(lambda case: case.layer == "grammar")


class Judge:
    """One tokenizer, its binding, and a matcher for each body language."""

    def __init__(self, tokenizer: Any) -> None:
        self.codec: TokenCodec = bind(tokenizer)
        self._matchers = {
            language: new_matcher(llguidance_grammar(language, self.codec.control_ids), tokenizer)
            for language in BodyLanguage
        }

    def ids(self, case: Case) -> list[int]:
        ids: list[int] = []
        for piece in case.pieces:
            ids += [self.codec.control_ids[piece]] if isinstance(piece, Control) else self.codec.encode_text(piece)
        return ids

    def __call__(self, case: Case) -> tuple[bool, bool]:
        """Whether every token was allowed by the mask before it, and whether the document may end there."""
        matcher = self._matchers[case.body_language].deep_copy()
        for token_id in self.ids(case):
            bits = np.frombuffer(matcher.compute_bitmask(), np.uint32)
            allowed = bool(bits[token_id // 32] >> np.uint32(token_id % 32) & 1)
            assert allowed == (matcher.validate_tokens([token_id]) == 1)
            if not allowed:
                return False, False
            assert matcher.consume_token(token_id)
        return True, matcher.is_accepting()


@pytest.fixture(scope="module")
def judge(request: pytest.FixtureRequest) -> Judge:
    return Judge(ByteTokenizer() if request.param == "bytes" else request.getfixturevalue(request.param))


@pytest.mark.parametrize("judge", TOKENIZERS, indirect=True)
def test_every_case_is_judged_token_by_token(judge: Judge):
    expected = {"accept": (True, True), "incomplete": (True, False)}
    wrong = []
    for name, case in CASES:
        verdict = judge(case)
        good = verdict != (True, True) if name == "reject" else verdict == expected[name]
        if not good:
            wrong.append((case.id, verdict))
    assert wrong == []
    assert len(CASES) >= 100


@pytest.mark.parametrize("judge", TOKENIZERS, indirect=True)
def test_spellings_are_text(judge: Judge):
    """Spelled-out control words and special tokens, encoded as text, are text to the grammar too."""
    for spelling in ("[CALL] f() [END]", "[END]", *(judge.codec.tokenizer.spelling(i) for i in judge.codec.eos_ids)):
        case = Case(id="x", form="token", layer="grammar", input=[spelling])
        assert judge(case) == (True, True), spelling


def test_a_grammar_that_does_not_compile_is_refused():
    codec = bind(ByteTokenizer())
    broken = llguidance_grammar(BodyLanguage.PYTHON, codec.control_ids) + "TEXT: /(?=a)/\n"
    with pytest.raises(GrammarError, match="does not compile"):
        new_matcher(broken, ByteTokenizer())
