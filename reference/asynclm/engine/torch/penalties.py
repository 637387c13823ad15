"""Penalties on tokens that were there already: repetition, presence, frequency [SES-113, SES-114].

Special tokens are spared. A penalty on `[END]` or on end of sequence would grow with every block and every turn of the
prompt, until the model could close none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from asynclm.engine.base import SamplingParams


class Penalties:
    """Counts what one sequence's penalties look at.

    Args:
        params: the settings.
        special_ids: the ids that are spared.
    """

    def __init__(self, params: SamplingParams, special_ids: Collection[int]) -> None:
        self._repetition = params.repetition_penalty
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        self._special = special_ids
        self._read = 0
        self._in_context: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._sampled: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self._waiting: list[int] = []

    @classmethod
    def wanted(cls, params: SamplingParams, special_ids: Collection[int]) -> Penalties | None:
        """The penalties that were asked for, or None."""
        none = (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) == (1.0, 0.0, 0.0)
        return None if none else cls(params, special_ids)

    def took(self, token_id: int) -> None:
        """The sequence has sampled this token."""
        self._waiting.append(token_id)

    def apply(self, logits: npt.NDArray[np.float32], ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """A penalised copy of the logits.

        Args:
            logits: of shape (vocab,).
            ids: the context, which only ever grows.
        """
        self._catch_up(ids, len(logits))
        penalised = logits.copy()
        if self._repetition != 1.0:
            places = np.flatnonzero(self._in_context)
            there = penalised[places]
            penalised[places] = np.where(there > 0.0, there / self._repetition, there * self._repetition)
        if self._presence or self._frequency:
            penalised -= self._sampled * self._frequency + (self._sampled > 0.0) * np.float32(self._presence)
        return penalised

    def _catch_up(self, ids: Sequence[int], vocab_size: int) -> None:
        if len(self._in_context) != vocab_size:
            self._in_context = np.zeros(vocab_size, np.bool_)
            self._sampled = np.zeros(vocab_size, np.float32)
        new = [token for token in ids[self._read :] if token not in self._special]
        self._in_context[new] = True
        self._read = len(ids)
        for token in self._waiting:
            if token not in self._special:
                self._sampled[token] += 1.0
        self._waiting.clear()
