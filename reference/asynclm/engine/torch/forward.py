"""One forward pass over a batch; finds out whose fault it is if it fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch

from asynclm.engine.base import EngineError, SequenceId
from asynclm.engine.torch.model import Chunk, LlamaModel


def forward(
    model: LlamaModel,
    chunks: Mapping[SequenceId, Chunk],
    ready: Sequence[SequenceId],
    before_layer: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Computes a batch, writing its keys and values.

    If the batch fails, each chunk is computed by itself, which writes the same rows once more: a batch that is too
    large for the device's memory is got through in parts, and a sequence that fails alone is told from the others.

    Args:
        model: the weights.
        chunks: what to compute, by sequence.
        ready: the sequences whose logits are wanted.
        before_layer: called with each layer's number before it; what it raises ends the pass, and is raised.

    Returns:
        Logits after the last token of each ready sequence, float32 of shape (len(ready), vocab).

    Raises:
        EngineError: with `sequence` set if only that one failed.
    """
    ends = dict(zip(chunks, itertools.accumulate(len(chunk.ids) for chunk in chunks.values()), strict=True))
    try:
        return model.forward(list(chunks.values()), [ends[number] - 1 for number in ready], before_layer)
    except (RuntimeError, MemoryError) as error:
        fault: Exception = error
    if len(chunks) == 1:
        raise _blame(fault, next(iter(chunks)) if _is_memory(fault) else None) from fault
    return _one_by_one(model, chunks, ready)


def _one_by_one(model: LlamaModel, chunks: Mapping[SequenceId, Chunk], ready: Sequence[SequenceId]) -> torch.Tensor:
    rows: dict[SequenceId, torch.Tensor] = {}
    faults: dict[SequenceId, Exception] = {}
    for number, chunk in chunks.items():
        try:
            rows[number] = model.forward([chunk], [len(chunk.ids) - 1])
        except (RuntimeError, MemoryError) as error:
            faults[number] = error
    if faults:
        number, fault = next(iter(faults.items()))
        raise _blame(fault, None if len(faults) == len(chunks) else number) from fault
    return torch.cat([rows[number] for number in ready]) if ready else next(iter(rows.values()))[:0]


def _blame(fault: Exception, sequence: SequenceId | None) -> EngineError:
    return EngineError(f"the forward pass failed: {fault!s:.300}", sequence=sequence)


def _is_memory(fault: Exception) -> bool:
    """Whether the device had no room; on CPU torch says so in words alone."""
    return isinstance(fault, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(fault)
