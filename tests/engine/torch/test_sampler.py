"""Sampling: transformers' rules for what is kept, the right frequencies, masks as bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asynclm.engine.base import SamplingParams
from asynclm.engine.torch.sampler import Sampler, keep_likely, unpack_mask

LOGITS = torch.randn(500, generator=torch.Generator().manual_seed(4)) * 3


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=1.3, top_k=7),
        SamplingParams(temperature=1.0, top_k=1000),
        SamplingParams(temperature=1.0, top_p=0.8),
        SamplingParams(temperature=2.0, top_p=0.01),
        SamplingParams(temperature=1.0, min_p=0.05),
        SamplingParams(temperature=0.8, top_k=40, top_p=0.9, min_p=0.1),
    ],
)
def test_what_is_kept_is_what_transformers_keeps(params: SamplingParams) -> None:
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = TemperatureLogitsWarper(params.temperature)(None, LOGITS[None])
    if params.top_k:
        scores = TopKLogitsWarper(params.top_k)(None, scores)
    if params.top_p < 1:
        scores = TopPLogitsWarper(params.top_p)(None, scores)
    if params.min_p:
        scores = MinPLogitsWarper(params.min_p)(None, scores)
    assert torch.equal(keep_likely(LOGITS, params), scores[0])


def test_frequencies_are_the_probabilities() -> None:
    logits = torch.tensor([0.0, -torch.inf, 2.0, 1.0, -3.0])
    sampler = Sampler(SamplingParams(temperature=1.0, seed=9))
    drawn = np.bincount([sampler.choose(logits) for _ in range(4000)], minlength=5) / 4000
    expected = logits.softmax(-1).numpy()
    assert drawn[1] == 0
    assert np.abs(drawn - expected).max() < 4 * 0.5 / 4000**0.5  # four standard deviations of the widest


def test_the_seed_decides() -> None:
    def draw(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=1.0, seed=seed))
        return [sampler.choose(LOGITS) for _ in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(-1) == draw(2**64 - 1)


def test_greedy_takes_the_first_of_the_best() -> None:
    assert Sampler(SamplingParams()).choose(torch.tensor([1.0, 3.0, 3.0])) == 1


def test_rounding_never_picks_a_forbidden_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    one = torch.ones((), dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: one)
    logits = torch.tensor([1.0, 2.0, -torch.inf])
    assert Sampler(SamplingParams(temperature=1.0)).choose(logits) == 1


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 263])
def test_bits_are_read_as_the_seam_says(vocabulary: int) -> None:
    allowed = np.random.default_rng(vocabulary).random(vocabulary) < 0.5
    allowed[-1] = True
    words = np.zeros(-(-vocabulary // 32), dtype=np.uint32)
    for token in np.flatnonzero(allowed):
        words[token // 32] |= np.uint32(1 << int(token) % 32)
    assert unpack_mask(words, vocabulary).tolist() == allowed.tolist()


def test_bits_beyond_the_vocabulary_do_not_count() -> None:
    with pytest.raises(ValueError, match="allows no token"):
        unpack_mask(np.array([0, 1 << 5], dtype=np.uint32), 33)
