"""Reads the configuration of a LoRA adapter in `peft` format: what it changes, how much, and what is not supported.

Needs no `peft`: a configuration is a JSON file. Whatever would change the computation and is not supported is refused
by the name of its field, so that no adapter is served as something else than it was trained to be.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asynclm.engine.base import ModelError

CONFIG_FILE = "adapter_config.json"

PROJECTIONS = {
    "q_proj": "self_attn",
    "k_proj": "self_attn",
    "v_proj": "self_attn",
    "o_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
"""The products that an adapter may change, and the block that each stands in."""

EMBEDDINGS = ("embed_tokens", "lm_head")
"""The matrices over the vocabulary, of which an adapter may replace rows or all."""

_MUTATING = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")
"""Initialisations that change the base weights, so that the adapter fits no others until it is converted."""

_READ = {
    "peft_type",
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "modules_to_save",
    "trainable_token_indices",
    "init_lora_weights",
    "ensure_weight_tying",
    "bias",
}
_OF_NO_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
"""Fields that matter to training alone, or only beside a field that is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """A LoRA adapter's configuration, named as in `adapter_config.json`.

    Attributes:
        path: the file.
        base: what the adapter says it was made for, empty if it does not say.
        modules: the modules with a low-rank change, by full name (`model.layers.0.self_attn.q_proj`), and the scale of
            their product: `lora_alpha / r`, or with rank-stabilised LoRA `lora_alpha / sqrt(r)`.
        ranks: their ranks, by the same names.
        token_rows: for each matrix over the vocabulary with changed rows, the ids of those rows, in the order in which
            they are stored.
        tied_tokens: whether rows changed in the embedding are changed in a head that is tied to it as well.
        saved: the matrices over the vocabulary that are replaced whole.
        tied_saved: whether an embedding that is replaced whole replaces a head that is tied to it as well.
    """

    path: Path
    base: str
    modules: Mapping[str, float]
    ranks: Mapping[str, int]
    token_rows: Mapping[str, tuple[int, ...]]
    tied_tokens: bool
    saved: tuple[str, ...]
    tied_saved: bool


def read_adapter_config(folder: Path, *, num_layers: int) -> AdapterConfig:
    """Reads `adapter_config.json` of an adapter for a model of so many layers.

    Raises:
        ModelError: the file is missing or damaged, or asks for what is not supported; the message names the field and
            what is allowed.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError(f"{folder} is no adapter folder: it has no {CONFIG_FILE}")
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error!s:.200}") from None
    if not isinstance(raw, dict):
        raise ModelError(f"{path} holds no JSON object")
    try:
        _check_supported(raw)
        return _parse(raw, path, num_layers)
    except KeyError as error:
        raise ModelError(f"{path}: {error.args[0]} is missing") from None
    except re.error as error:
        raise ModelError(f"{path}: {error.pattern!r:.80} is no regular expression: {error.msg}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: {error!s:.300}") from None


def _check_supported(raw: Mapping[str, Any]) -> None:
    if (kind := raw.get("peft_type")) != "LORA":
        raise ValueError(f"peft_type is {str(kind)[:40]!r}; allowed: 'LORA'")
    if (bias := raw.get("bias", "none")) != "none":
        raise ValueError(f"bias is {str(bias)[:40]!r}; allowed: 'none'")
    start = raw.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_MUTATING):
        raise ValueError(
            f"init_lora_weights is {start[:40]!r}, which changes the base weights; allowed: adapters saved as plain "
            "LoRA (peft converts them with path_initial_model_for_weight_conversion)"
        )
    for name, value in raw.items():
        if name not in _READ | _OF_NO_EFFECT and value not in (None, False, [], {}):
            raise ValueError(
                f"{name} is {json.dumps(value)[:60]}, which is not supported; allowed: plain LoRA, "
                f"without {name} or with null or false for it"
            )


def _parse(raw: Mapping[str, Any], path: Path, num_layers: int) -> AdapterConfig:
    names = _targets(raw, num_layers)
    ranks = {name: _positive("r", _of_pattern(raw, "rank_pattern", name, raw["r"])) for name in names}
    rank_stabilised = bool(raw.get("use_rslora"))
    scales = {}
    for name, rank in ranks.items():
        alpha = float(_of_pattern(raw, "alpha_pattern", name, raw["lora_alpha"]))
        scales[name] = alpha / (math.sqrt(rank) if rank_stabilised else rank)
    given = raw.get("trainable_token_indices")
    token_rows = given if isinstance(given, dict) else {"embed_tokens": given} if given else {}
    return AdapterConfig(
        path=path,
        base=str(raw.get("base_model_name_or_path") or ""),
        modules=scales,
        ranks=ranks,
        token_rows={
            _embedding("trainable_token_indices", name): tuple(int(i) for i in ids) for name, ids in token_rows.items()
        },
        tied_tokens=not any(_last(name) == "lm_head" for name in token_rows),
        saved=tuple(dict.fromkeys(_embedding("modules_to_save", n) for n in raw.get("modules_to_save") or ())),
        tied_saved=bool(raw.get("ensure_weight_tying")),
    )


def _targets(raw: Mapping[str, Any], num_layers: int) -> list[str]:
    """Full names of the modules that `target_modules` and its company name."""
    targets = raw.get("target_modules") or []
    if not isinstance(targets, str):
        for target in targets:
            if _last(str(target)) not in PROJECTIONS:
                raise ValueError(
                    f"target_modules has {str(target)[:80]!r}; allowed: {', '.join(PROJECTIONS)} "
                    f"({' and '.join(EMBEDDINGS)} by modules_to_save or trainable_token_indices)"
                )
    chosen = raw.get("layers_to_transform")
    layers = [chosen] if isinstance(chosen, int) else chosen or range(num_layers)
    if any(not 0 <= layer < num_layers for layer in layers):
        raise ValueError(f"layers_to_transform is {str(list(layers))[:80]}; the model has layers 0 to {num_layers - 1}")
    if (pattern := raw.get("layers_pattern")) not in (None, [], "", "layers", ["layers"]):
        raise ValueError(f"layers_pattern is {str(pattern)[:80]!r}; allowed: null or 'layers'")
    names = [f"model.layers.{n}.{block}.{name}" for n in sorted(set(layers)) for name, block in PROJECTIONS.items()]
    excluded = raw.get("exclude_modules") or []
    found = [name for name in names if _matches(targets, name) and not _matches(excluded, name)]
    if targets and not found:
        raise ValueError(
            f"target_modules is {str(targets)[:80]!r}, which names no module; allowed: {', '.join(PROJECTIONS)}"
        )
    return found


def _matches(targets: str | Sequence[str], name: str) -> bool:
    """As in `peft`: a string is a regular expression for the whole name, a list has ends of names."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _of_pattern(raw: Mapping[str, Any], field: str, name: str, default: Any) -> Any:
    """As in `peft`: the first key of the field that is a regular expression for the name or an end of it."""
    for key, value in (raw.get(field) or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default


def _positive(field: str, value: Any) -> int:
    if int(value) < 1:
        raise ValueError(f"{field} is {value}; it must be positive")
    return int(value)


def _embedding(field: str, name: str) -> str:
    if _last(name) not in EMBEDDINGS:
        raise ValueError(f"{field} has {name[:80]!r}; allowed: {', '.join(EMBEDDINGS)}")
    return _last(name)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
