"""The seam between the loop and whatever computes tokens. Small on purpose: open, append, suspend, close, step.

One thread calls an engine; nothing here is thread-safe. An engine knows tensors and KV cache, never CML: masks reach it
as bits, scripts as forced ids, interrupts as ids to append.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType, Protocol, TypeAlias

from asynclm.cml.codec import Codec, Tokenizer
from asynclm.prompt.template import PromptTemplate

if TYPE_CHECKING:  # the client reads `SamplingParams` here, and its installation has no numpy
    import numpy as np
    import numpy.typing as npt

SequenceId = NewType("SequenceId", int)

Bits: TypeAlias = "npt.NDArray[np.uint32]"
"""A token mask: bit `i % 32` of word `i // 32` is set if token id `i` may be sampled; shape `(ceil(vocab / 32),)`."""


class EngineError(RuntimeError):
    """A fault of the engine. `sequence` is the only one affected, or None if the engine is lost."""

    def __init__(self, message: str, *, sequence: SequenceId | None = None) -> None:
        super().__init__(message)
        self.sequence = sequence


class ModelError(EngineError):
    """A model's checkpoint cannot be fetched or loaded; the message names the file and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class UnknownModelError(ValueError):
    """The model's name is not served; the message lists what is."""


class ContextLengthError(ValueError):
    """A prompt does not fit the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen from logits.

    Attributes:
        temperature: 0 for greedy, else up to 5.
        top_k: number of tokens kept; 0 for all.
        top_p: probability mass kept, in (0, 1].
        min_p: tokens below this share of the most probable one's probability are dropped, in [0, 1).
        seed: seed of this sequence's own generator; results do not depend on the rest of the batch.
        logprobs: whether to return the log-probability of each sampled token.

    Raises:
        ValueError: a field is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    logprobs: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 5.0:
            raise ValueError(f"sampling.temperature is {self.temperature}; allowed: 0 to 5")
        if self.top_k < 0:
            raise ValueError(f"sampling.top_k is {self.top_k}; allowed: 0 (all) or more")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"sampling.top_p is {self.top_p}; allowed: above 0, up to 1")
        if not 0.0 <= self.min_p < 1.0:
            raise ValueError(f"sampling.min_p is {self.min_p}; allowed: 0 to below 1")


@dataclass(frozen=True, slots=True)
class StepRequest:
    """One sequence's part in a step.

    Attributes:
        sequence: which one.
        mask: the ids that may be sampled, or None for all.
        forced: the id that replaces the sampled one (scripts), or None. The forward pass is computed all the same.
    """

    sequence: SequenceId
    mask: Bits | None = None
    forced: int | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a step gave one sequence: the sampled id and, if asked for, its log-probability."""

    sequence: SequenceId
    token_id: int
    logprob: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine says of itself, for `GetServerInfo`.

    Attributes:
        name: the engine's registered name.
        model: the name clients ask for.
        context_length: prompt and stream tokens together.
        max_sequences: sequences open at once.
        description: device, dtype and the like, for people.
    """

    name: str
    model: str
    context_length: int
    max_sequences: int
    description: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """Computes tokens for many sequences at once."""

    @property
    def info(self) -> EngineInfo:
        """What this engine serves."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer."""
        ...

    @property
    def codec(self) -> Codec:
        """The checkpoint's binding of control tokens."""
        ...

    @property
    def template(self) -> PromptTemplate:
        """The checkpoint's chat template, around placeholders."""
        ...

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams) -> SequenceId:
        """Opens a sequence; its prompt is prefilled by the next step that names it.

        Raises:
            ContextLengthError: the prompt does not fit the context.
            EngineError: no room for another sequence.
        """
        ...

    def append(self, sequence: SequenceId, ids: Sequence[int]) -> None:
        """Appends injected ids; the next step prefills them together with the last sampled token."""
        ...

    def suspend(self, sequence: SequenceId, expected_wait_ms: int | None) -> None:
        """No step is expected for about so long; the engine may move or drop the sequence's KV."""
        ...

    def resume(self, sequence: SequenceId) -> None:
        """Steps are expected again."""
        ...

    def close(self, sequence: SequenceId) -> None:
        """Frees the sequence; unknown and closed ones are ignored."""
        ...

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        """Runs one forward pass over the requested sequences and samples one token for each, in request order.

        The sampled (or forced) token becomes the last token of its sequence; its KV is written by the next step.
        A sequence whose prompt or injected ids are too long for one pass is left out of the result: the same request
        is made again until its token comes, so that no other sequence waits for the whole of a long prefill.

        Raises:
            EngineError: with `sequence` set if only that one failed; the others were not stepped and may be retried.
        """
        ...

    def shutdown(self) -> None:
        """Frees everything."""
        ...
