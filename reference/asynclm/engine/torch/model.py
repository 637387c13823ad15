"""The Llama forward pass over a ragged batch: any number of tokens of each of several sequences, one after another.

Products run over all tokens at once, attention over each sequence's own KV cache. Checked against
`transformers` by tests/engine/torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

from asynclm.engine.torch import threads
from asynclm.engine.torch.attention import Attention, Part, in_order
from asynclm.engine.torch.checkpoint import LlamaConfig, RopeConfig, Weights, read_config
from asynclm.engine.torch.kv_arena import open_arena
from asynclm.engine.torch.kv_cache import SequenceCache
from asynclm.engine.torch.linear import Linear
from asynclm.engine.torch.lora import AdaptedBatch, Adapter
from asynclm.engine.torch.operations import Buffer, RmsNorm, Rotation, gate
from asynclm.engine.torch.quantize import MakeLinear, linear_maker

T = TypeVar("T")
Track = Callable[[Sequence[T]], Iterable[T]]
"""Shows progress through a sequence, or just gives it back."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One sequence's part of a batch.

    Attributes:
        ids: the tokens to compute, at least one.
        start: position of the first; the cache holds the rows of all positions before it.
        cache: the sequence's cache, with room for `start + len(ids)` tokens; the rows of `ids` are written.
        adapter: the adapter that computes it, or None for the model as it is.
    """

    ids: Sequence[int]
    start: int
    cache: SequenceCache
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True)
class _Layer:
    input_norm: RmsNorm
    qkv: Linear
    output: Linear
    post_norm: RmsNorm
    gate_up: Linear
    down: Linear


class LlamaModel:
    """A Llama checkpoint's weights, ready to compute logits.

    Attributes:
        config: its sizes.
        dtype: of weights, activations and KV cache.
        device: where they live.
        adapters: LoRA adapters that chunks may ask for, by name.
    """

    def __init__(
        self,
        config: LlamaConfig,
        weights: Weights,
        *,
        dtype: torch.dtype,
        device: torch.device,
        track: Track[int],
        quantize: str | None = None,
    ) -> None:
        self.config = config
        self.dtype = dtype
        self.device = device
        self.adapters: dict[str, Adapter] = {}
        c = config
        make = linear_maker(quantize, dtype=dtype, device=device)
        self._frequencies = inverse_frequencies(c.rope, c.head_dim).to(device)
        self._embedding = weights.get("model.embed_tokens.weight", (c.vocab_size, c.hidden_size))
        self._layers = [_load_layer(weights, c, number, make) for number in track(range(c.num_layers))]
        self._norm = RmsNorm(weights.get("model.norm.weight", (c.hidden_size,)), c.norm_eps)
        head = self._embedding if c.tied else weights.get("lm_head.weight", (c.vocab_size, c.hidden_size))
        self._head = make(head, None)
        self._arena = open_arena(
            num_layers=c.num_layers,
            num_kv_heads=c.num_kv_heads,
            head_dim=c.head_dim,
            context_length=c.context_length,
            dtype=dtype,
            device=device,
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype,
        device: torch.device,
        track: Track[int] = lambda layers: layers,
        quantize: str | None = None,
    ) -> LlamaModel:
        """Loads a Hugging Face checkpoint folder.

        Args:
            folder: holds `config.json` and safetensors.
            dtype: of weights, activations and KV cache.
            device: where they live.
            track: shows progress over the layers.
            quantize: `int8` for 8-bit weights, or None for weights as they are.

        Raises:
            ValueError: there is no such quantization for this device or dtype.
            ModelError: the checkpoint is not supported, incomplete or damaged.
        """
        config = read_config(folder)
        weights = Weights(folder, dtype=dtype, device=device)
        return cls(config, weights, dtype=dtype, device=device, track=track, quantize=quantize)

    def new_cache(self) -> SequenceCache:
        """An empty KV cache for one sequence."""
        c = self.config
        return SequenceCache(
            num_layers=c.num_layers,
            num_kv_heads=c.num_kv_heads,
            head_dim=c.head_dim,
            dtype=self.dtype,
            device=self.device,
            arena=self._arena,
        )

    @torch.inference_mode()
    def forward(
        self,
        chunks: Sequence[Chunk],
        wanted: Sequence[int],
        before_layer: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        """Computes a batch, writing its keys and values.

        Args:
            chunks: what to compute; the batch's tokens are numbered through, from 0.
            wanted: numbers of the tokens whose logits are wanted.
            before_layer: called with each layer's number before it; may raise.

        Returns:
            Logits in float32, of shape (len(wanted), vocab_size).
        """
        if self.device.type != "cpu":
            return self._forward(chunks, wanted, before_layer)
        with threads.crew.at_work():
            return self._forward(chunks, wanted, before_layer)

    def _forward(
        self, chunks: Sequence[Chunk], wanted: Sequence[int], before_layer: Callable[[int], None] | None
    ) -> torch.Tensor:
        c = self.config
        parts = [Part(chunk.cache, chunk.start, len(chunk.ids)) for chunk in chunks]
        order = in_order(parts)
        wanted = _reordered(wanted, [part.length for part in parts], order)
        chunks = [chunks[place] for place in order]
        ids = torch.tensor([i for chunk in chunks for i in chunk.ids], device=self.device)
        positions = torch.tensor(positions_of(chunks), device=self.device, dtype=torch.float32)
        rotate = Rotation(positions, self._frequencies, self.dtype)
        adapted = AdaptedBatch.of(((chunk.adapter, chunk.ids) for chunk in chunks), self.device)
        x = F.embedding(ids, self._embedding)
        if adapted:
            adapted.embed(x)
        normed = Buffer(torch.empty_like(x))
        heads = Buffer(x.new_empty(len(ids), c.num_heads * c.head_dim))
        inner = Buffer(x.new_empty(len(ids), c.intermediate_size))
        attend = Attention([parts[place] for place in order], c, self._arena, heads)
        for number, layer in enumerate(self._layers):
            if before_layer is not None:
                before_layer(number)
            layer.input_norm(x, normed)
            products = layer.qkv(normed.tensor)
            if adapted:
                adapted.add(number, "qkv", normed.tensor, products)
            qkv = Buffer(products.view(len(ids), c.num_heads + 2 * c.num_kv_heads, -1))
            rotate(qkv, c.num_heads + c.num_kv_heads)
            attend(qkv, number)
            x = layer.output.plus(heads.tensor, x)
            if adapted:
                adapted.add(number, "output", heads.tensor, x)
            layer.post_norm(x, normed)
            gate_up = layer.gate_up(normed.tensor)
            if adapted:
                adapted.add(number, "gate_up", normed.tensor, gate_up)
            gate(gate_up, inner)
            x = layer.down.plus(inner.tensor, x)
            if adapted:
                adapted.add(number, "down", inner.tensor, x)
        x = x[torch.tensor(wanted, device=self.device, dtype=torch.int64)]
        rows = Buffer(torch.empty_like(x))
        self._norm(x, rows)
        logits = self._head(rows.tensor)
        if adapted:
            adapted.score(wanted, rows.tensor, logits)
        return logits.float()


def positions_of(chunks: Sequence[Chunk]) -> list[int]:
    """The position of each of a batch's tokens in its own sequence."""
    return [chunk.start + offset for chunk in chunks for offset in range(len(chunk.ids))]


