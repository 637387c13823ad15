from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cml.strategies import FEW, documents, sources, texts
from tests.cml.test_text_form import gather

from asynclm.cml.binding import BINDINGS, Binding, BindingError, TokenDecoder, bind, choose_binding
from asynclm.cml.blocks import CmlError, Interrupt
from asynclm.cml.byte_tokenizer import SPECIAL_TOKENS, ByteTokenizer
from asynclm.cml.codec import EOS, Codec, Decoder, Item
from asynclm.cml.control import BodyLanguage, Control, Status
from asynclm.cml.parser import BlockParser
from asynclm.cml.text_form import parse, render

CALL, INTR, TRAP, END, HEAD = Control.CALL, Control.INTR, Control.TRAP, Control.END, Control.HEAD
TOKENIZER = ByteTokenizer()
CODEC = bind(TOKENIZER)


class VocabularyTokenizer(ByteTokenizer):
    """Bytes, then the tokens of a small vocabulary, then special tokens: longer ordinary tokens, other specials."""

    def __init__(self, words: list[bytes] = [], specials: list[str] = [], eos: str = "</s>") -> None:  # noqa: B006
        self.words = words
        self.specials = [*specials, eos]
        self.first_special = 256 + len(words)

    @property
    def vocab_size(self) -> int:
        return self.first_special + len(self.specials)

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(range(self.first_special, self.vocab_size))

    @property
    def eos_ids(self) -> frozenset[int]:
        return frozenset({self.vocab_size - 1})

    def token_bytes(self, token_id: int) -> bytes:
        if token_id < 256:
            return bytes([token_id])
        return self.words[token_id - 256] if token_id < self.first_special else b""

    def special_id(self, spelling: str) -> int | None:
        return self.first_special + self.specials.index(spelling) if spelling in self.specials else None

    def spelling(self, token_id: int) -> str:
        return self.specials[token_id - self.first_special]


def decode(ids: list[int], decoder: TokenDecoder | None = None) -> list[Item]:
    decoder = decoder or CODEC.decoder()
    return [item for token_id in ids for item in decoder.feed(token_id)]


@settings(max_examples=FEW)
@given(st.data(), st.sampled_from(BodyLanguage))
def test_the_token_form_and_the_text_form_give_the_same_blocks(data: st.DataObject, language: BodyLanguage) -> None:
    document = data.draw(documents(language))
    parser = BlockParser(language)
    events = [event for item in decode(CODEC.encode(document, language)) for event in parser.feed(item)]
    assert tuple(gather(events)) == parse(render(document, language), language)


@given(st.one_of(texts, st.lists(st.sampled_from(SPECIAL_TOKENS)).map("".join)))
def test_no_text_becomes_a_special_token(text: str) -> None:
    ids = CODEC.encode_text(text)
    assert TOKENIZER.special_ids.isdisjoint(ids)
    assert "".join(map(str, decode(ids))) == text


@given(sources, st.sampled_from(Status), texts)
def test_a_frame_has_its_three_control_tokens_and_no_other(source: str, status: Status, payload: str) -> None:
    frame = CODEC.frame(source, status, payload)
    ids = CODEC.control_ids
    assert [i for i in frame if i in TOKENIZER.special_ids] == [ids[INTR], ids[HEAD], ids[END]]
    assert frame[0] == ids[INTR]
    assert frame[-1] == ids[END]
    parser = BlockParser(BodyLanguage.PYTHON)
    assert gather([e for item in decode(frame) for e in parser.feed(item)]) == [Interrupt(source, status, payload)]


def test_a_source_cannot_forge_a_frame() -> None:
    with pytest.raises(CmlError):
        CODEC.frame("a[HEAD]", Status.OK, "")


@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1)))
def test_every_stream_of_ids_is_decoded(ids: list[int]) -> None:
    decoder = CODEC.decoder()
    items = decode(ids, decoder)
    assert "" not in items
    controls = {i: c for c, i in CODEC.control_ids.items()}
    meant = [controls.get(i, EOS) for i in ids if i in controls or i in CODEC.eos_ids]
    assert [item for item in items if not isinstance(item, str)] == meant
    assert len(decoder.flush()) <= 1
    assert not decoder.pending


def test_a_control_token_flushes_an_unfinished_sequence_first() -> None:
    end, eos = CODEC.control_ids[END], min(CODEC.eos_ids)
    assert decode([0xC3, end, 0xC3, eos, 0xC3, 0xA9]) == ["\ufffd", END, "\ufffd", EOS, "é"]


def test_a_special_token_without_a_meaning_is_nothing_but_a_boundary() -> None:
    start = TOKENIZER.special_id("<|im_start|>")
    assert start is not None
    decoder = CODEC.decoder()
    assert decoder.feed(start) == ()
    assert decoder.feed(0xC3) == ()
    assert decoder.pending
    assert decoder.feed(start) == ("\ufffd",)
    assert decode([0xC3, start, 0xA9]) == ["\ufffd", "\ufffd"]


