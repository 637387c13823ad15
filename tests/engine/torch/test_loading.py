"""Opening models: what is found, and a clear error for everything that is wrong with a checkpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from asynclm.engine.base import ModelError, SamplingParams, StepRequest, UnknownModelError
from asynclm.engine.torch import DEFAULT_MODEL, open_engine
from asynclm.engine.torch.checkpoint import RopeConfig, read_config
from asynclm.engine.torch.linear import bfloat16_is_fast
from asynclm.engine.torch.loading import choose_device, choose_dtype, read_chat_template
from asynclm.prompt.template import Content, Markup, Message, Role, TextPart

from .conftest import save_tiny_tokenizer


def edit(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**data, **changes}.items() if value is not ...}))


@pytest.fixture
def folder(tiny_dir: Path, tmp_path: Path) -> Path:
    """A copy of a tiny checkpoint, to be damaged."""
    return shutil.copytree(tiny_dir, tmp_path / "tiny-llama")


def open_quietly(model: Path | str, **options: Any) -> Any:
    return open_engine(
        str(model), **{"progress": False, "dtype": "float32", "device": "cpu", "offline": True, **options}
    )


def test_a_folder_opens(folder: Path) -> None:
    engine = open_quietly(folder, max_sequences=3, context_length=100)
    assert (engine.info.name, engine.info.model) == ("torch", "tiny-llama")
    assert (engine.info.context_length, engine.info.max_sequences) == (100, 3)
    assert engine.info.description["dtype"] == "float32"
    assert engine.info.description["source"] == f"folder {folder}"
    sequence = engine.open(engine.tokenizer.encode("Hello"), SamplingParams())
    assert len(engine.step([StepRequest(sequence)])) == 1


def test_the_entry_point_names_it() -> None:
    (entry,) = entry_points(group="asynclm.engines", name="torch")
    assert entry.load() is open_engine


def test_a_checkpoint_without_a_chat_template_gets_a_plain_one(folder: Path) -> None:
    segments = open_quietly(folder).template.render([Message(Role.USER, (TextPart("Hi"),))])
    assert segments == (Markup("User: "), Content((TextPart("Hi"),)), Markup("\n\nAssistant:"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", "X"),
        ("chat_template.json", '{"chat_template": "X"}'),
        ("tokenizer_config.json", '{"chat_template": "X"}'),
        ("tokenizer_config.json", '{"chat_template": [{"name": "default", "template": "X"}]}'),
    ],
)
def test_chat_templates_are_found_where_they_may_be(tmp_path: Path, name: str, content: str) -> None:
    assert read_chat_template(tmp_path) is None
    (tmp_path / name).write_text(content)
    assert read_chat_template(tmp_path) == "X"


# --- Configurations ------------------------------------------------------------------------------------------------


def test_older_configurations_are_read(folder: Path) -> None:
    """Before transformers 5, rope settings stood in `rope_theta` and `rope_scaling`."""
    old = {
        "type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    edit(folder / "config.json", rope_parameters=..., rope_theta=500000.0, rope_scaling=old, head_dim=...)
    config = read_config(folder)
    assert config.head_dim == 16
    assert config.rope == RopeConfig(theta=500000.0, kind="llama3", factor=32.0, original_length=8192)
    edit(folder / "config.json", rope_scaling=None)
    assert read_config(folder).rope == RopeConfig(theta=500000.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["MistralForCausalLM"], "model_type": "mistral"}, "MistralForCausalLM; allowed: Llama"),
        ({"architectures": ..., "model_type": "gpt2"}, "'gpt2'; allowed: LlamaForCausalLM"),
        ({"quantization_config": {"quant_method": "awq"}}, r"quantized \(awq\)"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; allowed: 'silu'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type is 'yarn'; allowed: default, linear, llama3"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, "factor is missing"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"hidden_size": ...}, "hidden_size is missing"),
        ({"num_attention_heads": 3}, "must be a multiple of num_key_value_heads"),
        ({"head_dim": 15}, "head_dim is 15; it must be even"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; it must be positive"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1; it must be positive"),
        ({"num_hidden_layers": 3}, r"tensor model\.layers\.2\..* is missing"),
        ({"attention_bias": True}, r"q_proj\.bias is missing"),
        ({"mlp_bias": True}, r"gate_proj\.bias is missing"),
        ({"rope_parameters": "llama3"}, "config.json: "),
        ({"vocab_size": "many"}, "config.json: invalid literal"),
    ],
)
def test_unsupported_configurations_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder / "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        open_quietly(folder)


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ("[]", "no JSON object"), (None, "no config")])
def test_a_damaged_configuration_is_refused(folder: Path, content: str | None, message: str) -> None:
    path = folder / "config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ModelError, match=message):
        open_quietly(folder)


# --- Weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ModelError, match=r"model\.safetensors \(\d+ bytes\) is truncated or damaged: .* Fetch it again"
    ):
        open_quietly(folder)


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has no weights: neither model\.safetensors nor"):
        open_quietly(folder)


def test_missing_shards_are_named(save_tiny: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "sharded", max_shard_size="60KB")
    open_quietly(folder)
    shards = sorted(folder.glob("*.safetensors"))
    shards[2].unlink()
    with pytest.raises(ModelError, match=f"1 of {len(shards)} shards are missing, {shards[2].name} first"):
        open_quietly(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match=r"index\.json cannot be read"):
        open_quietly(folder)


def test_truncated_shards_are_named(save_tiny: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "sharded", max_shard_size="60KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ModelError, match=rf"{shard.name} \(\d+ bytes\) is truncated or damaged"):
        open_quietly(folder)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the peak of memory")
@pytest.mark.weights
def test_weights_are_not_in_memory_twice(smollm2_dir: Path) -> None:
    """While they are packed, one tensor at most is there beside its copy; nor does the file stay mapped."""
    program = """
