"""The engine on a tiny model when memory is short, when sequences are suspended, and when something fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from asynclm.engine.base import ContextLengthError, EngineError, EngineStats, SamplingParams, SequenceId, StepRequest
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.kv_cache import GRAIN
from asynclm.engine.torch.kv_policy import Action, FixedPolicy
from asynclm.engine.torch.model import Chunk, LlamaModel
from asynclm.engine.torch.prefix import BLOCK
from asynclm.engine.torch.scheduler import StepLimits
from asynclm.engine.torch.swap import FileSwap
from asynclm.prompt.hf_tokenizer import HfTokenizer

TEXT = list(b"Between the idea and the reality, between the motion and the act, falls the shadow. ")
PAGE = GRAIN * 2 * 2 * 2 * 16 * 4
"""Bytes of `GRAIN` tokens of the tiny model: layers, keys and values, heads, head dimension, float32."""


@pytest.fixture
def make(tiny_model: LlamaModel, tiny_tokenizer: HfTokenizer, make_engine: Any) -> Callable[..., TorchEngine]:
    return lambda **options: make_engine(tiny_model, tiny_tokenizer, **options)


def held(engine: TorchEngine) -> int:
    """What the engine's sequences hold, counted by hand."""
    return sum(sequence.cache.rows.nbytes for sequence in engine._sequences.values())


def until(engine: TorchEngine, sequence: SequenceId) -> int:
    """Steps until a sequence has its token."""
    while not (got := engine.step([StepRequest(sequence)])):
        pass
    return got[0].token_id


