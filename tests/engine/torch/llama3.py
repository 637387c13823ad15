"""Small checkpoints in the image of the published Llama 3 ones: their configurations, shapes in proportion, real names.

`PUBLISHED` has the fields that the checkpoints' own `config.json` files have; sizes are shrunk, with the same number of
query heads to a key head, the same proportion of the inner size to the hidden one, and RoPE scaling that begins at 64
tokens instead of 8,192. Weights are random.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

ORIGINAL_LENGTH = 64
CONTEXT = 1024


def scaled(factor: float) -> dict[str, Any]:
    return {
        "factor": factor,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": ORIGINAL_LENGTH,
        "rope_type": "llama3",
    }


def published(
    *, heads: int, kv_heads: int, inner: float, eos: int | list[int], length: int = CONTEXT, **more: Any
) -> dict[str, Any]:
    head_dim = 16
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 128000,
        "eos_token_id": eos,
        "hidden_act": "silu",
        "hidden_size": heads * head_dim,
        "initializer_range": 0.02,
        "intermediate_size": int(heads * head_dim * inner),
        "max_position_embeddings": length,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": 2,
        "num_key_value_heads": kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.43.0.dev0",
        "use_cache": True,
        "vocab_size": 128256,
        **more,
    }


ENDS = [128001, 128008, 128009]

PUBLISHED: dict[str, dict[str, Any]] = {
    "Llama-3-8B": published(heads=8, kv_heads=2, inner=3.5, eos=128001, length=128),
    "Llama-3-70B-Instruct": published(heads=16, kv_heads=2, inner=3.5, eos=128009, length=128),
    "Llama-3.1-8B-Instruct": published(heads=8, kv_heads=2, inner=3.5, eos=ENDS, rope_scaling=scaled(8.0)),
    "Llama-3.1-70B": published(heads=16, kv_heads=2, inner=3.5, eos=128001, rope_scaling=scaled(8.0)),
    "Llama-3.1-405B": published(heads=16, kv_heads=1, inner=3.25, eos=128001, rope_scaling=scaled(8.0)),
    "Llama-3.2-1B-Instruct": published(
        heads=8, kv_heads=2, inner=4.0, eos=ENDS, rope_scaling=scaled(32.0), tie_word_embeddings=True, head_dim=16
    ),
    "Llama-3.2-3B-Instruct": published(
        heads=6, kv_heads=2, inner=2.67, eos=ENDS, rope_scaling=scaled(32.0), tie_word_embeddings=True, head_dim=16
    ),
    "Llama-3.3-70B-Instruct": published(
        heads=16, kv_heads=2, inner=3.5, eos=ENDS, rope_scaling=scaled(8.0), head_dim=16
    ),
}


def save(
    folder: Path,
    config: dict[str, Any],
    *,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_size: str = "200KB",
    tokenizer: Path | None = None,
    seed: int = 1,
    edit: Any = None,
) -> Path:
    """Saves a random checkpoint: weights by transformers, `config.json` as it was published.

    Args:
        folder: where to.
        config: one of `PUBLISHED`, or like them.
        dtype: of the weights in the files.
        max_shard_size: small enough for several.
        tokenizer: a folder with tokenizer files to add.
        seed: of the weights.
        edit: called with the model before it is saved.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**config, "initializer_range": 0.2}))
    for name, parameter in model.named_parameters():
        if "norm" in name:  # initialised to 1, which would hide its loss
            torch.nn.init.normal_(parameter, mean=1.0, std=0.2)
    if edit is not None:
        edit(model)
    model.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer is not None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tokenizer / name, folder / name)
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": config["eos_token_id"]}))
    original = folder / "original"  # the weights as Meta published them, which nothing here reads
    original.mkdir()
    (original / "consolidated.00.pth").write_bytes(b"not for us")
    return folder
