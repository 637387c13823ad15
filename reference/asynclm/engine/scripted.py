"""The scripted engine: the seam without a model. Every token has to be forced; nothing is computed.

It serves `script:<id>` models beside any other engine (with that engine's tokenizer), and stands alone, with a byte
tokenizer, as `asynclm serve --engine scripted`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from asynclm.cml.binding import bind
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.codec import Codec, Tokenizer
from asynclm.engine.base import (
    ContextLengthError,
    EngineError,
    EngineInfo,
    EngineStats,
    Sampled,
    SamplingParams,
    ScoredId,
    SequenceId,
    StepRequest,
    UnknownModelError,
)
from asynclm.prompt.chat import JinjaTemplate
from asynclm.prompt.template import PromptTemplate

MODEL_NAME = "scripted"

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
"""The chat template of the byte tokenizer."""


class ScriptedEngine:
    """Plays forced tokens through the seam of `engine.base.Engine`."""

    def __init__(
        self,
        *,
        tokenizer: Tokenizer,
        codec: Codec,
        template: PromptTemplate,
        context_length: int = 131_072,
        max_sequences: int = 4096,
    ) -> None:
        self._tokenizer = tokenizer
        self._codec = codec
        self._template = template
        self._sampling: dict[SequenceId, SamplingParams] = {}
        self._steps = 0
        self._sampled = 0
        self._injected = 0
        self._last_batch = 0
        self._numbers = itertools.count()
        self._info = EngineInfo(
            name="scripted", model=MODEL_NAME, context_length=context_length, max_sequences=max_sequences
        )

    @property
    def info(self) -> EngineInfo:
        """What this engine serves."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that scripts are encoded with."""
        return self._tokenizer

    @property
    def codec(self) -> Codec:
        """The binding of control tokens."""
        return self._codec

    @property
    def template(self) -> PromptTemplate:
        """The chat template."""
        return self._template

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams, *, adapter: str | None = None) -> SequenceId:
        """Opens a sequence; see `Engine.open`."""
        if adapter is not None:
            raise UnknownModelError(f"adapter {adapter[:80]!r}: scripts have none")
        if len(prompt_ids) >= self._info.context_length:
            raise ContextLengthError(
                f"prompt: {len(prompt_ids)} tokens; the context holds {self._info.context_length}, prompt and answer "
                "together"
            )
        if len(self._sampling) >= self._info.max_sequences:
            raise EngineError(f"no room: {self._info.max_sequences} sequences are open")
        sequence = SequenceId(next(self._numbers))
        self._sampling[sequence] = sampling
        return sequence

    def append(self, sequence: SequenceId, ids: Sequence[int]) -> None:
        """Nothing to prefill."""
        self._injected += len(ids)

    def cached_tokens(self, sequence: SequenceId) -> int:
        """None: there is no cache."""
        return 0

    def stats(self) -> EngineStats:
        """What it has played; no time is spent in forward passes."""
        return EngineStats(
            steps=self._steps,
            batched_sequences=self._sampled,
            sampled_tokens=self._sampled,
            injected_tokens=self._injected,
            open_sequences=len(self._sampling),
            last_batch=self._last_batch,
        )

    def give_way(self) -> None:
        """No step takes long enough."""

    def suspend(self, sequence: SequenceId, expected_wait_ms: int | None) -> None:
        """Nothing to move."""

    def resume(self, sequence: SequenceId) -> None:
        """Nothing to bring back."""

    def close(self, sequence: SequenceId) -> None:
        """Forgets the sequence."""
        self._sampling.pop(sequence, None)

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        """Gives each sequence its forced token; see `Engine.step`."""
        for request in requests:
            if request.forced is None:
                raise EngineError(
                    "a sample step needs a model: ask for 'script:<id>+weights' on a server with weights",
                    sequence=request.sequence,
                )
        self._steps += 1
        self._sampled += len(requests)
        self._last_batch = len(requests)
        return [_forced(r.sequence, r.forced, self._sampling[r.sequence]) for r in requests if r.forced is not None]

    def shutdown(self) -> None:
        """Forgets every sequence."""
        self._sampling.clear()


def _forced(sequence: SequenceId, token_id: int, sampling: SamplingParams) -> Sampled:
    """What is forced is certain, and nothing else is possible."""
    if not sampling.logprobs:
        return Sampled(sequence, token_id)
    top = (ScoredId(token_id, 0.0),) if sampling.top_logprobs else ()
    return Sampled(sequence, token_id, logprob=0.0, rank=1, top=top)


def beside(tokenizer: Tokenizer, codec: Codec, template: PromptTemplate, context_length: int) -> ScriptedEngine:
    """A scripted engine that speaks another engine's tokenizer, for its `script:<id>` models."""
    return ScriptedEngine(tokenizer=tokenizer, codec=codec, template=template, context_length=context_length)


def open_engine(model: str = MODEL_NAME, **_: object) -> ScriptedEngine:
    """The stand-alone scripted engine, on a byte tokenizer. Options of other engines are accepted and unused."""
    tokenizer = ByteTokenizer()
    return ScriptedEngine(
        tokenizer=tokenizer,
        codec=bind(tokenizer),
        template=JinjaTemplate(CHATML, bos="", eos="<|im_end|>"),
    )
