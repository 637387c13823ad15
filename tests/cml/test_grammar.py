from __future__ import annotations

import re
from pathlib import Path

import pytest

from asynclm.cml import grammar
from asynclm.cml.binding import bind
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.control import BodyLanguage
from asynclm.cml.grammar import constrained_grammar, grammar_fingerprint, lark_grammar, llguidance_grammar
from asynclm.cml.resources import resource

CONTROL_IDS = bind(ByteTokenizer()).control_ids


@pytest.mark.parametrize("language", BodyLanguage)
def test_a_whole_grammar_has_the_rules_of_its_language_alone(language: BodyLanguage) -> None:
    for text in (lark_grammar(language), llguidance_grammar(language, CONTROL_IDS)):
        rules = re.findall(r"^([a-z_]+):", text, re.MULTILINE)
        assert len(rules) == len(set(rules))
        assert {"document", "call", "interrupt", "trap", "body", language.value} <= set(rules)
        assert {other.value for other in BodyLanguage if other is not language}.isdisjoint(rules)


def test_control_tokens_are_bound_by_id() -> None:
    for text in (llguidance_grammar(BodyLanguage.JSON, CONTROL_IDS), constrained_grammar("start: call\n", CONTROL_IDS)):
        assert "$" not in text
        for token_id in CONTROL_IDS.values():
            assert f"<[{token_id}]>" in text


def test_the_rules_of_a_session_end_the_grammar() -> None:
    assert constrained_grammar("start: trap\n", CONTROL_IDS).endswith("start: trap\n")


def test_the_fingerprint_changes_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = grammar_fingerprint()
    assert len(bytes.fromhex(before)) == 32
    assert grammar_fingerprint() == before

    def changed(path: str) -> Path:
        copy = tmp_path / Path(path).name
        copy.write_bytes(resource(path).read_bytes() + (b"\n" if path.endswith("cml.lark") else b""))
        return copy

    monkeypatch.setattr(grammar, "resource", changed)
    assert grammar_fingerprint() != before
