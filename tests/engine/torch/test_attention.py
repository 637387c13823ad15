"""Batched attention: equal to attending to each sequence alone, whatever lies in the other slots."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
import torch

from asynclm.engine.torch import attention
from asynclm.engine.torch.attention import Attention, Part
from asynclm.engine.torch.kv_cache import SequenceCache
from asynclm.engine.torch.model import Chunk, LlamaModel
from asynclm.engine.torch.operations import Buffer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is an arena on Linux only")


def filled(model: LlamaModel, lengths: Sequence[int]) -> list[SequenceCache]:
    caches = [model.new_cache() for _ in lengths]
    for cache, length in zip(caches, lengths, strict=True):
        cache.reserve(length + 8)
        cache.rows[:, :, :, :length].normal_(generator=torch.Generator().manual_seed(length))
    return caches


def alone(model: LlamaModel, chunk: Chunk) -> torch.Tensor:
    """The logits after a chunk, computed with a cache outside the arena; its keys and values are put into both."""
    cache = model.new_cache()
    cache._arena = None
    cache.reserve(chunk.cache.capacity)
    assert cache.slot is None
    cache.rows.copy_(chunk.cache.rows)
    return model.forward([Chunk(chunk.ids, chunk.start, cache)], [len(chunk.ids) - 1])


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_of_any_lengths_equals_each_alone(tiny_model: LlamaModel, seed: int) -> None:
    random = Random(seed)
    for _ in range(6):
        lengths = [random.choice((1, 2, 31, 32, 33, 200, 400)) for _ in range(random.randint(2, 9))]
        caches = filled(tiny_model, lengths)
        chosen = random.sample(range(len(lengths)), random.randint(1, len(lengths)))
        chunks = [
            Chunk([random.randrange(256) for _ in range(random.choice((1, 1, 1, 5)))], lengths[place], caches[place])
            for place in chosen
        ]
        expected = torch.cat([alone(tiny_model, chunk) for chunk in chunks])
        ends = torch.tensor([len(chunk.ids) for chunk in chunks]).cumsum(0) - 1
        logits = tiny_model.forward(chunks, ends.tolist())
        torch.testing.assert_close(logits, expected, atol=2e-4, rtol=0)
        assert torch.equal(logits.argmax(-1), expected.argmax(-1))


def test_damage_in_a_neighbours_slot_harms_no_other(tiny_model: LlamaModel) -> None:
    caches = filled(tiny_model, [40, 30, 40])
    caches[1].rows.fill_(torch.nan)
    chunks = [Chunk([7], length, cache) for length, cache in zip((40, 30, 40), caches, strict=True)]
    logits = tiny_model.forward(chunks, [0, 1, 2])
    assert logits[0].isfinite().all()
    assert logits[1].isnan().any()
    assert logits[2].isfinite().all()
    without = tiny_model.forward([chunks[0], chunks[2]], [0, 1])
    assert without.isfinite().all()


def test_tokens_are_numbered_as_they_came(tiny_model: LlamaModel) -> None:
    caches = filled(tiny_model, [10, 20, 30])
    chunks = [Chunk([1, 2, 3], 30, caches[2]), Chunk([4], 20, caches[1]), Chunk([5], 10, caches[0])]
    expected = [tiny_model.forward([chunk], range(len(chunk.ids))) for chunk in chunks]
    logits = tiny_model.forward(chunks, [4, 0, 3, 2])
    picked = torch.stack([expected[2][0], expected[0][0], expected[1][0], expected[0][2]])
    torch.testing.assert_close(logits, picked, atol=2e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("block", "scores"), [(256, 1 << 24), (3, 1 << 24), (256, 1)])
@pytest.mark.parametrize("product_tokens", [1, 9])
def test_chunks_are_attended_to_in_blocks(
    tiny_model: LlamaModel,
    dtype: torch.dtype,
    block: int,
    scores: int,
    product_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "PRODUCT_TOKENS", product_tokens)
    config = replace(tiny_model.config, num_heads=6, num_kv_heads=2, head_dim=16)
    cache = SequenceCache(num_layers=1, num_kv_heads=2, head_dim=16, dtype=dtype, device=torch.device("cpu"))
    cache.reserve(30)
    generator = torch.Generator().manual_seed(1)
    cache.rows.normal_(generator=generator)
    qkv = torch.randn((8, 10, 16), generator=generator).to(dtype)
    monkeypatch.setattr(attention, "BLOCK", block)
    monkeypatch.setattr(attention, "MOST_SCORES", scores)
    out = Buffer(torch.zeros((8, 96), dtype=dtype))
    Attention([Part(cache, 20, 8)], config, None, out)(Buffer(qkv), 0)
    assert torch.equal(cache.rows[0, :, :, 20:28], qkv[:, 6:].view(8, 2, 2, 16).permute(1, 2, 0, 3))
    keys, values = cache.rows[0, :, :, :28].double().repeat_interleave(3, 1)
    unseen = torch.ones((8, 28), dtype=torch.bool).triu(21)
    logits = (qkv[:, :6].double().transpose(0, 1) @ keys.transpose(1, 2) / 4).masked_fill(unseen, -math.inf)
    expected = (logits.softmax(-1) @ values).transpose(0, 1).reshape(8, 96)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(out.tensor.double(), expected, atol=tolerance, rtol=0)
