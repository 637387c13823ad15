"""The seam's obligations: chunks, masks, forced ids, faults of one sequence, limits. On a tiny random model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from asynclm.engine.base import ContextLengthError, EngineError, SamplingParams, SequenceId, StepRequest
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.model import LlamaModel
from asynclm.engine.torch.scheduler import StepLimits
from asynclm.prompt.hf_tokenizer import HfTokenizer

SAMPLED = SamplingParams(temperature=1.0, seed=5)
TEXT = list(b"The quick brown fox jumps over the lazy dog.")


@pytest.fixture
def make(tiny_model: LlamaModel, tiny_tokenizer: HfTokenizer, make_engine: Any) -> Callable[..., TorchEngine]:
    return lambda **options: make_engine(tiny_model, tiny_tokenizer, **options)


@pytest.fixture
def engine(make: Callable[..., TorchEngine]) -> TorchEngine:
    return make()


def tokens(engine: TorchEngine, sequence: SequenceId, count: int) -> list[int]:
    return [engine.step([StepRequest(sequence)])[0].token_id for _ in range(count)]


def bits(engine: TorchEngine, *allowed: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    words = np.zeros(-(-engine.tokenizer.vocab_size // 32), dtype=np.uint32)
    for token in allowed:
        words[token // 32] |= np.uint32(1 << token % 32)
    return words


@pytest.mark.parametrize("chunk", [1, 2, 7, 43, 44, 45, 256])
def test_the_size_of_chunks_changes_nothing(make: Callable[..., TorchEngine], drive: Any, chunk: int) -> None:
    expected, driver = drive(make()), drive(make(limits=StepLimits(step_tokens=chunk)))
    for each in (expected, driver):
        sequence = each.open(TEXT)
        each.sample(5, sequence)
        each.append(sequence, TEXT)
        each.sample(5, sequence)
    ours, theirs = driver.traces[0], expected.traces[0]
    assert ours.ids == theirs.ids
    torch.testing.assert_close(torch.stack(ours.logits), torch.stack(theirs.logits), atol=1e-4, rtol=0)


def test_others_decode_while_a_long_prompt_is_prefilled(make: Callable[..., TorchEngine], drive: Any) -> None:
    """Long prompts one after another, in chunks of ten tokens; the last, short part of one leaves room to the next."""
    driver = drive(make(limits=StepLimits(chunk=10)))
    short, long, longer = driver.open(TEXT[:1]), driver.open(TEXT[:35]), driver.open(TEXT)
    answered = [driver.step(short, long, longer) for _ in range(9)]
    assert [short in step for step in answered] == [True] * 9
    assert [long in step for step in answered].index(True) == 3
    assert [longer in step for step in answered].index(True) == 7
    alone = drive(make())
    again = alone.open(TEXT)
    alone.sample(2, again)
    assert driver.traces[longer].tokens == alone.traces[again].tokens


def test_the_batch_does_not_touch_the_seed(make: Callable[..., TorchEngine]) -> None:
    alone = make()
    expected = tokens(alone, alone.open(TEXT, SAMPLED), 30)
    engine = make()
    others = [engine.open(TEXT[n:], SamplingParams(temperature=2.0, seed=n)) for n in range(3)]
    watched = engine.open(TEXT, SAMPLED)
    got = []
    for step in range(30):
        requests = [StepRequest(s) for s in (*others[: step % 4], watched)]
        got.append(engine.step(requests)[-1].token_id)
    assert got == expected
    assert len(set(expected)) > 10
    different = engine.open(TEXT, SamplingParams(temperature=1.0, seed=6))
    assert tokens(engine, different, 30) != expected


def test_results_come_in_the_order_of_requests(engine: TorchEngine) -> None:
    sequences = [engine.open(TEXT[n:], SamplingParams()) for n in range(4)]
    order = [sequences[n] for n in (2, 0, 3, 1)]
    assert [s.sequence for s in engine.step([StepRequest(s) for s in order])] == order
    assert engine.step([]) == []


def test_a_mask_allows_what_it_says(engine: TorchEngine) -> None:
    for allowed in ((7,), (31, 32), (0, 262)):
        sequence = engine.open(TEXT, SAMPLED)
        request = StepRequest(sequence, bits(engine, *allowed))
        assert {engine.step([request])[0].token_id for _ in range(20)} <= set(allowed)


@pytest.mark.parametrize("wrong", [np.zeros(9, np.uint32), np.ones(8, np.uint32), np.ones(9, np.int64)])
def test_a_bad_mask_is_that_sequences_fault(engine: TorchEngine, wrong: Any) -> None:
    good, bad = engine.open(TEXT, SAMPLED), engine.open(TEXT, SAMPLED)
    with pytest.raises(EngineError, match="mask") as caught:
        engine.step([StepRequest(good), StepRequest(bad, wrong)])
    assert caught.value.sequence == bad


def test_a_forced_id_takes_the_place_of_the_sampled_one(make: Callable[..., TorchEngine]) -> None:
    """It is followed by what would follow it in a prompt, and its log-probability is the model's own."""
    engine = make()
    logged = engine.open(TEXT, SamplingParams(logprobs=True))
    (sampled,) = engine.step([StepRequest(logged, bits(engine, 3), forced=65)])
    again = engine.open([*TEXT, 65], SamplingParams())
    assert (sampled.token_id, tokens(engine, logged, 5)) == (65, tokens(engine, again, 5))
    assert sampled.logprob is not None
    assert sampled.logprob < 0
    seen: list[torch.Tensor] = []
    engine.on_logits = lambda _, logits: seen.append(logits)
    engine.step([StepRequest(engine.open(TEXT, SamplingParams()))])
    assert sampled.logprob == pytest.approx(float(seen[0].softmax(-1)[65].log()), abs=1e-4)