import sys
from pathlib import Path
import torch
from asynclm.engine.torch.model import LlamaModel

def held(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

before = held("VmRSS")
model = LlamaModel.load(Path(sys.argv[1]), dtype=torch.bfloat16, device=torch.device("cpu"))
print(held("VmHWM") - before, model._embedding.nbytes)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(smollm2_dir)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    peak, embedding = map(int, result.stdout.split())
    size = (smollm2_dir / "model.safetensors").stat().st_size
    assert peak < 1.4 * (size + embedding)  # a tied embedding is packed for the head, and kept for looking up


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.layers.1.mlp.up_proj.weight", None, r"tensor model\.layers\.1\.mlp\.up_proj\.weight is missing"),
        ("model.norm.weight", (65,), r"model\.norm\.weight has shape \(65,\); config\.json says \(64,\)"),
        ("lm_head.weight", None, "lm_head.weight is missing"),
    ],
)
def test_wrong_tensors_are_refused(folder: Path, name: str, shape: tuple[int, ...] | None, message: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    if shape:
        tensors[name] = torch.zeros(shape)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        open_quietly(folder)


# --- Tokenizers ----------------------------------------------------------------------------------------------------


def test_a_tokenizer_without_free_special_tokens_is_refused(folder: Path) -> None:
    save_tiny_tokenizer(folder, ["<|im_start|>", "<|im_end|>"])
    with pytest.raises(ModelError, match="no known binding fits this tokenizer"):
        open_quietly(folder)


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(folder: Path) -> None:
    save_tiny_tokenizer(
        folder, [*(f"<{n}>" for n in range(9)), "<|call|>", "<|intr|>", "<|trap|>", "<|end|>", "<|head|>"]
    )
    edit(folder / "tokenizer_config.json", eos_token="<8>")
    edit(folder / "generation_config.json", eos_token_id=...)
    with pytest.raises(ModelError, match="do not belong together"):
        open_quietly(folder)


def test_a_checkpoint_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        open_quietly(folder)


def test_a_broken_chat_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(ModelError, match="chat template, line 1"):
        open_quietly(folder)


# --- Arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int3"}, "dtype is 'int3'; allowed: auto, float32, bfloat16, float16"),
        ({"device": "tpu9"}, "device is 'tpu9'; allowed: auto, cpu"),
        ({"device": "meta"}, "device is 'meta'; allowed: auto, cpu"),
        ({"device": "cuda:99"}, "device is 'cuda:99'; allowed: auto, cpu"),
        ({"max_sequences": 0}, "max_sequences is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"context_length": 513}, "context_length is 513; allowed: 2 to 512"),
    ],
)
def test_bad_arguments_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_quietly(folder, **options)


def test_threads_are_set(folder: Path) -> None:
    before = torch.get_num_threads()
    try:
        assert open_quietly(folder, threads=1).info.description["threads"] == "1"
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_auto_is_bfloat16_where_the_machine_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("auto", cpu) == (torch.bfloat16 if bfloat16_is_fast() else torch.float32)
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    monkeypatch.setattr("asynclm.engine.torch.loading.bfloat16_is_fast", lambda: False)
    assert choose_dtype("auto", cpu) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == cpu


@pytest.mark.parametrize("name", ["no-such-model", "./no/such/folder", "/no/such/folder", "~/no-such-folder", ""])
def test_unknown_models_are_refused(name: str) -> None:
    with pytest.raises(
        UnknownModelError, match=f"Allowed: {DEFAULT_MODEL}, a path to a checkpoint folder, or a Hugging"
    ):
        open_quietly(name)


@pytest.mark.weights
def test_the_embedded_model_answers_without_transformers(smollm2_dir: Path) -> None:
    """Loading must not pay for transformers' imports; the answer shows that the weights are in their places."""
    program = """
import sys
from asynclm.engine.base import SamplingParams, StepRequest
from asynclm.engine.torch import open_engine

assert "torch" not in sys.modules
engine = open_engine(offline=True, progress=False)
sequence = engine.open(engine.tokenizer.encode("The capital of France is"), SamplingParams())
ids = [engine.step([StepRequest(sequence)])[0].token_id for _ in range(3)]
print(b"".join(map(engine.tokenizer.token_bytes, ids)).decode())
assert "transformers" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout
