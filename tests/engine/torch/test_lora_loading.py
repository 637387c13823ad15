"""Adapters that cannot be served are refused when the engine opens, with the file, the field and what is allowed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from asynclm.engine.base import ModelError, SamplingParams
from asynclm.engine.torch import open_engine

from .test_lora import ALL, make_adapter


@pytest.fixture(scope="module")
def made(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "adapter"
    return make_adapter(tiny_dir, folder, r=4, target_modules=ALL, trainable_token_indices=[256, 257]).folder


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    """A copy of an adapter, to be damaged."""
    return shutil.copytree(made, tmp_path / "adapter")


def open_with(base: Path, **adapters: Path | str) -> Any:
    places = {name: str(place) for name, place in adapters.items()}
    return open_engine(str(base), progress=False, dtype="float32", device="cpu", offline=True, adapters=places)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


def test_adapters_are_opened_by_name(tiny_dir: Path, adapter: Path) -> None:
    engine = open_with(tiny_dir, cml=adapter, again=adapter)
    assert engine.info.adapters == ("cml", "again")
    engine.open([1, 2], SamplingParams(), adapter="again")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "-x", "x" * 65, "a\n"])
def test_names_are_checked(tiny_dir: Path, adapter: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"adapters: name .*; allowed: letters, digits"):
        open_with(tiny_dir, **{name: adapter})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; allowed: 'LORA'"),
        ({"peft_type": ...}, "peft_type is 'None'; allowed: 'LORA'"),
        ({"use_dora": True}, "use_dora is true, which is not supported; allowed: plain LoRA, without use_dora"),
        ({"bias": "all"}, "bias is 'all'; allowed: 'none'"),
        ({"lora_bias": True}, "lora_bias is true, which is not supported"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is true"),
        ({"layer_replication": [[0, 1], [0, 2]]}, "layer_replication is"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens is"),
        ({"target_parameters": ["experts.w"]}, "target_parameters is"),
        ({"some_new_field": {"x": 1}}, "some_new_field is"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4', which changes the base"),
        ({"target_modules": ["q_proj", "c_attn"]}, "target_modules has 'c_attn'; allowed: q_proj, k_proj"),
        ({"target_modules": ["lm_head"]}, "target_modules has 'lm_head'; allowed: .* by modules_to_save"),
        ({"target_modules": "no.such.thing"}, "which names no module"),
        ({"target_modules": "("}, r"'\(' is no regular expression"),
        ({"target_modules": 7}, "object is not iterable"),
        ({"modules_to_save": ["norm"]}, "modules_to_save has 'norm'; allowed: embed_tokens, lm_head"),
        ({"trainable_token_indices": {"wte": [1]}}, "trainable_token_indices has 'wte'; allowed: embed_tokens"),
        ({"trainable_token_indices": [256, 300]}, "trainable_token_indices has 300; allowed: 0 to 262"),
        ({"layers_to_transform": [2]}, r"layers_to_transform is \[2\]; the model has layers 0 to 1"),
        ({"layers_pattern": "h"}, "layers_pattern is 'h'; allowed: null or 'layers'"),
        ({"r": 0}, "r is 0; it must be positive"),
        ({"r": ...}, "adapter_config.json: r is missing"),
        ({"r": "many"}, "adapter_config.json: invalid literal"),
        ({"lora_alpha": ...}, "lora_alpha is missing"),
    ],
)
def test_configurations_that_are_not_supported_are_refused(
    tiny_dir: Path, adapter: Path, changes: dict[str, Any], message: str
) -> None:
    edit(adapter, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        open_with(tiny_dir, a=adapter)
    assert str(adapter / "adapter_config.json") in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ("[]", "no JSON object"), (None, "has no ada")])
def test_damaged_configurations_are_refused(tiny_dir: Path, adapter: Path, content: str | None, message: str) -> None:
    path = adapter / "adapter_config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ModelError, match=message):
        open_with(tiny_dir, a=adapter)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 8}, r"layers\.0\.self_attn\.q_proj\.lora_A\.weight has shape \(4, 64\); allowed: \(8, 64\)"),
        ({"target_modules": ["q_proj"]}, r"tensor .*lora_A\.weight and \d+ more is not supported"),
        ({"modules_to_save": ["lm_head"]}, r"tensor lm_head\.weight is missing, which adapter_config\.json asks for"),
        ({"trainable_token_indices": None}, r"embed_tokens\.token_adapter.* is not supported"),
        ({"trainable_token_indices": [1]}, r"trainable_tokens_delta has shape \(2, 64\); allowed: \(1, 64\)"),
    ],
)
def test_weights_that_do_not_fit_their_configuration_are_refused(
    tiny_dir: Path, adapter: Path, changes: dict[str, Any], message: str
) -> None:
    edit(adapter, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        open_with(tiny_dir, a=adapter)
    assert str(adapter / "adapter_model.safetensors") in str(caught.value)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"hidden_size": 32}, r"lora_A\.weight has shape \(4, 64\); allowed: \(4, 32\); it was made for .*model"),
        ({"intermediate_size": 80}, r"lora_B\.weight has shape \(96, 4\); allowed: \(80, 4\)"),
        ({"num_key_value_heads": 4}, r"k_proj\.lora_B\.weight has shape \(32, 4\); allowed: \(64, 4\)"),
        ({"num_hidden_layers": 3}, r"layers\.2\.self_attn\.q_proj\.lora_A\.weight is missing"),
        ({"num_hidden_layers": 1}, r"tensor model\.layers\.1\.mlp\.down_proj\.lora_A\.weight and 13 more"),
    ],
)
def test_adapters_for_another_base_are_refused(
    save_tiny: Callable[..., Path], adapter: Path, tmp_path: Path, other: dict[str, int], message: str
) -> None:
    base = save_tiny(tmp_path / "other", **other)
    with pytest.raises(ModelError, match=message):
        open_with(base, a=adapter)


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_truncated_weights_are_refused(tiny_dir: Path, adapter: Path, keep: int) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors \(\d+ bytes\) is truncated or damaged"):
        open_with(tiny_dir, a=adapter)


def test_weights_that_are_not_finite_are_refused(tiny_dir: Path, adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    tensors[name][3, 1] = torch.nan
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"up_proj\.lora_B\.weight has values that are not finite"):
        open_with(tiny_dir, a=adapter)


def test_missing_weights_are_refused(tiny_dir: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors \(adapter_model\.bin is not read"):
        open_with(tiny_dir, a=adapter)


@pytest.mark.parametrize("place", ["./no/such/folder", "nowhere", "a/b/c", ""])
def test_places_that_are_none_are_refused(tiny_dir: Path, place: str) -> None:
    with pytest.raises(ModelError, match=f"adapter x: there is no folder {re.escape(repr(place))}. Allowed: a folder"):
        open_with(tiny_dir, x=place)


def test_an_adapter_that_was_never_fetched_is_refused_offline(tiny_dir: Path) -> None:
    with pytest.raises(ModelError, match="adapter x: Hugging Face someone/no-such-adapter: not cached"):
        open_with(tiny_dir, x="someone/no-such-adapter")
