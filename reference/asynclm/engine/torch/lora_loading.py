"""Reads LoRA adapters in `peft` format, `adapter_config.json` and `adapter_model.safetensors`, against their base.

Every tensor that the configuration asks for must be there in the base model's shape, and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from asynclm.engine.base import ModelError
from asynclm.engine.torch.adapter_config import AdapterConfig, read_adapter_config
from asynclm.engine.torch.checkpoint import LlamaConfig
from asynclm.engine.torch.linear import make_linear
from asynclm.engine.torch.lora import Adapter, LowRank, TokenRows

WEIGHTS_FILE = "adapter_model.safetensors"

_PRODUCTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""The model's products, and the modules whose outputs each gives side by side."""


def load_adapter(name: str, folder: Path, config: LlamaConfig, *, dtype: torch.dtype, device: torch.device) -> Adapter:
    """Reads an adapter in `peft` format.

    Args:
        name: what clients ask for.
        folder: holds `adapter_config.json` and `adapter_model.safetensors`.
        config: the base model's.
        dtype: of the adapter's weights, the base model's.
        device: where they live.

    Raises:
        ModelError: the adapter is unreadable or not supported, or does not fit the model; the message names the file.
    """
    settings = read_adapter_config(folder, num_layers=config.num_layers)
    with _Tensors(folder, settings, dtype, device) as tensors:
        products = _read_products(tensors, settings, config)
        embedding, embedding_rows = _read_vocabulary(tensors, settings, config, "embed_tokens")
        head, head_rows = _read_vocabulary(tensors, settings, config, "lm_head")
        if config.tied and settings.tied_saved and embedding is not None and head is None:
            tensors.drop("lm_head.weight")  # the same matrix a second time
            head = embedding
        if config.tied and settings.tied_tokens and embedding_rows is not None:
            head_rows = embedding_rows
        tensors.check_all_read()
    return Adapter(
        name=name,
        products=products,
        embedding=embedding,
        embedding_rows=embedding_rows,
        head=None if head is None else make_linear(head),
        head_rows=head_rows,
    )


def _read_products(tensors: _Tensors, settings: AdapterConfig, c: LlamaConfig) -> dict[tuple[int, str], LowRank]:
    outputs = {
        "q_proj": c.num_heads * c.head_dim,
        "k_proj": c.num_kv_heads * c.head_dim,
        "v_proj": c.num_kv_heads * c.head_dim,
        "gate_proj": c.intermediate_size,
        "up_proj": c.intermediate_size,
    }
    inputs = {"o_proj": c.num_heads * c.head_dim, "down_proj": c.intermediate_size}
    products = {}
    for layer in range(c.num_layers):
        for product, modules in _PRODUCTS.items():
            downs: list[torch.Tensor] = []
            ups: list[torch.Tensor] = []
            for module in modules:
                full, last = f"model.layers.{layer}.{module}", module.rpartition(".")[2]
                size, rank = outputs.get(last, c.hidden_size), settings.ranks.get(full, 0)
                if rank:
                    downs.append(tensors.get(f"{full}.lora_A.weight", (rank, inputs.get(last, c.hidden_size))))
                    ups.append(tensors.get(f"{full}.lora_B.weight", (size, rank), scale=settings.modules[full]))
                else:
                    ups.append(torch.zeros((size, 0), dtype=tensors.dtype, device=tensors.device))
            if downs:
                # One product for all parts: each part's own columns, zeros in the others'.
                products[layer, product] = LowRank(make_linear(torch.cat(downs)), make_linear(_block_diagonal(ups)))
    return products


def _block_diagonal(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    result: torch.Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return result


def _read_vocabulary(
    tensors: _Tensors, settings: AdapterConfig, c: LlamaConfig, name: str
) -> tuple[torch.Tensor | None, TokenRows | None]:
    """An adapter's own matrix over the vocabulary, or own rows of it."""
    prefix = "model.embed_tokens" if name == "embed_tokens" else name
    ids = settings.token_rows.get(name)
    whole = tensors.get(f"{prefix}.weight", (c.vocab_size, c.hidden_size)) if name in settings.saved else None
    if not ids:
        return whole, None
    if not all(0 <= i < c.vocab_size for i in ids):
        raise ModelError(
            f"{settings.path}: trainable_token_indices has {max(ids, key=abs)}; allowed: 0 to {c.vocab_size - 1}"
        )
    rows = tensors.get(f"{prefix}.token_adapter.trainable_tokens_delta", (len(ids), c.hidden_size))
    places = {token: place for place, token in enumerate(ids)}
    return whole, TokenRows(places, torch.tensor(ids, dtype=torch.int64, device=tensors.device), rows)


class _Tensors:
    """The tensors of an adapter, by the names of the base model's modules; a context manager."""

    def __init__(self, folder: Path, settings: AdapterConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        self._path = folder / WEIGHTS_FILE
        self._base = settings.base
        if not self._path.is_file():
            pickled = " (adapter_model.bin is not read: save it as safetensors)"
            has = pickled if (folder / "adapter_model.bin").is_file() else ""
            raise ModelError(f"{folder} has no {WEIGHTS_FILE}{has}")
        try:
            self._file = _open(self._path)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{self._path} ({self._path.stat().st_size} bytes) is truncated or damaged: {error!s:.200}"
            ) from None
        self._left = {key.removeprefix("base_model.model."): key for key in self._file.keys()}  # noqa: SIM118

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.__exit__(*exception)

    def get(self, name: str, shape: tuple[int, ...], *, scale: float = 1.0) -> torch.Tensor:
        """One tensor of this shape, scaled before it is rounded to the dtype."""
        key = self._left.pop(name, None)
        made_for = f"; it was made for {self._base[:200]}" if self._base else ""
        if key is None:
            raise ModelError(f"{self._path}: tensor {name} is missing, which adapter_config.json asks for{made_for}")
        tensor: torch.Tensor = self._file.get_tensor(key)
        if tuple(tensor.shape) != shape:
            raise ModelError(f"{self._path}: tensor {name} has shape {tuple(tensor.shape)}; allowed: {shape}{made_for}")
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"{self._path}: tensor {name} has values that are not finite; the training failed")
        return (tensor.float() * scale).to(device=self.device, dtype=self.dtype)

    def drop(self, name: str) -> None:
        """Leaves out a tensor, if it is there."""
        self._left.pop(name, None)

    def check_all_read(self) -> None:
        """Refuses tensors that would be left out of the computation."""
        if self._left:
            name = min(self._left)
            more = f" and {len(self._left) - 1} more" if len(self._left) > 1 else ""
            raise ModelError(
                f"{self._path}: tensor {name[:200]}{more} is not supported; allowed: lora_A and lora_B of what "
                "target_modules names, and what modules_to_save and trainable_token_indices name"
            )


def _open(path: Path) -> Any:
    return safe_open(path, framework="pt")
