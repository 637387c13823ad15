"""Chooses a token from one sequence's logits: greedy or sampled, under a mask, reproducible by its seed alone."""

from __future__ import annotations

import numpy as np
import torch

from asynclm.engine.base import Bits, SamplingParams


class Sampler:
    """One sequence's sampling settings and random generator; no other sequence touches either."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._generator = torch.Generator().manual_seed(params.seed % 2**64)

    @property
    def wants_logprobs(self) -> bool:
        """Whether the log-probability of each token was asked for."""
        return self._params.logprobs

    def choose(self, logits: torch.Tensor) -> int:
        """Chooses a token. A greedy choice uses no random number, a sampled one exactly one.

        Args:
            logits: float32 of shape (vocab,); `-inf` for forbidden tokens, at least one finite.
        """
        if self._params.temperature == 0.0:
            return int(logits.argmax())
        probabilities = keep_likely(logits, self._params).softmax(-1, dtype=torch.float64)
        drawn = torch.rand((), generator=self._generator, dtype=torch.float64)
        # The inverse of the cumulative distribution: one random number a token, whatever the vocabulary's size.
        cumulative = probabilities.cumsum(-1)
        point = (drawn.to(cumulative.device) * cumulative[-1])[None]
        index = int(torch.searchsorted(cumulative, point, right=True))
        return min(index, int(probabilities.nonzero()[-1]))  # rounding may put the point on the very end


def keep_likely(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Scaled logits with the unlikely tokens at `-inf`: temperature, then top-k, top-p and min-p, in this order.

    The order and the rules are those of transformers' logits warpers; tokens that tie with the k-th stay.
    """
    logits = logits / params.temperature
    if 0 < params.top_k < logits.shape[-1]:
        threshold = logits.topk(params.top_k).values[-1]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    if params.top_p < 1.0:
        ordered, order = logits.sort(descending=False)
        dropped = ordered.softmax(-1).cumsum(-1) <= 1.0 - params.top_p
        dropped[-1] = False
        logits = logits.masked_fill(dropped.scatter(0, order, dropped), -torch.inf)
    if params.min_p > 0.0:
        probabilities = logits.softmax(-1)
        logits = logits.masked_fill(probabilities < params.min_p * probabilities.max(), -torch.inf)
    return logits


def unpack_mask(mask: Bits, vocab_size: int) -> torch.Tensor:
    """A mask's bits as booleans of shape (vocab_size,).

    Raises:
        ValueError: the mask is not `ceil(vocab_size / 32)` words long, or allows nothing.
    """
    words = -(-vocab_size // 32)
    if mask.dtype != np.uint32 or mask.shape != (words,):
        raise ValueError(f"mask has shape {mask.shape} of {mask.dtype}; allowed: ({words},) of uint32")
    octets = mask.astype("<u4", copy=False).view(np.uint8)
    allowed = np.unpackbits(octets, count=vocab_size, bitorder="little").view(np.bool_)
    if not allowed.any():
        raise ValueError("the mask allows no token at all")
    return torch.from_numpy(allowed)
