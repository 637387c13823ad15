"""The torch engine: many sequences, each with its own KV cache, decoded in one batch.

A step takes the sequences that the scheduler chooses one token further, except that long prompts and injections are
prefilled in chunks beside the others' decode steps, so that nobody waits for more than one chunk.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from asynclm.cml.codec import Codec, Tokenizer
from asynclm.engine.base import (
    ContextLengthError,
    EngineError,
    EngineInfo,
    EngineStats,
    Sampled,
    SamplingParams,
    SequenceId,
    StepRequest,
    UnknownModelError,
)
from asynclm.engine.torch.model import Chunk, LlamaModel
from asynclm.engine.torch.sampler import Sampler, unpack_mask
from asynclm.engine.torch.scheduler import Candidate, Plan, Scheduler, StepLimits
from asynclm.engine.torch.sequence import SequenceState
from asynclm.prompt.template import PromptTemplate


class TorchEngine:
    """Implements `asynclm.engine.base.Engine`.

    Attributes:
        on_logits: called with each sequence's logits, float32 of shape (vocab,), just before its token is chosen; for
            equivalence checks and benchmarks.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        info: EngineInfo,
        tokenizer: Tokenizer,
        codec: Codec,
        template: PromptTemplate,
        limits: StepLimits | None = None,
    ) -> None:
        """Wraps a loaded model.

        Args:
            model: the weights.
            info: what is served; its `max_sequences` and `context_length` are held to.
            tokenizer: the checkpoint's.
            codec: its binding of control tokens.
            template: its chat template.
            limits: how much goes into one step.

        Raises:
            ValueError: the tokenizer has ids that the model has no rows for.
        """
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} ids, the model's embedding {model.config.vocab_size} rows; "
                "they do not belong together"
            )
        self._model = model
        self._info = info
        self._tokenizer = tokenizer
        self._codec = codec
        self._template = template
        self._scheduler = Scheduler(limits or StepLimits())
        self._sequences: dict[SequenceId, SequenceState] = {}
        self._numbers = itertools.count()
        self.on_logits: Callable[[SequenceId, torch.Tensor], None] | None = None

    @property
    def info(self) -> EngineInfo:
        """What this engine serves."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer."""
        return self._tokenizer

    @property
    def codec(self) -> Codec:
        """The checkpoint's binding of control tokens."""
        return self._codec

    @property
    def template(self) -> PromptTemplate:
        """The checkpoint's chat template."""
        return self._template

    @property
    def cache_bytes(self) -> int:
        """Bytes of KV cache held by open sequences."""
        return sum(sequence.cache.nbytes for sequence in self._sequences.values())

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams, *, adapter: str | None = None) -> SequenceId:
        """Opens a sequence; see `Engine.open`.

        Raises:
            ContextLengthError: the prompt leaves no room for an answer.
            EngineError: no room for another sequence.
            UnknownModelError: there is no such adapter.
            ValueError: the prompt is empty or has an id outside the vocabulary.
        """
        if adapter is not None and adapter not in self._model.adapters:
            known = ", ".join(self._model.adapters) or "none"
            raise UnknownModelError(f"adapter {adapter[:80]!r}: there is none of this name; there are: {known}")
        if not prompt_ids:
            raise ValueError("prompt: it has no tokens; at least one is needed")
        self._check_ids("prompt", prompt_ids)
        if len(prompt_ids) >= self._info.context_length:
            raise ContextLengthError(
                f"prompt: {len(prompt_ids)} tokens; the context holds {self._info.context_length}, prompt and answer "
                "together"
            )
        if len(self._sequences) >= self._info.max_sequences:
            raise EngineError(f"no room: {self._info.max_sequences} sequences are open, the most there may be")
        number = SequenceId(next(self._numbers))
        self._sequences[number] = SequenceState(
            number,
            prompt_ids,
            cache=self._model.new_cache(),
            sampler=Sampler(sampling),
            adapter=adapter,
            served=self._scheduler.now,
        )
        return number

    def append(self, sequence: SequenceId, ids: Sequence[int]) -> None:
        """Appends injected ids; see `Engine.append`.

        Raises:
            EngineError: the sequence is not open, or the ids do not fit the context.
            ValueError: an id is outside the vocabulary.
        """
        state = self._find(sequence)
        self._check_ids("append", ids)
        if len(state.ids) + len(ids) > self._info.context_length:
            raise EngineError(
                f"{len(ids)} injected tokens after {len(state.ids)} do not fit the context of "
                f"{self._info.context_length} tokens",
                sequence=sequence,
            )
        state.ids.extend(ids)

    def cached_tokens(self, sequence: SequenceId) -> int:
        """How many tokens of the sequence's prompt were found in a cache."""
        self._find(sequence)
        return 0

    def stats(self) -> EngineStats:
        """What the engine has done and holds."""
        return EngineStats(open_sequences=len(self._sequences), kv_bytes=self.cache_bytes)

    def suspend(self, sequence: SequenceId, expected_wait_ms: int | None) -> None:
        """A hint, not acted on yet: the KV cache stays where it is."""
        self._find(sequence)

    def resume(self, sequence: SequenceId) -> None:
        """Ends `suspend`."""
        self._find(sequence)

    def close(self, sequence: SequenceId) -> None:
        """Frees the sequence; unknown and closed ones are ignored."""
        self._sequences.pop(sequence, None)

    def shutdown(self) -> None:
        """Frees every sequence."""
        self._sequences.clear()

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        """Runs one forward pass; see `Engine.step`.

        Nothing of any sequence has changed when this raises, so the others can be stepped again.
        """
        sequences = {request.sequence: self._checked(request) for request in requests}
        if len(sequences) < len(requests):
            raise ValueError("a step asks for one sequence twice")
        plan = self._scheduler.plan([Candidate(s.number, s.pending, s.served) for s in sequences.values()])
        if not plan.tokens:
            return []
        chunks = [self._chunk(sequences[number], length) for number, length in plan.tokens.items()]
        ready = [
            request for request in requests if plan.tokens.get(request.sequence) == sequences[request.sequence].pending
        ]
        logits = self._forward(plan, chunks, ready)
        allowed = [self._allowed(request, row) for request, row in zip(ready, logits, strict=True)]
        # From here on nothing fails.
        self._scheduler.done(plan)
        for number, length in plan.tokens.items():
            sequences[number].computed += length
        return [
            self._choose(sequences[request.sequence], request, row, mask)
            for request, row, mask in zip(ready, logits, allowed, strict=True)
        ]

    def _chunk(self, sequence: SequenceState, length: int) -> Chunk:
        """The next tokens of a sequence, with room for them in its cache."""
        end = sequence.computed + length
        try:
            sequence.cache.reserve(end)
        except MemoryError as error:
            raise EngineError(str(error), sequence=sequence.number) from error
        adapter = self._model.adapters[sequence.adapter] if sequence.adapter is not None else None
        return Chunk(sequence.ids[sequence.computed : end], sequence.computed, sequence.cache, adapter)

    def _forward(self, plan: Plan, chunks: Sequence[Chunk], ready: Sequence[StepRequest]) -> torch.Tensor:
        """Logits of shape (len(ready), vocab) after each ready sequence's last token."""
        ends = dict(zip(plan.tokens, itertools.accumulate(plan.tokens.values()), strict=True))
        try:
            logits = self._model.forward(chunks, [ends[request.sequence] - 1 for request in ready])
        except (RuntimeError, MemoryError) as error:
            raise EngineError(f"the forward pass failed: {error!s:.300}") from error
        return logits[:, : self._tokenizer.vocab_size]

    def _allowed(self, request: StepRequest, logits: torch.Tensor) -> torch.Tensor | None:
        """Checks one sequence's logits and mask; gives the mask as booleans."""
        if not bool(logits.isfinite().all()):
            raise EngineError(
                "the logits are not finite; its KV cache or the weights are damaged", sequence=request.sequence
            )
        if request.mask is None:
            return None
        try:
            mask = request.mask() if callable(request.mask) else request.mask
            return unpack_mask(mask, len(logits)).to(logits.device)
        except Exception as error:  # a mask is computed by the session's own constraint: its fault is the session's
            raise EngineError(f"no mask: {error!s:.300}", sequence=request.sequence) from error

    def _choose(
        self, sequence: SequenceState, request: StepRequest, logits: torch.Tensor, allowed: torch.Tensor | None
    ) -> Sampled:
        if self.on_logits is not None:
            self.on_logits(request.sequence, logits)
        if request.forced is not None:
            token = request.forced
        else:
            token = sequence.sampler.choose(logits if allowed is None else logits.masked_fill(~allowed, -torch.inf))
        logprob = float(logits.log_softmax(-1)[token]) if sequence.sampler.wants_logprobs else None
        sequence.ids.append(token)
        sequence.served = self._scheduler.now
        return Sampled(request.sequence, token, logprob)

    def _checked(self, request: StepRequest) -> SequenceState:
        sequence = self._find(request.sequence)
        if len(sequence.ids) >= self._info.context_length:
            raise EngineError(f"the context of {self._info.context_length} tokens is full", sequence=request.sequence)
        if request.forced is not None and not 0 <= request.forced < self._tokenizer.vocab_size:
            raise EngineError(
                f"forced id is {request.forced}; allowed: 0 to {self._tokenizer.vocab_size - 1}",
                sequence=request.sequence,
            )
        return sequence

    def _find(self, sequence: SequenceId) -> SequenceState:
        try:
            return self._sequences[sequence]
        except KeyError:
            raise EngineError(f"sequence {sequence} is not open", sequence=sequence) from None

    def _check_ids(self, where: str, ids: Sequence[int]) -> None:
        size = self._tokenizer.vocab_size
        for place, token in enumerate(ids):
            if not 0 <= token < size:
                raise ValueError(f"{where}: id {place} is {token}; allowed: 0 to {size - 1}")
