"""Reads a Hugging Face `LlamaForCausalLM` checkpoint folder: its configuration and its safetensors, checked.

Needs no transformers: a configuration is a JSON file and a shard a safetensors file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from asynclm.engine.base import ModelError

ARCHITECTURE = "LlamaForCausalLM"
ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig:
    """Rotary position embedding, after `rope_parameters` or `rope_theta` and `rope_scaling` of a configuration.

    Attributes:
        theta: base of the frequencies.
        kind: `default`, `linear` or `llama3`.
        factor: how much positions (linear) or low frequencies (llama3) are stretched.
        low_freq_factor: llama3: wavelengths over `original_length / low_freq_factor` are stretched whole.
        high_freq_factor: llama3: wavelengths under `original_length / high_freq_factor` are left alone.
        original_length: llama3: the context length before stretching.
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig:
    """Sizes of a Llama model, named as in `config.json`; `context_length` is its `max_position_embeddings`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    context_length: int
    tied: bool
    rope: RopeConfig
    attention_bias: bool = False
    mlp_bias: bool = False


def read_config(folder: Path) -> LlamaConfig:
    """Reads `config.json`.

    Raises:
        ModelError: the file is missing or damaged, the architecture or one of its options is not supported, or a
            size is missing or makes no sense.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} is no checkpoint folder: it has no config.json")
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error!s:.200}") from None
    if not isinstance(raw, dict):
        raise ModelError(f"{path} holds no JSON object")
    _check_supported(raw, path)
    try:
        return _parse(raw)
    except KeyError as error:
        raise ModelError(f"{path}: {error.args[0]} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: {error!s:.200}") from None


def _check_supported(raw: Mapping[str, Any], path: Path) -> None:
    architectures = raw.get("architectures") or [f"model_type {raw.get('model_type')!r}"]
    if ARCHITECTURE not in architectures and raw.get("model_type") != "llama":
        raise ModelError(f"{path}: architecture is {str(architectures[0])[:80]}; allowed: {ARCHITECTURE}")
    if raw.get("quantization_config"):
        method = str(raw["quantization_config"].get("quant_method", "?"))[:40]
        raise ModelError(f"{path}: weights are quantized ({method}); allowed: float32, float16 or bfloat16 weights")
    if raw.get("hidden_act", "silu") != "silu":
        raise ModelError(f"{path}: hidden_act is {str(raw['hidden_act'])[:40]!r}; allowed: 'silu'")


def _parse(raw: Mapping[str, Any]) -> LlamaConfig:
    hidden, heads = _size(raw, "hidden_size"), _size(raw, "num_attention_heads")
    kv_heads = _size(raw, "num_key_value_heads", heads)
    config = LlamaConfig(
        vocab_size=_size(raw, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_size(raw, "intermediate_size"),
        num_layers=_size(raw, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=_size(raw, "head_dim", hidden // heads),
        norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
        context_length=_size(raw, "max_position_embeddings", 2048),
        tied=bool(raw.get("tie_word_embeddings", False)),
        rope=_parse_rope(raw),
        attention_bias=bool(raw.get("attention_bias")),
        mlp_bias=bool(raw.get("mlp_bias")),
    )
    if heads % kv_heads:
        raise ValueError(f"num_attention_heads is {heads}; it must be a multiple of num_key_value_heads, {kv_heads}")
    if config.head_dim % 2:
        raise ValueError(f"head_dim is {config.head_dim}; it must be even")
    return config


def _size(raw: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A size; null stands for the default, as in transformers."""
    value = raw.get(name)
    if value is None:
        if default is None:
            raise KeyError(name)
        return default
    if int(value) < 1:
        raise ValueError(f"{name} is {value}; it must be positive")
    return int(value)


def _parse_rope(raw: Mapping[str, Any]) -> RopeConfig:
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta") or raw.get("rope_theta") or 10000.0)
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    if kind not in ROPE_TYPES:
        raise ValueError(f"rope_type is {kind[:40]!r}; allowed: {', '.join(ROPE_TYPES)}")
    if float(rope.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0) != 1.0:
        raise ValueError("partial_rotary_factor must be 1")
    if kind == "default":
        return RopeConfig(theta=theta)
    if kind == "linear":
        return RopeConfig(theta=theta, kind=kind, factor=float(rope["factor"]))
    if float(rope["low_freq_factor"]) >= float(rope["high_freq_factor"]):
        raise ValueError(f"low_freq_factor is {rope['low_freq_factor']}; it must be below high_freq_factor")
    return RopeConfig(
        theta=theta,
        kind=kind,
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_length=int(rope["original_max_position_embeddings"]),
    )


class Weights:
    """The tensors of a checkpoint, read one by one.

    Each is copied out of its shard, which is mapped for so long only: pages of a mapped file count as memory of the
    process, and a checkpoint that stays mapped while it is packed takes twice its size.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype, device: torch.device) -> None:
        """Looks into every shard.

        Raises:
            ModelError: there are no safetensors, or a shard is missing or damaged.
        """
        self._folder = folder
        self._dtype = dtype
        self._device = device
        self._shard_of: dict[str, str] = {}
        for shard in self._shards():
            with self._open(shard) as file:
                self._shard_of.update(dict.fromkeys(file.keys(), shard))

    def _shards(self) -> list[str]:
        if (self._folder / "model.safetensors").is_file():
            return ["model.safetensors"]  # before the index, as in transformers
        index = self._folder / "model.safetensors.index.json"
        if not index.is_file():
            raise ModelError(
                f"{self._folder} has no weights: neither model.safetensors nor {index.name}. "
                "Weights in other formats must be saved as safetensors first"
            )
        try:
            shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} cannot be read: {error!r:.200}") from None
        missing = [shard for shard in shards if not (self._folder / shard).is_file()]
        if missing:
            raise ModelError(
                f"{self._folder}: {len(missing)} of {len(shards)} shards are missing, {missing[0][:200]} first"
            )
        return shards

    def _open(self, shard: str) -> Any:
        path = self._folder / shard
        try:
            return safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path} ({path.stat().st_size} bytes) is truncated or damaged: {error!s:.200}. Fetch it again"
            ) from None

    def get(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """One tensor, of this shape, in the dtype and on the device asked for.

        Raises:
            ModelError: it is missing or has another shape.
        """
        if name not in self._shard_of:
            raise ModelError(f"{self._folder}: tensor {name} is missing from the weights")
        with self._open(self._shard_of[name]) as file:
            tensor: torch.Tensor = file.get_tensor(name)
            found = tuple(tensor.shape)
            if found != shape:
                raise ModelError(f"{self._folder}: tensor {name} has shape {found}; config.json says {shape}")
            return tensor.to(device=self._device, dtype=self._dtype, copy=True)
