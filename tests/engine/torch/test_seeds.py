"""On real weights: a seed gives the same tokens whatever else is in the batch, and wherever a session goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asynclm.engine.base import SamplingParams, StepRequest
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.model import LlamaModel
from asynclm.prompt.hf_tokenizer import HfTokenizer

pytestmark = pytest.mark.weights

SETTINGS = (
    SamplingParams(temperature=1.0, seed=7),
    SamplingParams(temperature=0.8, top_k=40, seed=7),
    SamplingParams(temperature=1.2, top_p=0.9, seed=-5, logprobs=True, top_logprobs=4),
    SamplingParams(temperature=1.0, min_p=0.02, repetition_penalty=1.2, seed=2**40),
    SamplingParams(repetition_penalty=1.3),
)
PROMPT = "The three most important things about the sea are"


@pytest.fixture
def engine(smollm2_float32: LlamaModel, smollm2_tokenizer: HfTokenizer, make_engine: Callable[..., Any]) -> Any:
    return make_engine(smollm2_float32, smollm2_tokenizer)


def run(engine: TorchEngine, *opened: tuple[list[int], SamplingParams], steps: int) -> list[list[int]]:
    numbers = [engine.open(prompt, params) for prompt, params in opened]
    tokens: dict[Any, list[int]] = {number: [] for number in numbers}
    while waiting := [number for number in numbers if len(tokens[number]) < steps]:
        for sampled in engine.step([StepRequest(number) for number in waiting]):
            tokens[sampled.sequence].append(sampled.token_id)
    for number in numbers:
        engine.close(number)
    return list(tokens.values())


def test_a_seed_gives_the_same_tokens_alone_and_in_a_batch(engine: TorchEngine, smollm2_tokenizer: HfTokenizer) -> None:
    """[SES-111], [SES-112]."""
    prompt = smollm2_tokenizer.encode(PROMPT)
    together = run(engine, *((prompt, params) for params in SETTINGS), steps=12)
    alone = [run(engine, (prompt, params), steps=12)[0] for params in SETTINGS]
    assert together == alone
    assert len({tuple(tokens) for tokens in together}) == len(SETTINGS)


def test_a_session_goes_on_from_its_ids(engine: TorchEngine, smollm2_tokenizer: HfTokenizer) -> None:
    """[SES-112]: a random number belongs to a place in the context, not to a count of draws."""
    prompt = smollm2_tokenizer.encode(PROMPT)
    for params in SETTINGS:
        [whole] = run(engine, (prompt, params), steps=10)
        [rest] = run(engine, (prompt + whole[:4], params), steps=6)
        assert whole[4:] == rest