def _reordered(tokens: Sequence[int], lengths: Sequence[int], order: Sequence[int]) -> list[int]:
    """Numbers of tokens of a batch, once its chunks of these lengths are put in that order."""
    firsts = list(itertools.accumulate(lengths, initial=0))
    moved = [0] * len(lengths)
    first = 0
    for place in order:
        moved[place] = first - firsts[place]
        first += lengths[place]
    shifts = [shift for shift, length in zip(moved, lengths, strict=True) for _ in range(length)]
    return [token + shifts[token] for token in tokens]


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> torch.Tensor:
    """Angles by position of shape (head_dim / 2,) in float32, scaled as `rope` says (as in transformers)."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).to(torch.float32) / head_dim
    frequencies = 1.0 / (rope.theta**exponents)
    if rope.kind == "linear":
        return frequencies / rope.factor
    if rope.kind == "default":
        return frequencies
    wavelengths = 2 * math.pi / frequencies
    low, high = rope.low_freq_factor, rope.high_freq_factor
    smooth = (rope.original_length / wavelengths - low) / (high - low)
    blended = (1 - smooth) * frequencies / rope.factor + smooth * frequencies
    scaled = torch.where(wavelengths > rope.original_length / low, frequencies / rope.factor, blended)
    return torch.where(wavelengths < rope.original_length / high, frequencies, scaled)


def _load_layer(weights: Weights, c: LlamaConfig, number: int, make: MakeLinear) -> _Layer:
    prefix = f"model.layers.{number}"
    query, key_value = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim

    def linear(inputs: int, *parts: tuple[str, int]) -> Linear:
        names = [(f"{prefix}.{name}", outputs) for name, outputs in parts]
        matrices = [weights.get(f"{name}.weight", (outputs, inputs)) for name, outputs in names]
        biased = c.mlp_bias if parts[0][0].startswith("mlp") else c.attention_bias
        bias = torch.cat([weights.get(f"{name}.bias", (outputs,)) for name, outputs in names]) if biased else None
        return make(torch.cat(matrices) if len(matrices) > 1 else matrices[0], bias)

    def norm(name: str) -> RmsNorm:
        return RmsNorm(weights.get(f"{prefix}.{name}.weight", (c.hidden_size,)), c.norm_eps)

    return _Layer(
        input_norm=norm("input_layernorm"),
        qkv=linear(
            c.hidden_size,
            ("self_attn.q_proj", query),
            ("self_attn.k_proj", key_value),
            ("self_attn.v_proj", key_value),
        ),
        output=linear(query, ("self_attn.o_proj", c.hidden_size)),
        post_norm=norm("post_attention_layernorm"),
        gate_up=linear(c.hidden_size, ("mlp.gate_proj", c.intermediate_size), ("mlp.up_proj", c.intermediate_size)),
        down=linear(c.intermediate_size, ("mlp.down_proj", c.hidden_size)),
    )
