"""LoRA adapters beside the base weights, applied to the rows of a batch that ask for them.

Sequences with different adapters, and with none, decode in one batch: the base products run over all rows, and each
adapter adds its low-rank change to its own. Adapters stay apart from the weights, since merging them into bfloat16
weights rounds the change away. Checked against `peft` by tests/engine/torch/test_lora.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

from asynclm.engine.torch.linear import Linear


@dataclass(frozen=True, slots=True)
class LowRank:
    """A change of a product by `up(down(x))`, the scale included."""

    down: Linear
    up: Linear

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the product of `x`: shape (rows, outputs)."""
        return self.up(self.down(x))


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows of a matrix over the vocabulary that an adapter has of its own.

    Attributes:
        places: the place in `rows` of each token id.
        ids: the same ids, int64 of shape (tokens,).
        rows: shape (tokens, hidden).
    """

    places: Mapping[int, int]
    ids: torch.Tensor
    rows: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter, ready to be applied.

    Attributes:
        name: what clients ask for, after the model's name and a plus sign.
        products: changes of products, by layer and product (`qkv`, `output`, `gate_up`, `down`).
        embedding: an embedding in place of the model's, or None.
        embedding_rows: rows in place of some of the embedding's, or None.
        head: a product over the vocabulary in place of the model's, or None.
        head_rows: rows in place of some of the head's, or None.
    """

    name: str
    products: Mapping[tuple[int, str], LowRank] = field(default_factory=dict)
    embedding: torch.Tensor | None = None
    embedding_rows: TokenRows | None = None
    head: Linear | None = None
    head_rows: TokenRows | None = None


class AdaptedBatch:
    """Which rows of a batch belong to which adapter, and the changes made to them.

    A row's result does not depend on the rows of other adapters, nor on how many there are.
    """

    def __init__(
        self, groups: Mapping[int, tuple[Adapter, list[int]]], ids: Sequence[int], device: torch.device
    ) -> None:
        self._ids = ids
        self._device = device
        self._numbers = [(adapter, rows) for adapter, rows in groups.values()]
        self._groups = [(adapter, self._index(rows, len(ids))) for adapter, rows in self._numbers]

    @classmethod
    def of(cls, spans: Iterable[tuple[Adapter | None, Sequence[int]]], device: torch.device) -> Self | None:
        """Sorts a batch's rows by adapter.

        Args:
            spans: for each sequence's part of the batch, in the order of its rows, its adapter and its token ids.
            device: where the batch is computed.

        Returns:
            None if no row has an adapter.
        """
        groups: dict[int, tuple[Adapter, list[int]]] = {}
        ids: list[int] = []
        for adapter, part in spans:
            if adapter is not None:
                groups.setdefault(id(adapter), (adapter, []))[1].extend(range(len(ids), len(ids) + len(part)))
            ids.extend(part)
        return cls(groups, ids, device) if groups else None

    def embed(self, x: torch.Tensor) -> None:
        """Puts the adapters' own embeddings in place; `x` has shape (rows, hidden)."""
        for (adapter, numbers), (_, rows) in zip(self._numbers, self._groups, strict=True):
            if adapter.embedding is not None:
                x[rows] = F.embedding(self._tensor([self._ids[n] for n in numbers]), adapter.embedding)
            if (own := adapter.embedding_rows) is not None:
                changed = [n for n in numbers if self._ids[n] in own.places]
                if changed:
                    x[self._tensor(changed)] = own.rows[self._tensor([own.places[self._ids[n]] for n in changed])]

    def add(self, layer: int, product: str, x: torch.Tensor, y: torch.Tensor) -> None:
        """Adds the adapters' changes to a product, in place.

        Args:
            layer: number of the layer.
            product: `qkv`, `output`, `gate_up` or `down`.
            x: what went into it, shape (rows, inputs).
            y: what came out, with or without a residual, shape (rows, outputs).
        """
        for adapter, rows in self._groups:
            change = adapter.products.get((layer, product))
            if change is not None:
                y[rows] += change(x[rows])

    def score(self, wanted: Sequence[int], x: torch.Tensor, logits: torch.Tensor) -> None:
        """Puts the adapters' own logits in place.

        Args:
            wanted: the numbers of the rows that logits were computed of.
            x: the last hidden states of those, normed, shape (len(wanted), hidden).
            logits: shape (len(wanted), vocab).
        """
        for adapter, numbers in self._numbers:
            if adapter.head is None and adapter.head_rows is None:
                continue
            members = set(numbers)
            places = [place for place, number in enumerate(wanted) if number in members]
            if not places:
                continue
            rows = self._index(places, len(wanted))
            if adapter.head is not None:
                logits[rows] = adapter.head(x[rows]).to(logits.dtype)
            if (own := adapter.head_rows) is not None:
                columns = F.linear(x[rows], own.rows).to(logits.dtype)
                logits[rows] = logits[rows].index_copy(1, own.ids, columns)

    def _index(self, rows: list[int], total: int) -> slice | torch.Tensor:
        """Rows as a slice where they are neighbours, which spares copies."""
        if rows[-1] - rows[0] + 1 == len(rows):
            return slice(rows[0], rows[-1] + 1) if len(rows) < total else slice(None)
        return self._tensor(rows)

    def _tensor(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)
