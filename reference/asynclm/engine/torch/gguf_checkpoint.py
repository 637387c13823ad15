"""Turns the embedded model's GGUF file into a Hugging Face checkpoint folder, once.

Weights are dequantized by the `gguf` library to bfloat16; llama.cpp's row order of the query and key projections is
undone. The tokenizer is rebuilt from the file's metadata with the pre-tokenizer that the file names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL_TYPE, _USER_DEFINED_TYPE = 3, 4  # values of tokenizer.ggml.token_type


class GgufError(ValueError):
    """The GGUF file is not of a kind that this module converts."""


def convert(source: Path, folder: Path, *, name: str) -> None:
    """Writes a checkpoint folder: config, weights in bfloat16, tokenizer and chat template.

    Args:
        source: a GGUF file of Llama architecture with a byte-level BPE tokenizer.
        folder: an existing folder.
        name: the model's name, for `config.json`.

    Raises:
        GgufError: another architecture or tokenizer.
    """
    reader = gguf.GGUFReader(source)
    fields = {key: value.contents() for key, value in reader.fields.items()}
    if fields["general.architecture"] != "llama" or fields["tokenizer.ggml.pre"] != "smollm":
        raise GgufError(
            f"{source.name}: architecture {fields['general.architecture']!r} with pre-tokenizer "
            f"{fields['tokenizer.ggml.pre']!r}; only 'llama' with 'smollm' is converted"
        )
    tensors = {_hugging_face_name(tensor.name): _tensor(tensor, fields) for tensor in reader.tensors}
    config = _config(fields, tied="lm_head.weight" not in tensors, name=name)
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {key: config[key] for key in ("bos_token_id", "eos_token_id")})
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(fields).save(str(folder / "tokenizer.json"))
    tokens = fields["tokenizer.ggml.tokens"]
    settings = {f"{kind}_token": tokens[fields[f"tokenizer.ggml.{kind}_token_id"]] for kind in ("bos", "eos")}
    _write_json(
        folder / "tokenizer_config.json",
        {
            **settings,
            "chat_template": fields["tokenizer.chat_template"],
            "clean_up_tokenization_spaces": False,
            "model_max_length": config["max_position_embeddings"],
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def _hugging_face_name(name: str) -> str:
    if name.startswith("blk."):
        _, layer, part, kind = name.split(".")
        return f"model.layers.{layer}.{_NAMES[part]}.{kind}"
    part, kind = name.split(".")
    return f"{_TOP_NAMES[part]}.{kind}"


def _tensor(tensor: Any, fields: dict[str, Any]) -> torch.Tensor:
    values: npt.NDArray[np.float32] = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    if ".attn_q." in tensor.name:
        values = _unpermute(values, fields["llama.attention.head_count"])
    elif ".attn_k." in tensor.name:
        values = _unpermute(values, fields["llama.attention.head_count_kv"])
    return torch.from_numpy(np.array(values, dtype=np.float32)).to(torch.bfloat16)


def _unpermute(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """llama.cpp rotates neighbouring pairs, transformers the two halves of a head: rows `(d/2, 2)` -> `(2, d/2)`."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _config(fields: dict[str, Any], *, tied: bool, name: str) -> dict[str, Any]:
    heads = fields["llama.attention.head_count"]
    return {
        "_name_or_path": name,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "head_dim": fields["llama.embedding_length"] // heads,
        "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": fields["llama.block_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        # The file holds single precision: 9.999999747e-06 was 1e-5.
        "rms_norm_eps": float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_scaling": None,
        "rope_theta": float(fields["llama.rope.freq_base"]),
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "vocab_size": fields["llama.vocab_size"],
    }


def _tokenizer(fields: dict[str, Any]) -> Tokenizer:
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    added = [token for token, kind in zip(tokens, types, strict=True) if kind in (_CONTROL_TYPE, _USER_DEFINED_TYPE)]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in added])
    return tokenizer


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
