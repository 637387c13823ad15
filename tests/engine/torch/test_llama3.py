"""The Llama 3 family: every published configuration, shrunk, against transformers; the real tokenizer and its ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from asynclm.cml.binding import bind
from asynclm.engine.torch import open_engine
from asynclm.engine.torch.checkpoint import read_config
from asynclm.engine.torch.model import LlamaModel
from asynclm.prompt.hf_tokenizer import HfTokenizer

from .conftest import save_tiny_tokenizer
from .llama3 import CONTEXT, ORIGINAL_LENGTH, PUBLISHED, save
from .test_model import in_chunks

TOLERANCE = 2e-4
"""Largest difference of logits in float32; their largest is about 20. Seen: 5e-5."""

CPU = torch.device("cpu")
SMALL_VOCAB = 512
LENGTH = 3 * ORIGINAL_LENGTH - 42


def small(name: str) -> dict[str, Any]:
    """A published configuration with few tokens."""
    return {**PUBLISHED[name], "vocab_size": SMALL_VOCAB, "bos_token_id": 0, "eos_token_id": 1}


def some_ids(count: int, vocab: int = SMALL_VOCAB, seed: int = 2) -> list[int]:
    ids: list[int] = torch.randint(0, vocab, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids


def check(folder: Path, ids: list[int], load_reference: Any) -> None:
    """Equal to transformers by prefill, token by token, and with injections of several lengths between."""
    expected = load_reference(folder, torch.float32)(ids)
    assert expected.abs().max() > 2  # logits near zero would agree whatever is computed
    model = LlamaModel.load(folder, dtype=torch.float32, device=CPU)
    left = len(ids) - 90
    for sizes in ([len(ids)], [50, *[1] * 30, 7, 1, 1, 1, left], [1, 1, 88, left]):
        torch.testing.assert_close(in_chunks(model, ids, sizes), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_logits_equal_transformers_beyond_the_original_context(
    name: str, load_reference: Callable[..., Any], tmp_path: Path
) -> None:
    folder = save(tmp_path / name, small(name), dtype=torch.bfloat16)
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    check(folder, some_ids(min(LENGTH, PUBLISHED[name]["max_position_embeddings"])), load_reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_weights_of_every_dtype_are_read(
    dtype: torch.dtype, load_reference: Callable[..., Any], tmp_path: Path
) -> None:
    folder = save(tmp_path / "model", small("Llama-3.2-3B-Instruct"), dtype=dtype)
    check(folder, some_ids(LENGTH), load_reference)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_computing_in_half_precision_stays_near(
    dtype: torch.dtype, load_reference: Callable[..., Any], tmp_path: Path
) -> None:
    """Another rounding at another place is no error; a wrong frequency moves the logits by several units."""
    folder = save(tmp_path / "model", small("Llama-3.1-8B-Instruct"), dtype=dtype)
    ids = some_ids(LENGTH)
    exact, theirs = load_reference(folder, torch.float32)(ids), load_reference(folder, dtype)(ids)
    ours = in_chunks(LlamaModel.load(folder, dtype=dtype, device=CPU), ids, [50, *[1] * 30, LENGTH - 80])
    assert (ours - exact).abs().mean() <= 1.2 * (theirs - exact).abs().mean()


def test_scaling_begins_where_the_configuration_says(load_reference: Callable[..., Any], tmp_path: Path) -> None:
    """The check above can fail: scaling that is forgotten, or begins elsewhere, is far off."""
    config = small("Llama-3.1-8B-Instruct")
    folder = save(tmp_path / "model", config)
    expected = load_reference(folder, torch.float32)(some_ids(LENGTH))
    for wrong in (None, {**config["rope_scaling"], "original_max_position_embeddings": 2 * ORIGINAL_LENGTH}):
        (folder / "config.json").write_text(json.dumps({**config, "rope_scaling": wrong}))
        model = LlamaModel.load(folder, dtype=torch.float32, device=CPU)
        assert (in_chunks(model, some_ids(LENGTH), [LENGTH]) - expected).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("name", PUBLISHED)
def test_old_and_new_spellings_of_a_configuration_mean_the_same(name: str, tmp_path: Path) -> None:
    from transformers import LlamaConfig

    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]))
    old = read_config(tmp_path)
    LlamaConfig(**PUBLISHED[name]).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert "rope_parameters" in written
    assert "rope_theta" not in written
    assert read_config(tmp_path) == old
    assert old.rope.theta == 500000.0
    assert old.tied is PUBLISHED[name]["tie_word_embeddings"]


# --- The real tokenizer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [9, 11, [9, 10, 11], None])
@pytest.mark.parametrize("generation", [None, 11, [9, 11]])
@pytest.mark.parametrize("named", ["<|end_of_text|>", "<|eot_id|>"])
def test_every_end_of_llama3_ends_a_sequence(config: object, generation: object, named: str, tmp_path: Path) -> None:
    """Whichever of them the files name; ids 9 to 11 stand for 128001, 128008 and 128009 here."""
    ends = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
    save_tiny_tokenizer(tmp_path, ["<|begin_of_text|>", *ends, "<|python_tag|>"], eos=named)
    first = HfTokenizer.from_folder(tmp_path).special_id(ends[0])
    assert first is not None

    def moved(ids: object) -> object:
        return (
            [i + first - 9 for i in ids] if isinstance(ids, list) else ids + first - 9 if isinstance(ids, int) else ids
        )

    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": moved(config)}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": moved(generation)}))
    tokenizer = HfTokenizer.from_folder(tmp_path)
    assert {tokenizer.spelling(i) for i in tokenizer.eos_ids} == set(ends)


@pytest.mark.weights
def test_control_tokens_are_reserved_special_tokens(llama3_tokenizer: HfTokenizer) -> None:
    codec = bind(llama3_tokenizer)
    assert codec.binding.name == "llama-3"
    spelled = {llama3_tokenizer.spelling(i) for i in codec.control_ids.values()}
    assert spelled == {f"<|reserved_special_token_{n}|>" for n in range(240, 245)}
    assert not codec.eos_ids & set(codec.control_ids.values())
    assert llama3_tokenizer.vocab_size == 128256


@pytest.mark.weights
@pytest.mark.parametrize("name", ["Llama-3-8B", "Llama-3.2-1B-Instruct"])
def test_the_whole_vocabulary_opens_and_equals_transformers(
    name: str, llama3_dir: Path, load_reference: Callable[..., Any], tmp_path: Path
) -> None:
    config = {**PUBLISHED[name], "hidden_size": 32, "intermediate_size": 96, "num_attention_heads": 4, "head_dim": 8}
    config["num_key_value_heads"] = 1
    folder = save(tmp_path / name, config, tokenizer=llama3_dir, max_shard_size="9MB")
    engine: Any = open_engine(str(folder), progress=False, dtype="float32", device="cpu", offline=True)
    assert engine.info.model == name
    assert engine.codec.eos_ids == {128001, 128008, 128009}
    assert engine.info.context_length == config["max_position_embeddings"] <= CONTEXT
    ids = [128000, *engine.tokenizer.encode("Where the wild roses grow, 17 °C. " * 12), 128248, 128009][-100:]
    check(folder, ids, load_reference)
