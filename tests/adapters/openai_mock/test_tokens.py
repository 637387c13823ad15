"""The approximation of token counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm_adapters.openai_mock.tokens import ApproximateTokenizer


@given(st.text(max_size=40))
def test_tokens_are_the_text(text: str) -> None:
    assert "".join(ApproximateTokenizer().split(text)) == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("Hello there", ["Hello", " there"]),
        ("internationalisation", ["internat", "ionalisa", "tion"]),
        (" 12345", [" 123", "45"]),
        ("[CALL] x", ["[", "CALL", "]", " x"]),
        ("a  b\n\nc", ["a", "  ", "b", "\n\n", "c"]),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert ApproximateTokenizer().split(text) == tokens
