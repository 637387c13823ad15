"""Were the log-probabilities those of the whole context? Asked of a second instance of the model, context by context.

The same context gives slightly different logits when it is computed in other chunks: in float32 by about 1e-5, in
bfloat16 by so much that faults could hide in it. So it is float32 here, and a context is computed twice, in one piece
and in short chunks: what the two differ by is noise, and what the server's differ by must be of its size. That this
would find a fault is shown by the same comparison with one token of the prompt changed, which must differ by far more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asynclm.bench.trapping import TrappedSession
from asynclm.engine.torch.model import Chunk, LlamaModel

NOISE_FACTOR = 3.0
"""A server's context may be off by this many times the noise of all checked contexts; a wrong one is off by more."""

SHORT_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Deviation:
    """Mean absolute difference of the reported log-probabilities of one session, in nats.

    Attributes:
        server: what the server said, against the context in one piece.
        noise: the context in short chunks, against it in one piece.
        changed: the context with the prompt's first token changed, against it unchanged.
    """

    server: float
    noise: float
    changed: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of comparing sessions.

    Attributes:
        right: sessions whose log-probabilities are those of their contexts.
        server, noise, changed: the largest deviation of the server, the largest noise, the smallest of a change.
    """

    right: int
    server: float
    noise: float
    changed: float


def deviation(model: LlamaModel, session: TrappedSession) -> Deviation:
    """Computes one session's context again, three times; not a number where the server said nothing."""
    if not session.samples:
        return Deviation(math.nan, 0.0, math.inf)
    context = session.context
    whole = _logprobs(model, context, session, chunk=len(context))
    short = _logprobs(model, context, session, chunk=SHORT_CHUNK)
    other = [context[0] + 1, *context[1:]]
    changed = _logprobs(model, other, session, chunk=len(context))
    said = torch.tensor([[logprob for _, logprob in sample.top] for sample in session.samples])
    return Deviation(*(float((each - whole).abs().mean()) for each in (said, short, changed)))


def judge(deviations: Sequence[Deviation]) -> Verdict:
    """Counts the sessions that are right; none is if the comparison could not tell a wrong context from a right one."""
    noise = max(d.noise for d in deviations)
    changed = min(d.changed for d in deviations)
    allowed = NOISE_FACTOR * noise
    right = sum(d.server <= allowed for d in deviations) if changed > allowed else 0
    return Verdict(right, max(d.server for d in deviations), noise, changed)


def _logprobs(model: LlamaModel, context: Sequence[int], session: TrappedSession, *, chunk: int) -> torch.Tensor:
    """Log-probabilities of the tokens that the server reported, of shape (samples, TOP)."""
    cache = model.new_cache()
    cache.reserve(len(context))
    before = [sample.place - 1 for sample in session.samples]
    rows = []
    for start in range(0, len(context), chunk):
        ids = context[start : start + chunk]
        wanted = [place - start for place in before if start <= place < start + len(ids)]
        logits = model.forward([Chunk(ids, start, cache)], wanted or [len(ids) - 1])
        rows += list(logits) if wanted else []
    said = torch.tensor([[token for token, _ in sample.top] for sample in session.samples])
    return torch.stack(rows).log_softmax(-1).gather(1, said.to(model.device)).cpu()