def test_logprobs_are_given_only_when_asked_for(engine: TorchEngine) -> None:
    sequence = engine.open(TEXT, SamplingParams())
    assert engine.step([StepRequest(sequence)])[0].logprob is None


def test_a_damaged_sequence_fails_alone(make: Callable[..., TorchEngine]) -> None:
    """Nothing of the others has changed: retried, they give what they would have given, seeds included."""
    expected = make()
    numbers = [expected.open(TEXT, SAMPLED), expected.open(TEXT[3:], SamplingParams())]
    wanted = [[s.token_id for s in expected.step([StepRequest(n) for n in numbers])] for _ in range(6)]

    engine = make()
    first, second, bad = engine.open(TEXT, SAMPLED), engine.open(TEXT[3:], SamplingParams()), engine.open(TEXT, SAMPLED)
    got = [[s.token_id for s in engine.step([StepRequest(n) for n in (first, second, bad)])][:2] for _ in range(3)]
    engine._sequences[bad].cache.rows[1, 1, :, 4] = torch.nan
    with pytest.raises(EngineError, match="not finite") as caught:
        engine.step([StepRequest(n) for n in (first, bad, second)])
    assert caught.value.sequence == bad
    engine.close(bad)
    got += [[s.token_id for s in engine.step([StepRequest(n) for n in (first, second)])] for _ in range(3)]
    assert got == wanted


def test_no_room_for_the_cache_is_that_sequences_fault(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    sequence, other = engine.open(TEXT, SamplingParams()), engine.open(TEXT, SamplingParams())

    def refuse(_: int) -> None:
        raise MemoryError("KV cache of 256 tokens: no room")

    monkeypatch.setattr(engine._sequences[sequence].cache, "reserve", refuse)
    with pytest.raises(EngineError, match="KV cache") as caught:
        engine.step([StepRequest(other), StepRequest(sequence)])
    assert caught.value.sequence == sequence
    assert len(engine.step([StepRequest(other)])) == 1


def test_a_failed_forward_pass_is_an_engine_error(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine._model, "forward", fail)
    with pytest.raises(EngineError, match="out of memory") as caught:
        engine.step([StepRequest(engine.open(TEXT, SamplingParams()))])
    assert caught.value.sequence is None


def test_a_context_ends_where_it_says(make: Callable[..., TorchEngine]) -> None:
    engine = make(context_length=len(TEXT) + 3)
    sequence = engine.open(TEXT, SamplingParams())
    tokens(engine, sequence, 3)
    with pytest.raises(EngineError, match="context of 47 tokens is full") as caught:
        engine.step([StepRequest(sequence)])
    assert caught.value.sequence == sequence
    with pytest.raises(EngineError, match="do not fit"):
        engine.append(sequence, [1])
    with pytest.raises(ContextLengthError, match="prompt: 47 tokens; the context holds 47"):
        engine.open([*TEXT, 1, 2, 3], SamplingParams())


@pytest.mark.parametrize(("ids", "message"), [([], "no tokens"), ([1, 263], "id 1 is 263"), ([-1], "id 0 is -1")])
def test_bad_prompts_are_refused(engine: TorchEngine, ids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine.open(ids, SamplingParams())


def test_bad_ids_are_refused(engine: TorchEngine) -> None:
    sequence = engine.open(TEXT, SamplingParams())
    with pytest.raises(ValueError, match="append: id 0 is 263; allowed: 0 to 262"):
        engine.append(sequence, [263])
    with pytest.raises(EngineError, match="forced id is 263"):
        engine.step([StepRequest(sequence, forced=263)])


def test_room_for_sequences_ends_and_comes_back(make: Callable[..., TorchEngine]) -> None:
    engine = make(max_sequences=2)
    first = engine.open(TEXT, SamplingParams())
    engine.open(TEXT, SamplingParams())
    with pytest.raises(EngineError, match="2 sequences are open"):
        engine.open(TEXT, SamplingParams())
    tokens(engine, first, 1)
    assert engine.stats().kv_bytes > 0
    engine.close(first)
    engine.close(first)
    assert engine.stats().kv_bytes == 0
    with pytest.raises(EngineError, match="not open"):
        engine.step([StepRequest(first)])
    engine.open(TEXT, SamplingParams())
    engine.shutdown()
    engine.open(TEXT, SamplingParams())


def test_suspension_changes_nothing(make: Callable[..., TorchEngine]) -> None:
    plain, engine = make(), make()
    expected = tokens(plain, plain.open(TEXT, SAMPLED), 10)
    sequence = engine.open(TEXT, SAMPLED)
    got = tokens(engine, sequence, 5)
    engine.suspend(sequence, 250)
    engine.resume(sequence)
    assert got + tokens(engine, sequence, 5) == expected


def test_a_tokenizer_of_another_model_is_refused(
    tiny_model: LlamaModel, smollm2_tokenizer: HfTokenizer, make_engine: Any
) -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        make_engine(tiny_model, smollm2_tokenizer)
