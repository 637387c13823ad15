from __future__ import annotations

from random import Random

import pytest

from asynclm.bench import parser as module
from asynclm.bench.registry import run
from asynclm.bench.transcripts import PieceTokenizer, cut, transcript
from asynclm.cml.binding import bind
from asynclm.cml.blocks import Call, Text, Trap
from asynclm.cml.codec import Tokenizer
from asynclm.cml.control import BodyLanguage
from asynclm.cml.text_form import parse, render


def test_twelve_metrics_are_measured_on_the_same_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURNS", 10)
    monkeypatch.setattr(module, "QUICK_ROUNDS", 2)
    record = run("parser", quick=True)
    metrics = {m.name: m for m in record.metrics}
    assert set(metrics) == {
        f"{form}_{kind}_us_per_token_{p}"
        for form in ("token_form", "text_form")
        for kind in ("text", "body", "block_end")
        for p in ("p50", "p99")
    }
    for name, metric in metrics.items():
        assert metric.floor == (10 if name.endswith("p50") else 100)
        assert metric.value is not None
        assert metric.value > 0
        if "block_end" in name:
            assert metric.samples == 10 * len(BodyLanguage) * 2


@pytest.mark.parametrize("language", BodyLanguage)
def test_transcripts_are_well_formed_documents_of_every_kind(language: BodyLanguage) -> None:
    document = transcript(Random(1), language, 50)
    assert parse(render(document, language), language) == tuple(document)
    kinds = [type(block) for block in document]
    assert (kinds.count(Text), kinds.count(Call), kinds.count(Trap)) == (50, 40, 10)


def test_pieces_are_three_to_six_characters_long() -> None:
    text = "a text that is cut into pieces" * 10
    pieces = cut(Random(1), text)
    assert "".join(pieces) == text
    assert {len(piece) for piece in pieces[:-1]} == {3, 4, 5, 6}


def test_the_tokenizer_keeps_its_promises() -> None:
    tokenizer = PieceTokenizer(Random(1))
    assert isinstance(tokenizer, Tokenizer)
    empty = tokenizer.fingerprint
    text = "naïve 東京 <|call|> " * 20
    ids = tokenizer.encode(text)
    assert tokenizer.special_ids.isdisjoint(ids)
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() == text
    assert max(ids) == tokenizer.vocab_size - 1
    assert tokenizer.fingerprint != empty
    assert tokenizer.spelling(0) == "<|call|>"
    assert tokenizer.spelling(ids[0]).startswith("b'")
    assert tokenizer.token_bytes(0) == b""
    decoder = bind(tokenizer).decoder()
    assert "".join(str(item) for i in ids for item in decoder.feed(i)) == text
