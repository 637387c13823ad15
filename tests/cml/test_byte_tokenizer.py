from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cml.strategies import texts

from asynclm.cml.byte_tokenizer import SPECIAL_TOKENS, ByteTokenizer
from asynclm.cml.codec import Tokenizer

TOKENIZER = ByteTokenizer()


@given(st.one_of(texts, st.lists(st.sampled_from(SPECIAL_TOKENS)).map("".join)))
def test_text_is_bytes_and_never_a_special_token(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.special_ids.isdisjoint(ids)
    assert b"".join(map(TOKENIZER.token_bytes, ids)).decode() == text


def test_it_is_a_tokenizer() -> None:
    assert isinstance(TOKENIZER, Tokenizer)
    assert TOKENIZER.vocab_size == 264
    assert TOKENIZER.special_ids == frozenset(range(256, 264))
    assert TOKENIZER.eos_ids == {TOKENIZER.special_id("<|eos|>"), TOKENIZER.special_id("<|im_end|>")}
    assert TOKENIZER.fingerprint == ByteTokenizer().fingerprint
    assert len(bytes.fromhex(TOKENIZER.fingerprint)) == 32


def test_special_tokens_have_spellings_and_no_bytes() -> None:
    for index, spelling in enumerate(SPECIAL_TOKENS):
        assert TOKENIZER.special_id(spelling) == 256 + index
        assert TOKENIZER.spelling(256 + index) == spelling
        assert TOKENIZER.token_bytes(256 + index) == b""
    assert TOKENIZER.special_id("a") is None
    assert TOKENIZER.special_id("<0x41>") is None
    assert TOKENIZER.spelling(0x41) == "<0x41>"


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    assert TOKENIZER.encode("\ud83d") == list("\ufffd".encode())


@pytest.mark.parametrize("token_id", [-1, 264])
def test_an_id_outside_the_vocabulary_is_refused(token_id: int) -> None:
    with pytest.raises(ValueError, match="0 to 263"):
        TOKENIZER.token_bytes(token_id)
    with pytest.raises(ValueError, match="0 to 263"):
        TOKENIZER.spelling(token_id)
