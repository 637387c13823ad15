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


class LazyMask(Protocol):
    """A token mask that takes time to compute, and less to be asked for one id.

    An engine uses it after a step has begun and before its token is chosen, perhaps on another thread while the forward
    pass runs, and never twice at once. In one step it computes it at most once, and asks it for one id at most. What
    it raises fails its own sequence only.
    """

    def __call__(self) -> Bits:
        """Computes the mask."""
        ...

    def allows(self, token_id: int) -> bool:
        """Whether the mask allows an id, without computing the others."""
        ...


MaskSource: TypeAlias = "Bits | LazyMask | None"
"""A token mask, there already or to be computed, or None for all ids."""


class EngineError(RuntimeError):
    """A fault of the engine. `sequence` is the only one affected, or None if the engine is lost."""

    def __init__(self, message: str, *, sequence: SequenceId | None = None) -> None:
        super().__init__(message)
        self.sequence = sequence


class ModelError(EngineError):
    """A model's checkpoint cannot be fetched or loaded; the message names the file and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


MAX_TOP_LOGPROBS = 20
"""The most probable tokens that may be asked for beside each sampled one [LIM-016]."""


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
        seed: seed of this sequence's own random numbers, one for each place in its context [SES-112]; results do not
            depend on the rest of the batch.
        repetition_penalty: logits of tokens that stand in the context, prompt and injections included, are divided by
            it if positive and multiplied by it if not (Keskar et al., 2019); above 0, up to 10. Special tokens are
            exempt, else `[END]` would be punished for the blocks before [SES-113].
        presence_penalty: taken from the logits of tokens that the sequence has sampled; -2 to 2.
        frequency_penalty: taken from those once for each time; -2 to 2.
        logprobs: whether to return the log-probability and the rank of each sampled token [WIRE-062].
        top_logprobs: how many of the most probable tokens come with each sampled one; needs `logprobs`.

    Raises:
        ValueError: a field is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 5.0:
            raise ValueError(f"sampling.temperature is {self.temperature}; allowed: 0 to 5")
        if self.top_k < 0:
            raise ValueError(f"sampling.top_k is {self.top_k}; allowed: 0 (all) or more")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"sampling.top_p is {self.top_p}; allowed: above 0, up to 1")
        if not 0.0 <= self.min_p < 1.0:
            raise ValueError(f"sampling.min_p is {self.min_p}; allowed: 0 to below 1")
        if not 0.0 < self.repetition_penalty <= 10.0:
            raise ValueError(f"sampling.repetition_penalty is {self.repetition_penalty}; allowed: above 0, up to 10")
        for name in ("presence_penalty", "frequency_penalty"):
            if not -2.0 <= (value := getattr(self, name)) <= 2.0:
                raise ValueError(f"sampling.{name} is {value}; allowed: -2 to 2")
        most = MAX_TOP_LOGPROBS if self.logprobs else 0
        if not 0 <= self.top_logprobs <= most:
            allowed = f"0 to {most}" if most else f"0, or up to {MAX_TOP_LOGPROBS} with logprobs"
            raise ValueError(f"sampling.top_logprobs is {self.top_logprobs}; allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class StepRequest:
    """One sequence's part in a step.

    Attributes:
        sequence: which one.
        mask: the ids that may be sampled.
        forced: the id that replaces the sampled one (scripts), or None. The forward pass is computed all the same, and
            a mask that is given beside it is used as if the id had the highest logit, but cannot refuse it.
    """

    sequence: SequenceId
    mask: MaskSource = None
    forced: int | None = None


@dataclass(frozen=True, slots=True)
class ScoredId:
    """A token id and its log-probability under the model."""

    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a step gave one sequence.

    Attributes:
        sequence: which one.
        token_id: the sampled or forced id.
        logprob: its log-probability under the model, before penalties, mask and temperature, if asked for [WIRE-062].
        rank: its place among all ids by that, from 1; beside `logprob`.
        top: the most probable ids, in order, as many as were asked for.
    """

    sequence: SequenceId
    token_id: int
    logprob: float | None = None
    rank: int | None = None
    top: tuple[ScoredId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine says of itself, for `GetServerInfo`.

    Attributes:
        name: the engine's registered name.
        model: the name clients ask for.
        context_length: prompt and stream tokens together.
        max_sequences: sequences open at once.
        adapters: names of the adapters that sequences may be opened with; clients ask for `model+adapter`.
        description: device, dtype and the like, for people.
    """

    name: str
    model: str
    context_length: int
    max_sequences: int
    adapters: tuple[str, ...] = ()
    description: dict[str, str] = field(default_factory=dict)


def model_names(info: EngineInfo) -> dict[str, str | None]:
    """The names that clients may ask for, the first being the default, and the adapter that each stands for."""
    return {info.model: None, **{f"{info.model}+{adapter}": adapter for adapter in info.adapters}}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine has done and holds, for metrics. Counters count from its start and never fall.

    Attributes:
        steps: forward passes.
        step_seconds: time spent in them, in all.
        batched_sequences: sequences in those passes, summed; divided by `steps` the mean batch size.
        sampled_tokens: tokens sampled or forced.
        prefilled_tokens: tokens of prompts and injections computed.
        injected_tokens: tokens appended.
        recomputed_tokens: tokens computed again after their KV was dropped.
        prefix_hit_tokens: prompt tokens whose KV was found in a cache.
        preemptions: sequences that lost their KV for want of memory while they could have gone on.
        kept: suspensions through which the KV stayed where it was.
        swapped: suspensions through which it was moved.
        dropped: suspensions through which it was dropped, to be recomputed.
        open_sequences: sequences open now.
        waiting_sequences: of those, the ones asked for in the last step that got no token.
        suspended_sequences: of those, the ones suspended.
        last_batch: sequences in the last pass.
        kv_bytes: KV cache held on the device now, prefixes included.
        kv_limit_bytes: the most there may be; 0 for no limit.
        swapped_bytes: KV cache held elsewhere now.
    """

    steps: int = 0
    step_seconds: float = 0.0
    batched_sequences: int = 0
    sampled_tokens: int = 0
    prefilled_tokens: int = 0
    injected_tokens: int = 0
    recomputed_tokens: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    kept: int = 0
    swapped: int = 0
    dropped: int = 0
    open_sequences: int = 0
    waiting_sequences: int = 0
    suspended_sequences: int = 0
    last_batch: int = 0
    kv_bytes: int = 0
    kv_limit_bytes: int = 0
    swapped_bytes: int = 0


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

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams, *, adapter: str | None = None) -> SequenceId:
        """Opens a sequence; its prompt is prefilled by the next step that names it.

        Args:
            prompt_ids: the prompt, at least one id.
            sampling: how its tokens are chosen.
            adapter: one of `EngineInfo.adapters`, or None for the model as it is.

        Raises:
            ContextLengthError: the prompt does not fit the context.
            EngineError: no room for another sequence.
            UnknownModelError: there is no such adapter.
        """
        ...

    def cached_tokens(self, sequence: SequenceId) -> int:
        """How many tokens of the sequence's prompt were found in a cache; known once its first token is there."""
        ...

    def stats(self) -> EngineStats:
        """What the engine has done and holds; may be called from any thread."""
        ...

    def append(self, sequence: SequenceId, ids: Sequence[int]) -> None:
        """Appends injected ids; the next step prefills them together with the last sampled token."""
        ...

    def give_way(self) -> None:
        """Something has arrived that the running step should have held; may be called from any thread, at any time.

        The engine may give up a step that has only just begun: it returns no token then, and changes nothing. It never
        does so twice in a row.
        """
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
        A sequence whose prompt or injected ids are too long for one pass is left out of the result: its request is made
        again until its token comes, so that no other sequence waits for the whole of a long prefill.

        Raises:
            EngineError: with `sequence` set if only that one failed; the others were not stepped and may be retried.
        """
        ...

    def shutdown(self) -> None:
        """Frees everything."""
        ...