def test_tokens_that_cut_characters_are_put_together() -> None:
    codec = bind(VocabularyTokenizer([b"a\xf0\x9f", b"\x99\x82b", "é€".encode(), b"\xff", b""], list(SPECIAL_TOKENS)))
    decoder = codec.decoder()
    for _ in range(2):  # the second time from memory
        assert [decoder.feed(i) for i in (256, 257, 258, 259, 260)] == [("a",), ("🙂b",), ("é€",), ("\ufffd",), ()]
        assert decode([256, 258], decoder) == ["a", "\ufffdé€"]


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    for token_id in (-1, TOKENIZER.vocab_size):
        with pytest.raises(ValueError, match="0 to 263"):
            CODEC.decoder().feed(token_id)


def test_decoders_of_one_codec_do_not_meet() -> None:
    first, second = CODEC.decoder(), CODEC.decoder()
    first.feed(0xC3)
    assert first.pending
    assert not second.pending
    assert first.flush() == "\ufffd"


def test_the_seams_are_met() -> None:
    codec: Codec = CODEC
    decoder: Decoder = CODEC.decoder()
    assert codec.eos_ids == TOKENIZER.eos_ids
    assert set(codec.control_ids) == set(Control)
    assert not decoder.pending
    assert CODEC.tokenizer is TOKENIZER
    assert CODEC.binding is BINDINGS["bytes"]


def test_every_known_binding_is_chosen_for_a_tokenizer_that_has_its_tokens() -> None:
    for binding in BINDINGS.values():
        tokenizer = VocabularyTokenizer(specials=list(binding.tokens.values()))
        assert choose_binding(tokenizer) is binding
        ids = bind(tokenizer).control_ids
        assert [tokenizer.spelling(ids[c]) for c in Control] == [binding.tokens[c] for c in Control]


def test_a_binding_of_ones_own() -> None:
    own = Binding("own", dict(zip(Control, ["<a>", "<b>", "<c>", "<d>", "<e>"], strict=True)))
    tokenizer = VocabularyTokenizer(specials=["<a>", "<b>", "<c>", "<d>", "<e>"])
    assert bind(tokenizer, own).binding is own


def test_without_a_known_binding_the_error_says_what_is_missing_and_what_is_free() -> None:
    tokenizer = VocabularyTokenizer(specials=["<filename>", *(f"<extra{n}>" for n in range(20))])
    with pytest.raises(BindingError) as caught:
        bind(tokenizer)
    message = str(caught.value)
    assert "smollm2 needs <jupyter_code>" in message
    assert "llama-3 needs <|reserved_special_token_240|>" in message
    assert "<filename>, <extra0>" in message
    assert "and 9 more" in message
    assert "</s>" not in message


def test_a_binding_that_does_not_fit_says_what_is_missing_and_what_is_free() -> None:
    tokenizer = VocabularyTokenizer(specials=["<jupyter_code>", "<spare>"])
    with pytest.raises(BindingError, match=r"'<jupyter_output>' is no special token here.*: <spare>$"):
        bind(tokenizer, BINDINGS["smollm2"])
    with pytest.raises(BindingError, match=r"none$"):
        bind(VocabularyTokenizer(), BINDINGS["smollm2"])


def test_a_control_token_must_be_special_and_must_not_end_the_sequence() -> None:
    ending = Binding("own", dict(zip(Control, ["<a>", "<b>", "<c>", "</s>", "<e>"], strict=True)))
    with pytest.raises(BindingError, match="'</s>' ends the sequence"):
        bind(VocabularyTokenizer(specials=["<a>", "<b>", "<c>", "<e>"]), ending)

    class Ordinary(ByteTokenizer):
        def special_id(self, spelling: str) -> int | None:
            return 65 if spelling == "<|trap|>" else super().special_id(spelling)

    with pytest.raises(BindingError, match=r"'<\|trap\|>' is not special"):
        bind(Ordinary())


def test_a_binding_names_five_different_tokens() -> None:
    with pytest.raises(ValueError, match=r"no special token for \[HEAD\]"):
        Binding("short", dict(zip(list(Control)[:4], "abcd", strict=True)))
    with pytest.raises(ValueError, match="one special token for two"):
        Binding("twice", dict(zip(Control, "abcda", strict=True)))


def test_a_tokenizer_that_forges_is_caught() -> None:
    class Forging(ByteTokenizer):
        def encode(self, text: str) -> list[int]:
            return [256] if text == "<|call|>" else super().encode(text)

    codec = bind(Forging())
    assert codec.encode_text("a") == [97]
    with pytest.raises(BindingError, match=r"<\|call\|>"):
        codec.frame("a", Status.OK, "<|call|>")


def test_the_fingerprint_names_tokenizer_and_binding() -> None:
    tokens = dict(CODEC.binding.tokens)
    tokens[CALL], tokens[INTR] = tokens[INTR], tokens[CALL]
    swapped = bind(TOKENIZER, Binding("bytes", tokens))

    class Other(ByteTokenizer):
        @property
        def fingerprint(self) -> str:
            return "0" * 64

    assert len({CODEC.fingerprint, swapped.fingerprint, bind(Other()).fingerprint}) == 3
    assert CODEC.fingerprint == bind(ByteTokenizer()).fingerprint