def test_a_long_prompt_costs_the_others_no_step_and_a_chunk_at_most(make: Callable[..., TorchEngine]) -> None:
    engine = make(limits=StepLimits(chunk=24))
    running = [engine.open(TEXT[n:], SamplingParams()) for n in range(3)]
    engine.step([StepRequest(s) for s in running])
    prompt = engine.open(TEXT * 5, SamplingParams())
    steps = 0
    while True:
        before = engine.stats()
        answered = {s.sequence for s in engine.step([StepRequest(s) for s in (*running, prompt)])}
        assert answered >= set(running)
        assert engine.stats().prefilled_tokens - before.prefilled_tokens <= 24
        assert engine.stats().waiting_sequences == (prompt not in answered)
        steps += 1
        if prompt in answered:
            break
    assert steps == -(-len(TEXT) * 5 // 24)


def test_an_interrupt_costs_one_step_even_beside_long_prompts(make: Callable[..., TorchEngine]) -> None:
    engine = make(limits=StepLimits(chunk=24))
    running = [engine.open(TEXT[n:], SamplingParams()) for n in range(3)]
    engine.step([StepRequest(s) for s in running])
    prompts = [engine.open(TEXT * 5, SamplingParams()) for _ in range(3)]
    engine.append(running[1], TEXT[:20])
    answered = engine.step([StepRequest(s) for s in (*prompts, *running)])
    assert [s.sequence for s in answered] == running
    assert engine.stats().prefilled_tokens == sum(len(TEXT) - n for n in range(3)) + 20 + 24 // 4


def test_more_sequences_than_a_batch_holds_take_turns(make: Callable[..., TorchEngine]) -> None:
    engine = make(limits=StepLimits(max_batch=3))
    sequences = [engine.open(TEXT[n:], SamplingParams()) for n in range(7)]
    for sequence in sequences:
        until(engine, sequence)
    got = dict.fromkeys(sequences, 0)
    for _ in range(14):
        for token in engine.step([StepRequest(s) for s in sequences]):
            got[token.sequence] += 1
        assert engine.stats().last_batch == 3
    assert sorted(got.values()) == [6] * 7


def test_what_is_held_is_what_is_said(make: Callable[..., TorchEngine], tmp_path: Path) -> None:
    """Under any policy, and nothing is left in the end."""
    for action in Action:
        swap = FileSwap(tmp_path)
        engine = make(policy=FixedPolicy(action), swap=swap, prefix_memory=3 * PAGE)
        sequences = [engine.open(TEXT[n:], SamplingParams()) for n in range(4)]
        for _ in range(3):
            engine.step([StepRequest(s) for s in sequences])
            assert engine.stats().kv_bytes == held(engine) + engine._memory.prefixes.nbytes
        engine.suspend(sequences[0], 100)
        stats = engine.stats()
        assert stats.kv_bytes == held(engine) + 3 * PAGE
        assert stats.swapped_bytes == swap.nbytes
        assert (stats.open_sequences, stats.suspended_sequences) == (4, 1)
        for sequence in sequences:
            engine.close(sequence)
        assert (engine.stats().kv_bytes, engine.stats().swapped_bytes) == (3 * PAGE, 0)
        engine.shutdown()
        assert engine.stats().kv_bytes == 0


def test_counters_count(make: Callable[..., TorchEngine]) -> None:
    engine = make(policy=FixedPolicy(Action.RECOMPUTE), prefix_memory=1 << 20)
    first = engine.open(TEXT, SamplingParams())
    until(engine, first)
    second = engine.open([*TEXT, 1], SamplingParams())
    until(engine, second)
    engine.append(first, TEXT[:9])
    engine.step([StepRequest(first), StepRequest(second)])
    engine.suspend(first, None)
    engine.resume(first)
    until(engine, first)
    hits = len(TEXT) // BLOCK * BLOCK
    expected = EngineStats(
        steps=4,
        batched_sequences=5,
        sampled_tokens=5,
        prefilled_tokens=len(TEXT) + len(TEXT) + 1 - hits + 9,
        injected_tokens=9,
        recomputed_tokens=len(TEXT) + 1 + 9 - hits,
        prefix_hit_tokens=hits,
        dropped=1,
        open_sequences=2,
        last_batch=1,
    )
    stats = engine.stats()
    names = [name for name in EngineStats.__slots__ if name not in ("step_seconds", "kv_bytes")]
    assert {n: getattr(stats, n) for n in names} == {n: getattr(expected, n) for n in names}
    assert stats.step_seconds > 0


def test_a_prompt_that_was_computed_is_found(make: Callable[..., TorchEngine], drive: Any) -> None:
    plain, driver = drive(make()), drive(make(prefix_memory=1 << 20))
    for each in (plain, driver):
        first = each.open(TEXT)
        each.sample(3, first)
        each.close(first)
        again, longer = each.open(TEXT), each.open([*TEXT, *TEXT])
        each.sample(8, again, longer)
    assert [driver.engine.cached_tokens(s) for s in (again, longer)] == [(len(TEXT) - 1) // BLOCK * BLOCK] * 2
    assert [plain.engine.cached_tokens(s) for s in (again, longer)] == [0, 0]
    for sequence in (again, longer):
        assert driver.traces[sequence].ids == plain.traces[sequence].ids
        ours, theirs = (torch.stack(d.traces[sequence].logits) for d in (driver, plain))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_prompt_that_no_memory_could_hold_is_refused(make: Callable[..., TorchEngine]) -> None:
    engine = make(kv_memory=2 * PAGE)
    with pytest.raises(ContextLengthError, match="there is no memory"):
        engine.open(TEXT[: 2 * GRAIN + 1], SamplingParams())
    sequence = engine.open(TEXT[: 2 * GRAIN], SamplingParams())
    other = engine.open(TEXT[:3], SamplingParams())
    until(engine, sequence)
    with pytest.raises(EngineError, match=r"65 tokens takes 48 KiB; there may be 32 KiB") as caught:
        engine.step([StepRequest(other), StepRequest(sequence)])
    assert caught.value.sequence == sequence
    engine.close(sequence)
    until(engine, other)


@pytest.mark.parametrize("fault", ["the batch is too large", "one sequence fails", "everything fails"])
def test_a_fault_in_a_batch_is_found(
    make: Callable[..., TorchEngine], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Whether the batch fails for its size, for one sequence, or altogether, those that can go on do."""
    engine, plain = make(), make()
    sequences = [engine.open(TEXT[n:], SamplingParams()) for n in range(3)]
    requests = [StepRequest(s) for s in sequences]
    expected = [s.token_id for s in plain.step([StepRequest(plain.open(TEXT[n:], SamplingParams())) for n in range(3)])]
    bad = engine._sequences[sequences[1]].cache
    forward = engine._model.forward

    def fail(chunks: Sequence[Chunk], wanted: Sequence[int], *others: Any) -> torch.Tensor:
        fails = {
            "the batch is too large": len(chunks) > 1,
            "one sequence fails": any(chunk.cache is bad for chunk in chunks),
            "everything fails": True,
        }
        if fails[fault]:
            raise RuntimeError("out of memory")
        return forward(chunks, wanted, *others)

    monkeypatch.setattr(engine._model, "forward", fail)
    if fault == "the batch is too large":
        assert [s.token_id for s in engine.step(requests)] == expected
        return
    with pytest.raises(EngineError, match="out of memory") as caught:
        engine.step(requests)
    assert caught.value.sequence == (sequences[1] if fault == "one sequence fails" else None)
    if fault == "one sequence fails":
        assert [s.token_id for s in engine.step([requests[0], requests[2]])] == [expected[0], expected[2]]


def test_no_memory_for_one_sequence_alone_is_its_fault(
    make: Callable[..., TorchEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make()
    sequence = engine.open(TEXT, SamplingParams())

    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(engine._model, "forward", fail)
    with pytest.raises(EngineError, match="can't allocate") as caught:
        engine.step([StepRequest(sequence)])
    assert caught.value.sequence == sequence


def test_a_mask_that_fails_is_its_own_sequences_fault(make: Callable[..., TorchEngine]) -> None:
    engine = make()
    good, bad = engine.open(TEXT, SamplingParams()), engine.open(TEXT, SamplingParams())

    def fail() -> Any:
        raise ZeroDivisionError("of the grammar")

    with pytest.raises(EngineError, match="mask") as caught:
        engine.step([StepRequest(good), StepRequest(bad, fail)])
    assert caught.value.sequence == bad
    assert len(engine.step([StepRequest(good)])) == 1


def test_one_sequence_is_asked_for_once(make: Callable[..., TorchEngine]) -> None:
    engine = make()
    sequence = engine.open(TEXT, SamplingParams())
    with pytest.raises(ValueError, match="twice"):
        engine.step([StepRequest(sequence)] * 2)
