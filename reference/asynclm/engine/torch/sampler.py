"""Chooses a token from one sequence's logits [SES-110]: penalties, mask, temperature, top-k, top-p, min-p, one draw.

Works on rows of logits in main memory, and never changes them. What would need the whole vocabulary in order is done
with counts: only the tokens about a threshold are ever sorted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from asynclm.engine.base import Bits, SamplingParams
from asynclm.engine.torch.penalties import Penalties

Row: TypeAlias = npt.NDArray[np.float32]
Weights: TypeAlias = npt.NDArray[np.floating]
Places: TypeAlias = npt.NDArray[np.intp]

FEW = 2048
"""So many tokens or fewer are gathered, and sorted, at no cost that counts."""

LEVELS = 2048
LEVELS_PER_NAT = 64.0
"""How finely `_within_mass` tells probabilities apart before it sorts: 2048 levels, each 1/64 of a nat."""

_LEAST_FLOAT32_TEMPERATURE = 1e-3
_WORD = 1 << 64
_MASK_WORD = np.dtype(np.uint32)


class MaskError(ValueError):
    """A mask has a wrong shape, or allows nothing."""


class Sampler:
    """One sequence's sampling settings, and what its penalties count.

    Args:
        params: the settings.
        special_ids: what penalties spare [SES-113].

    Attributes:
        params: the settings.
        plain: whether the token is the one of the highest logit, the mask apart.
    """

    def __init__(self, params: SamplingParams, special_ids: Collection[int] = ()) -> None:
        self.params = params
        self._penalties = Penalties.wanted(params, special_ids)
        self.plain = params.temperature == 0.0 and self._penalties is None

    def choose(self, logits: Row, ids: Sequence[int], mask: Bits | None) -> int:
        """Chooses a token. The same arguments give the same token, however often it is asked.

        Args:
            logits: finite, of shape (vocab,); left as they are.
            ids: the context, prompt and stream.
            mask: the ids that may be chosen; it allows at least one.
        """
        if self.plain:
            best = int(logits.argmax())
            if mask is None or allows(mask, best):
                return best
        scores = logits if self._penalties is None else self._penalties.apply(logits, ids)
        scores, chosen_from = _allowed(scores, mask)
        if self.params.temperature == 0.0:
            place = int(scores.argmax())
        else:
            place = _draw(scores, self.params, uniform(self.params.seed, len(ids)))
        return place if chosen_from is None else int(chosen_from[place])

    def took(self, token_id: int) -> None:
        """The sequence goes on with this token, chosen or forced."""
        if self._penalties is not None:
            self._penalties.took(token_id)


def uniform(seed: int, place: int) -> float:
    """The random number of a place in a context, in [0, 1): what seed and place alone decide [SES-112].

    Output `place` of the generator SplitMix64 (Steele, Lea and Flood, 2014), whose state is a hash of the seed.
    """
    return (_mix(_mix(seed % _WORD) + place * 0x9E3779B97F4A7C15) >> 11) * 2.0**-53


def _mix(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) % _WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % _WORD
    return word ^ (word >> 31)


# --- masks -------------------------------------------------------------------------------------------------------


def check_mask(mask: Bits, vocab_size: int) -> None:
    """Checks a mask's shape, and that it allows something.

    Raises:
        MaskError: it is not `ceil(vocab_size / 32)` words long, or allows nothing.
    """
    words = -(-vocab_size // 32)
    if mask.dtype != _MASK_WORD or mask.shape != (words,):
        raise MaskError(f"mask has shape {mask.shape} of {mask.dtype}; allowed: ({words},) of uint32")
    place = int(mask.argmax())  # far cheaper than `any`, which is Python where the processor's caches are cold
    if place < words - 1 and mask[place]:
        return
    last = int(mask[-1]) & ((1 << ((vocab_size - 1) % 32 + 1)) - 1)
    if not last and not mask[:-1].any():
        raise MaskError("the mask allows no token at all")


def allows(mask: Bits, token_id: int) -> bool:
    """Whether a mask allows a token."""
    return bool(int(mask[token_id // 32]) >> token_id % 32 & 1)


def unpack_mask(mask: Bits, vocab_size: int) -> npt.NDArray[np.bool_]:
    """A mask's bits as booleans of shape (vocab_size,)."""
    octets = mask.astype("<u4", copy=False).view(np.uint8)
    return np.unpackbits(octets, count=vocab_size, bitorder="little").view(np.bool_)


