"""Checkpoints' tokenizers: no text reaches a special token, and every id gives back its bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from asynclm.cml.codec import Tokenizer as TokenizerProtocol
from asynclm.prompt.hf_tokenizer import HfTokenizer, TokenizerError

REAL = pytest.mark.parametrize("name", ["smollm2_tokenizer", "llama3_tokenizer"])
SPELLINGS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<jupyter_code>", "<file_sep>", "<empty_output>",
    "<|begin_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|python_tag|>",
    "<|reserved_special_token_0|>", "<|reserved_special_token_240|>", "<|reserved_special_token_247|>",
    "[CALL]", "[INTR]", "[END]",
]  # fmt: skip
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(SPELLINGS),
        st.sampled_from(SPELLINGS).flatmap(lambda s: st.integers(1, len(s) - 1).map(lambda cut: s[:cut])),
        st.sampled_from(["<|", "|>", "<", ">", " ", "\n\n", "  ", "'s", "123", "ſ", "é", "🌱", "\x00", "﷽"]),
        st.text(max_size=8),
    ),
    max_size=12,
).map("".join)


MISSING_IN_SMOLLM2 = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)}


def decode(tokenizer: HfTokenizer, ids: list[int]) -> str:
    return b"".join(map(tokenizer.token_bytes, ids)).decode()


@pytest.fixture
def tokenizer_of(request: pytest.FixtureRequest) -> Callable[[str], HfTokenizer]:
    return request.getfixturevalue


@given(text=HOSTILE)
def test_text_never_encodes_to_a_special_id_smollm2(smollm2_tokenizer: HfTokenizer, text: str) -> None:
    as_readable = "".join("\ufffd" if MISSING_IN_SMOLLM2 & set(c.encode()) else c for c in text)
    assert_safe(smollm2_tokenizer, text, as_readable)


@given(text=HOSTILE)
def test_text_never_encodes_to_a_special_id_llama3(llama3_tokenizer: HfTokenizer, text: str) -> None:
    assert_safe(llama3_tokenizer, text)


def assert_safe(tokenizer: HfTokenizer, text: str, as_readable: str | None = None) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.special_ids.isdisjoint(ids)
    assert decode(tokenizer, ids) == (text if as_readable is None else as_readable)


def test_characters_that_the_vocabulary_cannot_spell_are_replaced_whole(smollm2_tokenizer: HfTokenizer) -> None:
    assert_safe(smollm2_tokenizer, "a\x06b\U00040000c\U000f0000", "a\ufffdb\ufffdc\U000f0000")


@REAL
def test_lone_surrogates_are_refused(tokenizer_of: Callable[[str], HfTokenizer], name: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        tokenizer_of(name).encode("a\ud800")


@REAL
def test_the_spelling_of_every_special_token_is_plain_text(
    tokenizer_of: Callable[[str], HfTokenizer], name: str
) -> None:
    tokenizer = tokenizer_of(name)
    for special in tokenizer.special_ids:
        spelling = tokenizer.spelling(special)
        assert tokenizer.special_id(spelling) == special
        assert tokenizer.token_bytes(special) == b""
        for text in (spelling, f"a{spelling}b", f" {spelling} "):
            assert_safe(tokenizer, text)


@REAL
def test_every_ordinary_token_has_bytes(tokenizer_of: Callable[[str], HfTokenizer], name: str) -> None:
    tokenizer = tokenizer_of(name)
    ordinary = set(range(tokenizer.vocab_size)) - tokenizer.special_ids
    assert all(tokenizer.token_bytes(token) for token in ordinary)
    single = {byte for token in ordinary if len(spelt := tokenizer.token_bytes(token)) == 1 for byte in spelt}
    assert set(range(256)) - single == (MISSING_IN_SMOLLM2 if name == "smollm2_tokenizer" else set())


def test_smollm2(smollm2_tokenizer: HfTokenizer) -> None:
    assert isinstance(smollm2_tokenizer, TokenizerProtocol)
    assert smollm2_tokenizer.vocab_size == 49152
    assert smollm2_tokenizer.special_ids == set(range(17))
    assert smollm2_tokenizer.eos_ids == {2}
    assert (smollm2_tokenizer.bos_token, smollm2_tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert smollm2_tokenizer.special_id("<|im_end|>") == 2
    assert smollm2_tokenizer.special_id("hello") is None
    pieces = [smollm2_tokenizer.spelling(token) for token in smollm2_tokenizer.encode("Hello  world in 2024")]
    assert pieces == ["Hello", "Ġ", "Ġworld", "Ġin", "Ġ", "2", "0", "2", "4"]  # digits stand alone
    assert smollm2_tokenizer.spelling(10**6) == "<1000000>"
    assert smollm2_tokenizer.token_bytes(10**6) == b""


def test_llama3(llama3_tokenizer: HfTokenizer) -> None:
    assert llama3_tokenizer.vocab_size == 128256
    assert llama3_tokenizer.special_ids == set(range(128000, 128256))
    assert llama3_tokenizer.eos_ids == {128001, 128008, 128009}
    assert llama3_tokenizer.special_id("<|reserved_special_token_247|>") == 128255
    assert llama3_tokenizer.encode("Hello world") == [9906, 1917]


@REAL
@pytest.mark.parametrize(
    "text", ["", "Hello, world!", "x = [1, 22, 333]\n\n\treturn  x", "Ünïcödé 日本語 🌱🌱", "I'll don't"]
)
def test_plain_text_is_encoded_as_transformers_does(
    request: pytest.FixtureRequest, tokenizer_of: Callable[[str], HfTokenizer], name: str, text: str
) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = request.getfixturevalue(name.replace("_tokenizer", "_dir"))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    assert tokenizer_of(name).encode(text) == theirs.encode(text, add_special_tokens=False)


# --- Tokenizers that would let text through ----------------------------------------------------------------------


def build(*added: AddedToken, words: tuple[str, ...] = (), ignore_merges: bool = False) -> dict[str, Any]:
    """The definition of a byte tokenizer with added tokens and whole words in its vocabulary."""
    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *words]
    vocabulary = {piece: number for number, piece in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(added))
    tokenizer.add_special_tokens([AddedToken("<eos>", special=True)])
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    return data


def read(data: dict[str, Any]) -> HfTokenizer:
    eos = next(token["id"] for token in data["added_tokens"] if token["content"] == "<eos>")
    return HfTokenizer(json.dumps(data).encode(), eos_ids=[eos])


@pytest.mark.parametrize("normalized", [True, False])
def test_added_tokens_not_marked_special_are_special_all_the_same(normalized: bool) -> None:
    tokenizer = read(
        build(AddedToken("<think>", special=False, normalized=normalized), AddedToken("tool", lstrip=True))
    )
    assert len(tokenizer.special_ids) == 3
    for text in ("<think>", "a <think>b</think>", "tool", "  tool  tools", "<eos>"):
        assert_safe(tokenizer, text)


def test_added_runs_of_spaces_stay_ordinary() -> None:
    tokenizer = read(build(AddedToken("    ", normalized=False), AddedToken("<x>")))
    (run,) = tokenizer.encode("    ")
    assert run not in tokenizer.special_ids
    assert tokenizer.token_bytes(run) == b"    "
    assert_safe(tokenizer, "def f():\n    return <x>")


def test_a_special_token_that_is_a_word_of_the_vocabulary_is_spelt_in_parts() -> None:
    data = build(words=("stop", "top"), ignore_merges=True)
    data["added_tokens"].append({**data["added_tokens"][0], "id": 256, "content": "stop"})
    tokenizer = read(data)
    assert tokenizer.special_id("stop") == 256
    assert tokenizer.encode("stop") == [*tokenizer.encode("s"), 257]
    assert_safe(tokenizer, "stop stopstop top")


def test_padding_and_truncation_of_a_definition_do_not_count() -> None:
    data = build()
    plain = read(data).encode("abcdef")
    data["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    data["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    }  # fmt: skip
    assert read(data).encode("abcdef") == plain


# --- Files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(json.dumps(build(AddedToken("<bos>", special=True))))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<bos>", "eos_token": {"content": "<eos>"}})
    )
    return tmp_path


def test_eos_comes_from_every_file_that_names_one(folder: Path) -> None:
    tokenizer = HfTokenizer.from_folder(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.eos_ids) == ("<bos>", "<eos>", {257})
    (folder / "config.json").write_text('{"eos_token_id": 7}')  # of another tokenizer: ordinary text here
    (folder / "generation_config.json").write_text('{"eos_token_id": [256, 257]}')
    assert HfTokenizer.from_folder(folder).eos_ids == {256, 257}
    assert tokenizer.fingerprint == HfTokenizer.from_folder(folder).fingerprint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, r"has no tokenizer\.json"),
        ("tokenizer.json", "{", "cannot be read"),
        ("tokenizer.json", "{}", "cannot be read"),
        ("tokenizer_config.json", "{", "is not JSON"),
        ("tokenizer_config.json", "{}", "names no special token that ends a sequence"),
    ],
)
def test_damaged_files_are_refused(folder: Path, name: str, content: str | None, message: str) -> None:
    path = folder / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(TokenizerError, match=message):
        HfTokenizer.from_folder(folder)


def test_other_kinds_are_refused() -> None:
    data = build()
    with pytest.raises(TokenizerError, match="only those are supported"):
        read({**data, "pre_tokenizer": {"type": "Metaspace"}})
    with pytest.raises(TokenizerError, match="refused by the tokenizers library"):
        read({**data, "decoder": {"type": "no such"}})
    with pytest.raises(TokenizerError, match=r"end-of-sequence ids \[5\] are not special"):
        HfTokenizer(json.dumps(data).encode(), eos_ids=[5])
