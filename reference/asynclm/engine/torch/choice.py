"""Chooses the tokens of one step, for all its rows of logits, and scores them [WIRE-062, WIRE-063]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from asynclm.engine.base import Bits, ScoredId
from asynclm.engine.torch.sampler import Sampler, allows


class ChoiceRequest(NamedTuple):
    """One row's part in a step.

    Attributes:
        sampler: the sequence's.
        ids: its context, prompt and stream.
        mask: the ids that may be chosen, checked (`check_mask`); None for all, or if the choice is known to be one.
        forced: the id that is taken whatever the logits are, or None.
    """

    sampler: Sampler
    ids: Sequence[int]
    mask: Bits | None = None
    forced: int | None = None


class Choice(NamedTuple):
    """The token of one row; see `Sampled`."""

    token_id: int
    logprob: float | None = None
    rank: int | None = None
    top: tuple[ScoredId, ...] = ()


def not_finite(logits: torch.Tensor) -> list[int]:
    """The rows of logits, of shape (rows, vocab), that have a value which is no finite number."""
    sums = logits.sum(-1)  # not finite if anything is not, at a tenth of the cost of looking at each
    return (~sums.isfinite()).nonzero().flatten().tolist()


def best_ids(logits: torch.Tensor) -> list[int]:
    """The id of the highest logit of each row; the first of several."""
    if logits.device.type != "cpu":
        return logits.argmax(-1).tolist()
    return [int(row.argmax()) for row in logits.numpy()]  # a tenth of the time of torch's


def choose_many(logits: torch.Tensor, best: Sequence[int], requests: Sequence[ChoiceRequest]) -> list[Choice]:
    """Chooses a token for each row. Fails for none, if the rows are finite and the masks checked.

    Only rows that draw, are penalised or may not take their best id come to main memory.

    Args:
        logits: float32 of shape (rows, vocab); left as they are.
        best: their `best_ids`.
        requests: one for each row.
    """
    ids = [_choose(row, request, first) for row, request, first in zip(logits, requests, best, strict=True)]
    for request, token_id in zip(requests, ids, strict=True):
        request.sampler.took(token_id)
    scored = [place for place, request in enumerate(requests) if request.sampler.params.logprobs]
    choices = [Choice(token_id) for token_id in ids]
    if scored:
        rows = logits if len(scored) == len(ids) else logits[scored]
        count = max(requests[place].sampler.params.top_logprobs for place in scored)
        for place, choice in zip(scored, _scores(rows, [ids[place] for place in scored], count), strict=True):
            wanted = requests[place].sampler.params.top_logprobs
            choices[place] = Choice(choice.token_id, choice.logprob, choice.rank, choice.top[:wanted])
    return choices


def _choose(row: torch.Tensor, request: ChoiceRequest, best: int) -> int:
    if request.forced is not None:
        return request.forced
    if request.sampler.plain and (request.mask is None or allows(request.mask, best)):
        return best
    return request.sampler.choose(row.cpu().numpy(), request.ids, request.mask)


def _scores(logits: torch.Tensor, ids: Sequence[int], count: int) -> list[Choice]:
    """Log-probabilities and ranks of one id for each row, and the `count` most probable of the row."""
    total = logits.logsumexp(-1, keepdim=True)
    taken = logits.gather(1, torch.tensor(ids, device=logits.device)[:, None])
    ranks = ((logits > taken).sum(-1) + 1).tolist()
    logprobs = (taken - total)[:, 0].tolist()
    values, places = logits.topk(min(count, logits.shape[-1]))
    tops = [
        tuple(map(ScoredId, row_places, row_values))
        for row_places, row_values in zip(places.tolist(), (values - total).tolist(), strict=True)
    ]
    return list(map(Choice, ids, logprobs, ranks, tops))
