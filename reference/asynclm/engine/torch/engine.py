"""The torch engine: many sequences, each with its own KV cache, decoded in one batch.

A step takes the sequences that the scheduler chooses one token further, except that long prompts and injections are
prefilled in chunks beside the others' decode steps, so that nobody waits for more than one chunk.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import torch

from asynclm.cml.codec import Codec, Tokenizer
from asynclm.engine.base import (
    Bits,
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
from asynclm.engine.torch.choice import ChoiceRequest, best_ids, choose_many, not_finite
from asynclm.engine.torch.counters import Counters, Snapshot
from asynclm.engine.torch.forward import forward
from asynclm.engine.torch.giving_way import GaveWayError, GivingWay
from asynclm.engine.torch.kv_memory import KvMemory
from asynclm.engine.torch.kv_policy import KvPolicy
from asynclm.engine.torch.masks import MaskMaker
from asynclm.engine.torch.model import Chunk, LlamaModel
from asynclm.engine.torch.sampler import Sampler
from asynclm.engine.torch.scheduler import Scheduler, StepLimits
from asynclm.engine.torch.sequence import SequenceState
from asynclm.engine.torch.swap import SwapStore
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
        kv_memory: int = 0,
        prefix_memory: int = 0,
        policy: KvPolicy | None = None,
        swap: SwapStore | None = None,
    ) -> None:
        """Wraps a loaded model.

        Args:
            model: the weights.
            info: what is served; its `max_sequences` and `context_length` are held to.
            tokenizer: the checkpoint's.
            codec: its binding of control tokens.
            template: its chat template.
            limits: how much goes into one step.
            kv_memory: the most bytes of KV cache on the device; 0 for no limit.
            prefix_memory: bytes of it that the beginnings of prompts may take, kept for later ones; 0 for none.
            policy: what happens to suspended sequences' KV caches; None to keep them while there is room.
            swap: where they are swapped to; None to drop them instead. The engine closes it.

        Raises:
            ValueError: a limit is negative, or the tokenizer has ids that the model has no rows for.
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
        self._counters = Counters()
        self._masks = MaskMaker(tokenizer.vocab_size)
        self._giving_way = GivingWay(model.config.num_layers)
        self._memory = KvMemory(
            self._counters,
            limit=kv_memory,
            prefix_limit=prefix_memory,
            longest=info.context_length,
            policy=policy,
            swap=swap,
        )
        self._sequences: dict[SequenceId, SequenceState] = {}
        self._numbers = itertools.count()
        self._snapshot = Snapshot(self._counters, kv_limit_bytes=kv_memory)
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

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams, *, adapter: str | None = None) -> SequenceId:
        """Opens a sequence; see `Engine.open`.

        Raises:
            ContextLengthError: the prompt leaves no room for an answer, in the context or in memory.
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
        sequence = SequenceState(
            SequenceId(next(self._numbers)),
            prompt_ids,
            cache=self._model.new_cache(),
            sampler=Sampler(sampling, self._tokenizer.special_ids),
            adapter=adapter,
            place=self._scheduler.draw(),
            ticket=self._memory.draw_ticket(),
        )
        if not self._memory.fits(sequence):
            raise ContextLengthError(
                f"prompt: {len(prompt_ids)} tokens; there is no memory for the KV cache of so many"
            )
        self._sequences[sequence.number] = sequence
        self._publish()
        return sequence.number

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
        self._counters.injected_tokens += len(ids)

    def cached_tokens(self, sequence: SequenceId) -> int:
        """How many tokens of the sequence's prompt were found in a cache."""
        return self._find(sequence).hits

    def stats(self) -> EngineStats:
        """What the engine has done and holds, as of the end of the last call; may be called from any thread."""
        return self._snapshot.stats()

    def give_way(self) -> None:
        """Gives up the running step if it has only just begun; see `Engine.give_way`."""
        self._giving_way.ask()

    def suspend(self, sequence: SequenceId, expected_wait_ms: int | None) -> None:
        """No step is expected for about so long: the KV cache is kept, swapped or dropped, as the policy says."""
        self._memory.suspend(self._find(sequence), expected_wait_ms)
        self._publish()

    def resume(self, sequence: SequenceId) -> None:
        """Steps are expected again; a KV cache that was swapped or dropped comes back with the first of them."""
        self._memory.resume(self._find(sequence))
        self._publish()

    def close(self, sequence: SequenceId) -> None:
        """Frees the sequence; unknown and closed ones are ignored."""
        state = self._sequences.pop(sequence, None)
        if state is not None:
            self._memory.forget(state)
            self._publish()

    def shutdown(self) -> None:
        """Frees every sequence, the kept prefixes and the swap store."""
        for sequence in list(self._sequences):
            self.close(sequence)
        self._memory.close()
        self._masks.close()
        self._publish()

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        """Runs one forward pass; see `Engine.step`.

        Nothing of any sequence has changed when this raises, so the others can be stepped again.
        """
        sequences = {request.sequence: self._checked(request) for request in requests}
        if len(sequences) < len(requests):
            raise ValueError("a step asks for one sequence twice")
        try:
            return self._step(requests, sequences)
        finally:
            self._publish()

    def _step(self, requests: Sequence[StepRequest], sequences: dict[SequenceId, SequenceState]) -> list[Sampled]:
        plan = self._memory.plan(self._scheduler, self._sequences, sequences)
        if not plan.tokens:
            return []
        started = time.perf_counter()
        chunks = {number: self._chunk(sequences[number], length) for number, length in plan.tokens.items()}
        ready = [
            r for r in requests if r.sequence in chunks and len(chunks[r.sequence].ids) == sequences[r.sequence].pending
        ]
        self._masks.start(ready, {r.sequence for r in ready if sequences[r.sequence].sampler.plain})
        self._giving_way.begin()
        try:
            logits = forward(self._model, chunks, [r.sequence for r in ready], self._giving_way.before_layer)
        except GaveWayError:
            self._masks.wait()
            return []
        except BaseException:
            self._masks.wait()
            raise
        finally:
            self._giving_way.end()
        self._giving_way.done()
        logits = logits[:, : self._tokenizer.vocab_size]
        self._masks.finish()  # before the logits are looked at, which waits for the device
        self._check_logits(ready, logits)
        best = best_ids(logits)
        masks = self._masks.settle(best)
        # From here on nothing fails.
        self._scheduler.done(plan)
        for number, chunk in chunks.items():
            sequence = sequences[number]
            self._memory.computed(sequence, len(chunk.ids))
            if sequence.pending == 0:
                sequence.place = self._scheduler.draw()
        sampled = self._choose(ready, masks, best, logits)
        self._counters.count_step(
            time.perf_counter() - started, asked=len(requests), batch=len(chunks), sampled=len(sampled)
        )
        return sampled

    def _chunk(self, sequence: SequenceState, length: int) -> Chunk:
        """The next tokens of a sequence, with its cache ready for them."""
        self._memory.prepare(sequence)
        ids = sequence.ids[sequence.computed : sequence.computed + length]
        adapter = self._model.adapters[sequence.adapter] if sequence.adapter is not None else None
        return Chunk(ids, sequence.computed, sequence.cache, adapter)

    def _check_logits(self, ready: Sequence[StepRequest], logits: torch.Tensor) -> None:
        for place in not_finite(logits):
            message = "the logits are not finite; its KV cache or the weights are damaged"
            raise EngineError(message, sequence=ready[place].sequence)

    def _choose(
        self, ready: Sequence[StepRequest], masks: Sequence[Bits | None], best: Sequence[int], logits: torch.Tensor
    ) -> list[Sampled]:
        """The tokens of a step, which their sequences go on with."""
        if self.on_logits is not None:
            for request, row in zip(ready, logits, strict=True):
                self.on_logits(request.sequence, row)
        sequences = [self._sequences[request.sequence] for request in ready]
        wanted = [
            ChoiceRequest(sequence.sampler, sequence.ids, mask, request.forced)
            for sequence, request, mask in zip(sequences, ready, masks, strict=True)
        ]
        sampled = []
        for sequence, choice in zip(sequences, choose_many(logits, best, wanted), strict=True):
            self._memory.answered(sequence)
            sequence.took(choice.token_id)
            sampled.append(Sampled(sequence.number, choice.token_id, choice.logprob, choice.rank, choice.top))
        return sampled

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

    def _publish(self) -> None:
        """Takes the snapshot that `stats` tells of, in one assignment, so that no thread sees half of it."""
        self._snapshot = Snapshot(
            self._counters,
            open_sequences=len(self._sequences),
            suspended_sequences=sum(sequence.suspended for sequence in self._sequences.values()),
            kv_bytes=self._memory.nbytes,
            kv_limit_bytes=self._memory.limit,
            swapped_bytes=self._memory.swapped,
        )

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
