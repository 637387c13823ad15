"""Settings of the torch engine, validated on construction. Imports no torch, so that a wrong one is told at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

DTYPES = ("auto", "float32", "bfloat16", "float16")
KV_POLICIES = ("auto", "keep", "swap", "recompute")
QUANTIZATIONS = ("int8",)

_ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchOptions:
    """How a model is opened and served.

    Attributes:
        model: the embedded model's name, a path to a Hugging Face `LlamaForCausalLM` folder, or a Hugging Face id.
        dtype: `auto` (bfloat16, or float32 on CPUs without it), `float32`, `bfloat16` or `float16`.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        offline: use only what is on this machine.
        progress: whether to say on standard error what is fetched and loaded.
        threads: CPU threads for products, for the whole process; None for torch's default.
        context_length: tokens in a context, at most the model's own, which None stands for.
        max_sequences: sequences open at once, suspended ones included.
        max_batch: sequences in one step.
        step_tokens: tokens computed in one step, decode steps and prefill together.
        kv_policy: what happens to the KV cache of a suspended sequence: `keep`, `swap`, `recompute`, or `auto`, which
            chooses by measured costs, the expected wait and memory pressure.
        kv_memory_mib: the most KV cache on the device, in MiB; None for a share of what is free at the start.
        prefix_memory_mib: of that, the most that is kept of prompts' beginnings for later sequences; 0 for none.
        swap_dir: folder for swapped KV cache on CPU, where main memory is the device; None for the system's temporary
            folder. On a GPU it is swapped to main memory.
        quantize: `int8` for 8-bit weights on CPU, or None.
        adapters: LoRA adapters (`peft` format) by name, each a folder or a Hugging Face id; clients ask for
            `model+name`.

    Raises:
        ValueError: a field is out of range; the message names it and what is allowed.
    """

    model: str
    dtype: str = "auto"
    device: str = "auto"
    offline: bool = False
    progress: bool = True
    threads: int | None = None
    context_length: int | None = None
    max_sequences: int = 64
    max_batch: int = 32
    step_tokens: int = 512
    kv_policy: str = "auto"
    kv_memory_mib: int | None = None
    prefix_memory_mib: int = 256
    swap_dir: Path | None = None
    quantize: str | None = None
    adapters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name in ("max_sequences", "max_batch", "step_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("threads", "kv_memory_mib"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be positive")
        if self.prefix_memory_mib < 0:
            raise ValueError(f"prefix_memory_mib is {self.prefix_memory_mib}; allowed: 0 (none) or more")
        self._check_choice("dtype", DTYPES)
        self._check_choice("kv_policy", KV_POLICIES)
        if self.quantize is not None:
            self._check_choice("quantize", QUANTIZATIONS)
        for name in self.adapters:
            if not _ADAPTER_NAME.fullmatch(name):
                raise ValueError(f"adapters: name {name[:80]!r}; allowed: letters, digits, '.', '_' and '-', up to 64")

    def _check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ValueError(f"{name} is {str(value)[:40]!r}; allowed: {', '.join(allowed)}")
