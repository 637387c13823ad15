"""Log-probabilities of sampled tokens: as many as were asked for, in order [WIRE-062, WIRE-063]."""

from __future__ import annotations

from collections.abc import Callable

from asynclm.v1 import session_pb2, types_pb2

ROUNDING = 1e-6
"""How far above 0 a log-probability may come out."""


def scores(body: session_pb2.Tokens, asked: types_pb2.Sampling, require: Callable[[object, str, str], None]) -> None:
    """Holds the log-probabilities of one event against what `Start` asked for."""
    scored = len(body.ids) if asked.logprobs else 0
    require(len(body.logprobs) == scored, "WIRE-062", f"{len(body.logprobs)} logprobs for {len(body.ids)} ids")
    require(len(body.ranks) == scored, "WIRE-062", f"{len(body.ranks)} ranks for {len(body.ids)} ids")
    tops = scored if asked.top_logprobs else 0
    require(len(body.top_logprobs) == tops, "WIRE-063", f"{len(body.top_logprobs)} top_logprobs, not {tops}")
    right = all(p <= ROUNDING for p in body.logprobs) and all(body.ranks)
    require(right, "WIRE-062", "no probability, or no rank")
    for token_id, rank, top in zip(body.ids, body.ranks, body.top_logprobs, strict=False):
        given = [token.logprob for token in top.tokens]
        require(given == sorted(given, reverse=True), "WIRE-063", f"not in descending order: {given}")
        require(0 < len(given) <= asked.top_logprobs, "WIRE-063", f"{len(given)} of {asked.top_logprobs}")
        listed = token_id in [token.id for token in top.tokens]
        require(listed or rank > 1, "WIRE-063", f"{token_id} has rank {rank} and is not among the most probable")
