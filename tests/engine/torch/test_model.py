"""The forward pass equals transformers' on tiny random checkpoints of every supported kind, in any chunking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from asynclm.engine.torch.kv_cache import GRAIN
from asynclm.engine.torch.model import Chunk, LlamaModel

TOLERANCE = 1e-4
"""Largest difference of logits in float32; their largest is about 7. Seen: 1.7e-5."""

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

KINDS: dict[str, dict[str, Any]] = {
    "grouped-query": {},
    "multi-query": {"num_key_value_heads": 1},
    "multi-head": {"num_key_value_heads": 4},
    "tied": {"tie_word_embeddings": True},
    "wide-heads": {"head_dim": 32},
    "biases": {"attention_bias": True},
    "linear-rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "llama3-rope": {"rope_parameters": LLAMA3_ROPE},
    "sharded": {"max_shard_size": "60KB", "tie_word_embeddings": False},
    "other-norm": {"rms_norm_eps": 0.1},
}


def in_chunks(model: LlamaModel, ids: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    """Logits after every id, computed chunk by chunk."""
    cache = model.new_cache()
    cache.reserve(len(ids))
    rows = []
    start = 0
    for size in sizes:
        rows.append(model.forward([Chunk(ids[start : start + size], start, cache)], range(size)))
        start += size
    assert start == len(ids)
    return torch.cat(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_transformers(
    kind: str, save_tiny: Callable[..., Path], load_reference: Callable[..., Any], tmp_path: Path
) -> None:
    folder = save_tiny(tmp_path / kind, **KINDS[kind])
    if kind == "sharded":
        assert len(list(folder.glob("*.safetensors"))) > 3
    model = LlamaModel.load(folder, dtype=torch.float32, device=torch.device("cpu"))
    ids = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(2)).tolist()
    expected = load_reference(folder, torch.float32)(ids)
    assert expected.abs().max() > 2  # logits near zero would agree whatever is computed
    for sizes in ([150], [1] * 150, [7, 1, 100, 1, 1, 40]):
        torch.testing.assert_close(in_chunks(model, ids, sizes), expected, atol=TOLERANCE, rtol=0)


def test_sequences_in_one_batch_do_not_meet(tiny_model: LlamaModel) -> None:
    generator = torch.Generator().manual_seed(3)
    texts = [torch.randint(0, 256, (n,), generator=generator).tolist() for n in (1, 300, 17, 64)]
    alone = [in_chunks(tiny_model, ids, [len(ids)]) for ids in texts]
    caches = [tiny_model.new_cache() for _ in texts]
    for cache, ids in zip(caches, texts, strict=True):
        cache.reserve(len(ids))
    chunks = [Chunk(ids, 0, cache) for ids, cache in zip(texts, caches, strict=True)]
    together = tiny_model.forward(chunks, range(sum(map(len, texts))))
    torch.testing.assert_close(together, torch.cat(alone), atol=TOLERANCE, rtol=0)


def test_a_growing_cache_keeps_its_rows(tiny_model: LlamaModel) -> None:
    cache = tiny_model.new_cache()
    cache.reserve(3)
    assert cache.capacity == GRAIN
    cache.rows.normal_()
    before = cache.rows.clone()
    cache.reserve(20 * GRAIN + 1)
    assert cache.capacity == 21 * GRAIN
    assert torch.equal(cache.rows[:, :, :, :GRAIN], before)
    assert cache.nbytes == cache.bytes_for(20 * GRAIN + 1) == cache.rows.nbytes
    cache.free()
    assert cache.nbytes == 0


def test_no_room_for_a_cache_is_said(tiny_model: LlamaModel) -> None:
    with pytest.raises(MemoryError, match="KV cache of"):
        tiny_model.new_cache().reserve(1 << 50)
