"""Masks that are computed while the forward pass runs: once, for their own sequence, with the same tokens as others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from asynclm.engine.base import Bits, EngineError, SamplingParams, SequenceId, StepRequest
from asynclm.engine.torch import engine as engine_module
from asynclm.engine.torch import masks as masks_module
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.giving_way import SHARE, GaveWayError, GivingWay
from asynclm.engine.torch.masks import BESIDE, MaskMaker
from asynclm.engine.torch.model import LlamaModel
from asynclm.prompt.hf_tokenizer import HfTokenizer

PROMPT = [72, 101, 108, 108, 111]


@pytest.fixture
def engine(tiny_model: LlamaModel, tiny_tokenizer: HfTokenizer, make_engine: Any) -> Iterator[TorchEngine]:
    made: TorchEngine = make_engine(tiny_model, tiny_tokenizer)
    yield made
    made.shutdown()


class Counted:
    """A mask that is computed, and counts how often and where."""

    def __init__(self, bits: Bits) -> None:
        self.bits = bits
        self.threads: list[str] = []

    def __call__(self) -> Bits:
        self.threads.append(threading.current_thread().name)
        return self.bits


def only(engine: Any, *ids: int) -> Bits:
    allowed = np.zeros(-(-engine.tokenizer.vocab_size // 32) * 32, dtype=bool)
    allowed[list(ids)] = True
    return np.packbits(allowed, bitorder="little").view(np.uint32)


def step(engine: TorchEngine, *requests: StepRequest) -> dict[SequenceId, int]:
    return {token.sequence: token.token_id for token in engine.step(requests)}


def test_computed_masks_hold_beside_looked_up_ones(engine: TorchEngine) -> None:
    computed, looked_up, free = (engine.open(PROMPT, SamplingParams()) for _ in range(3))
    mask = Counted(only(engine, 7))
    requests = [StepRequest(computed, mask), StepRequest(looked_up, only(engine, 9)), StepRequest(free)]
    tokens = step(engine, *requests)
    assert (tokens[computed], tokens[looked_up]) == (7, 9)
    assert mask.threads == ["asynclm-masks"]
    step(engine, *requests)
    assert len(mask.threads) == 2


def test_many_masks_are_computed_after_the_pass(engine: TorchEngine) -> None:
    masks = {engine.open(PROMPT, SamplingParams()): Counted(only(engine, 7 + number)) for number in range(BESIDE + 1)}
    tokens = step(engine, *(StepRequest(sequence, mask) for sequence, mask in masks.items()))
    assert list(tokens.values()) == [7, 8, 9]
    assert [mask.threads for mask in masks.values()] == [[threading.current_thread().name]] * 3


def test_a_mask_beside_a_forced_id_is_computed_all_the_same(engine: TorchEngine) -> None:
    sequence = engine.open(PROMPT, SamplingParams())
    mask = Counted(only(engine, 7))
    assert step(engine, StepRequest(sequence, mask, 9)) == {sequence: 9}
    assert len(mask.threads) == 1


def refuse() -> Bits:
    raise RuntimeError("a bug at /secret/path")


@pytest.mark.parametrize("wrong", ["raises", "nothing", "size"])
def test_a_mask_that_fails_costs_its_own_sequence(engine: TorchEngine, wrong: str) -> None:
    """[ERR-008]: the others were not stepped, and can be stepped again."""
    masks = {"raises": refuse, "nothing": lambda: only(engine), "size": lambda: only(engine, 1)[:1]}
    bad, good = engine.open(PROMPT, SamplingParams()), engine.open(PROMPT, SamplingParams())
    mask = Counted(only(engine, 7))
    with pytest.raises(EngineError) as caught:
        step(engine, StepRequest(bad, masks[wrong]), StepRequest(good, mask))
    assert caught.value.sequence == bad
    assert "secret" not in str(caught.value)
    assert step(engine, StepRequest(good, mask)) == {good: 7}


def test_a_step_that_fails_leaves_no_mask_behind(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may still be using a constraint when its session goes on."""
    sequence = engine.open(PROMPT, SamplingParams())
    before, after = Counted(only(engine, 7)), Counted(only(engine, 9))

    def fail(*_: Any) -> torch.Tensor:
        raise EngineError("no pass")

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "forward", fail)
        with pytest.raises(EngineError, match="no pass"):
            step(engine, StepRequest(sequence, before))
    assert len(before.threads) == 1
    assert step(engine, StepRequest(sequence, after)) == {sequence: 9}


def test_no_thread_is_started_where_no_mask_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_thread(**_: Any) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr("asynclm.engine.torch.masks.threading.Thread", refuse_thread)
    maker = MaskMaker(32)
    mask = np.array([1], dtype=np.uint32)
    maker.start([StepRequest(SequenceId(0), mask), StepRequest(SequenceId(1))])
    assert maker.finish() == [mask, None]
    maker.close()


@pytest.mark.parametrize("writeable", [False, True])
def test_a_looked_up_mask_is_checked_again_if_it_can_change(
    monkeypatch: pytest.MonkeyPatch, *, writeable: bool
) -> None:
    checked: list[Bits] = []
    monkeypatch.setattr(masks_module, "check_mask", lambda mask, _: checked.append(mask))
    maker = MaskMaker(32)
    mask = np.array([1], dtype=np.uint32)
    mask.flags.writeable = writeable
    for _ in range(3):
        maker.start([StepRequest(SequenceId(0), mask)])
        assert maker.finish() == [mask]
    assert len(checked) == (3 if writeable else 1)


def test_however_many_masks_are_looked_up_each_is_checked() -> None:
    maker = MaskMaker(32)
    masks = [np.array([word], dtype=np.uint32) for word in range(100, 0, -1)]
    for mask in masks:
        mask.flags.writeable = False
        maker.start([StepRequest(SequenceId(0), mask)])
        assert maker.finish() == [mask]
    nothing = np.array([0], dtype=np.uint32)
    nothing.flags.writeable = False
    for _ in range(2):
        maker.start([StepRequest(SequenceId(0), nothing)])
        with pytest.raises(EngineError, match="allows no token"):
            maker.finish()


# --- steps that are given up ---------------------------------------------------------------------------------------


def test_a_pass_is_given_up_early_in_it_and_not_twice_in_a_row() -> None:
    way = GivingWay(10)
    way.ask()
    way.begin()
    way.before_layer(0)  # asked before it began: what came then is in it
    way.ask()
    way.before_layer(int(10 * SHARE))
    with pytest.raises(GaveWayError):
        way.before_layer(1)
    way.end()
    way.begin()
    way.ask()
    way.before_layer(0)
    way.end()
    way.done()
    way.begin()
    way.ask()
    with pytest.raises(GaveWayError):
        way.before_layer(0)


@pytest.mark.parametrize(
    "sampling", [SamplingParams(), SamplingParams(temperature=1.0, seed=5)], ids=["greedy", "seed"]
)
def test_a_step_that_is_given_up_changes_nothing(
    engine: TorchEngine, sampling: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, disturbed = engine.open(PROMPT, sampling), engine.open(PROMPT, sampling)
    plain = [step(engine, StepRequest(undisturbed))[undisturbed] for _ in range(6)]
    sound = engine_module.forward

    def interrupted(*given: Any) -> torch.Tensor:
        engine.give_way()
        return sound(*given)

    monkeypatch.setattr(engine_module, "forward", interrupted)
    answers = [step(engine, StepRequest(disturbed)) for _ in range(12)]
    assert answers[::2] == [{}] * 6
    assert [answer[disturbed] for answer in answers[1::2]] == plain