def _allowed(scores: Row, mask: Bits | None) -> tuple[Row, Places | None]:
    """What a mask leaves: all scores with `-inf` where it forbids, or the few that it allows and their ids."""
    if mask is None:
        return scores, None
    allowed = unpack_mask(mask, len(scores))
    if np.count_nonzero(allowed) <= FEW:
        ids = np.flatnonzero(allowed)
        return scores[ids], ids
    return np.where(allowed, scores, np.float32(-np.inf)), None


# --- what is likely ----------------------------------------------------------------------------------------------


def weigh(scores: Row, params: SamplingParams) -> tuple[Weights, Places | None]:
    """The weights, in proportion to probabilities, of the tokens that temperature, top-k, top-p and min-p leave.

    The rules are those of transformers' logits warpers: tokens that tie with the k-th stay.

    Args:
        scores: logits, `-inf` for what is forbidden; at least one is finite.
        params: a temperature above 0, and the rest.

    Returns:
        Weights, the greatest 1 and those of dropped tokens 0 or left out; and the ascending places that they belong to,
        None for all.
    """
    places: Places | None = None
    if 0 < params.top_k < len(scores):
        places = _top(scores, params.top_k)
        scores = scores[places]
    weights = _relative(scores, params.temperature)
    if params.top_p < 1.0:
        likely = _within_mass(weights, params.top_p)
        weights, places = weights[likely], likely if places is None else places[likely]
    if params.min_p > 0.0:
        weights[weights < params.min_p] = 0.0
    return weights, places


def _top(scores: Row, count: int) -> Places:
    values, places = torch.from_numpy(scores).topk(count, sorted=False)
    least = float(values.min())
    if np.count_nonzero(scores >= least) > count:
        return np.flatnonzero(scores >= least)
    return np.sort(places.numpy())


def _relative(scores: Row, temperature: float) -> Weights:
    """exp((score - the highest) / temperature)."""
    small = temperature < _LEAST_FLOAT32_TEMPERATURE
    below: Weights = scores.astype(np.float64) if small else scores.copy()
    below -= below.max()
    with np.errstate(over="ignore", under="ignore"):
        below /= temperature
        return np.exp(below, out=below)


def _within_mass(weights: Weights, share: float) -> Places:
    """The most probable tokens that together have this share of the mass: top-p.

    A token stays if those more probable than it have less than the share. What is so improbable that all of its kind
    together make up no more than the rest is dropped unseen; where many are left, all but those of the level in which
    the share is reached are told apart by level alone.
    """
    total = float(weights.sum(dtype=np.float64))
    limit = share * total
    places = np.flatnonzero(weights >= (1.0 - share) * total / len(weights))
    weights = weights[places]
    kept, edge, above = np.ones(len(places), np.bool_), np.arange(len(places)), 0.0
    if len(places) > FEW:
        levels = np.minimum(np.log(weights) * -LEVELS_PER_NAT, LEVELS - 1).astype(np.intp)
        mass = np.bincount(levels, weights, LEVELS).cumsum()
        level = int(np.searchsorted(mass, limit))
        kept, edge = levels <= level, np.flatnonzero(levels == level)
        above = float(mass[level - 1]) if level else 0.0
    order = edge[np.argsort(-weights[edge], kind="stable")]
    reached = above + weights[order].cumsum(dtype=np.float64)
    kept[order[1 + int(np.searchsorted(reached, limit)) :]] = False
    return places[kept]


def _draw(scores: Row, params: SamplingParams, point: float) -> int:
    """The place at which the cumulative distribution, in the order of places, reaches `point`, in [0, 1).

    In this order rounding moves the distribution little; in the order of probabilities near ties would change places.
    """
    weights, places = weigh(scores, params)
    reached = torch.from_numpy(weights).cumsum(0, dtype=torch.float64).numpy()
    # Rounding may put the point on the very end, where a token of no weight stands.
    last = np.searchsorted(reached, reached[-1])
    place = min(int(np.searchsorted(reached, point * reached[-1], side="right")), int(last))
    return place if places is None else int(places[place])
