"""Masks that are computed while the forward pass runs, or asked for one id after it: with the same tokens as others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch

from asynclm.engine.base import Bits, EngineError, SamplingParams, SequenceId, StepRequest
from asynclm.engine.torch import engine as engine_module
from asynclm.engine.torch import masks as masks_module
from asynclm.engine.torch import sampler as sampler_module
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.giving_way import SHARE, GaveWayError, GivingWay
from asynclm.engine.torch.masks import BESIDE, MaskMaker
from asynclm.engine.torch.model import LlamaModel
from asynclm.prompt.hf_tokenizer import HfTokenizer

PROMPT = [72, 101, 108, 108, 111]
GREEDY = SamplingParams()
DRAWS = SamplingParams(temperature=1.0)


@pytest.fixture
def engine(tiny_model: LlamaModel, tiny_tokenizer: HfTokenizer, make_engine: Any) -> Iterator[TorchEngine]:
    made: TorchEngine = make_engine(tiny_model, tiny_tokenizer)
    yield made
    made.shutdown()


class Counted:
    """A mask that is computed or asked, and counts how often and where."""

    def __init__(self, bits: Bits) -> None:
        self.bits = bits
        self.threads: list[str] = []
        self.asked: list[int] = []

    def __call__(self) -> Bits:
        self.threads.append(threading.current_thread().name)
        return self.bits

    def allows(self, token_id: int) -> bool:
        self.asked.append(token_id)
        return sampler_module.allows(self.bits, token_id)


def only(engine: Any, *ids: int) -> Bits:
    allowed = np.zeros(-(-engine.tokenizer.vocab_size // 32) * 32, dtype=bool)
    allowed[list(ids)] = True
    return np.packbits(allowed, bitorder="little").view(np.uint32)


def step(engine: TorchEngine, *requests: StepRequest) -> dict[SequenceId, int]:
    return {token.sequence: token.token_id for token in engine.step(requests)}


def test_computed_masks_hold_beside_looked_up_ones(engine: TorchEngine) -> None:
    computed, looked_up, free = (engine.open(PROMPT, DRAWS) for _ in range(3))
    mask = Counted(only(engine, 7))
    requests = [StepRequest(computed, mask), StepRequest(looked_up, only(engine, 9)), StepRequest(free)]
    tokens = step(engine, *requests)
    assert (tokens[computed], tokens[looked_up]) == (7, 9)
    assert mask.threads == ["asynclm-masks"]
    step(engine, *requests)
    assert (len(mask.threads), mask.asked) == (2, [])


def test_many_masks_are_computed_after_the_pass(engine: TorchEngine) -> None:
    masks = {engine.open(PROMPT, DRAWS): Counted(only(engine, 7 + number)) for number in range(BESIDE + 1)}
    tokens = step(engine, *(StepRequest(sequence, mask) for sequence, mask in masks.items()))
    assert list(tokens.values()) == [7, 8, 9]
    assert [mask.threads for mask in masks.values()] == [[threading.current_thread().name]] * 3


def test_greedy_rows_ask_for_their_best_id_and_compute_a_mask_only_where_it_is_refused(engine: TorchEngine) -> None:
    best = step(engine, StepRequest(alone := engine.open(PROMPT, GREEDY)))[alone]
    others = [token_id for token_id in (7, 9, 11) if token_id != best]
    takes, refuses, draws = (engine.open(PROMPT, params) for params in (GREEDY, GREEDY, DRAWS))
    masks = {
        takes: Counted(only(engine, best, *others)),
        refuses: Counted(only(engine, others[0])),
        draws: Counted(only(engine, others[1])),
    }
    tokens = step(engine, *(StepRequest(sequence, mask) for sequence, mask in masks.items()))
    assert tokens == {takes: best, refuses: others[0], draws: others[1]}
    assert [mask.asked for mask in masks.values()] == [[best], [best], []]
    assert [mask.threads for mask in masks.values()] == [[], [threading.current_thread().name], ["asynclm-masks"]]


@pytest.mark.parametrize("penalty", ["repetition_penalty", "presence_penalty", "frequency_penalty"])
def test_a_row_with_penalties_needs_its_whole_mask(engine: TorchEngine, penalty: str) -> None:
    sequence = engine.open(PROMPT, SamplingParams(**{penalty: 1.5}))
    mask = Counted(only(engine, 7))
    assert step(engine, StepRequest(sequence, mask)) == {sequence: 7}
    assert (len(mask.threads), mask.asked) == (1, [])


def test_a_mask_beside_a_forced_id_is_used_as_if_the_model_liked_the_id_best(engine: TorchEngine) -> None:
    greedy, draws = engine.open(PROMPT, GREEDY), engine.open(PROMPT, DRAWS)
    for forced, computed in ((7, 0), (9, 1)):
        asked, whole = Counted(only(engine, 7)), Counted(only(engine, 7))
        tokens = step(engine, StepRequest(greedy, asked, forced), StepRequest(draws, whole, forced))
        assert tokens == {greedy: forced, draws: forced}
        assert (asked.asked, len(asked.threads)) == ([forced], computed)
        assert (whole.asked, len(whole.threads)) == ([], 1)


class Wrong:
    """A mask with something the matter."""

    def __init__(self, bits: Bits | None, *, asked: bool = False) -> None:
        self.bits = bits
        self.asked = asked

    def __call__(self) -> Bits:
        if self.bits is None:
            raise RuntimeError("a bug at /secret/path")
        return self.bits

    def allows(self, token_id: int) -> bool:
        if self.asked:
            raise RuntimeError("a bug at /secret/path")
        return False


@pytest.mark.parametrize("sampling", [GREEDY, DRAWS], ids=["greedy", "draws"])
@pytest.mark.parametrize("wrong", ["raises", "nothing", "size"])
def test_a_mask_that_fails_costs_its_own_sequence(engine: TorchEngine, wrong: str, sampling: SamplingParams) -> None:
    """[ERR-008]: the others were not stepped, and can be stepped again."""
    masks = {"raises": None, "nothing": only(engine), "size": only(engine, 1)[:1]}
    check_that_it_fails_alone(engine, Wrong(masks[wrong]), sampling)


def test_a_mask_that_cannot_be_asked_costs_its_own_sequence(engine: TorchEngine) -> None:
    """[ERR-008]."""
    check_that_it_fails_alone(engine, Wrong(only(engine, 7), asked=True), GREEDY)


def check_that_it_fails_alone(engine: TorchEngine, wrong: Wrong, sampling: SamplingParams) -> None:
    bad, good = engine.open(PROMPT, sampling), engine.open(PROMPT, sampling)
    mask = Counted(only(engine, 7))
    with pytest.raises(EngineError) as caught:
        step(engine, StepRequest(good, mask), StepRequest(bad, wrong))
    assert caught.value.sequence == bad
    assert "secret" not in str(caught.value)
    assert step(engine, StepRequest(good, mask)) == {good: 7}


def test_a_step_that_fails_leaves_no_mask_behind(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may still be using a constraint when its session goes on."""
    sequence = engine.open(PROMPT, DRAWS)
    before, after = Counted(only(engine, 7)), Counted(only(engine, 9))

    def fail(*_: Any) -> torch.Tensor:
        raise EngineError("no pass")

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "forward", fail)
        with pytest.raises(EngineError, match="no pass"):
            step(engine, StepRequest(sequence, before))
    assert len(before.threads) == 1
    assert step(engine, StepRequest(sequence, after)) == {sequence: 9}


ASKING = SequenceId(2)


def made(maker: MaskMaker, *requests: StepRequest) -> list[Bits | None]:
    """The masks of a step in which 0 is every row's best id."""
    maker.start(requests, {ASKING})
    maker.finish()
    return maker.settle([0] * len(requests))


def test_no_thread_is_started_where_no_mask_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_thread(**_: Any) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr("asynclm.engine.torch.masks.threading.Thread", refuse_thread)
    maker = MaskMaker(32)
    mask = np.array([1], dtype=np.uint32)
    asked = Counted(mask)
    assert made(maker, StepRequest(SequenceId(0), mask), StepRequest(SequenceId(1)), StepRequest(ASKING, asked)) == [
        mask,
        None,
        None,
    ]
    assert asked.asked == [0]
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
        assert made(maker, StepRequest(SequenceId(0), mask)) == [mask]
    assert len(checked) == (3 if writeable else 1)


def test_however_many_masks_are_looked_up_each_is_checked() -> None:
    maker = MaskMaker(32)
    masks = [np.array([word], dtype=np.uint32) for word in range(100, 0, -1)]
    for mask in masks:
        mask.flags.writeable = False
        assert made(maker, StepRequest(SequenceId(0), mask)) == [mask]
    nothing = np.array([0], dtype=np.uint32)
    nothing.flags.writeable = False
    for _ in range(2):
        with pytest.raises(EngineError, match="allows no token"):
            made(maker, StepRequest(SequenceId(0), nothing))


# --- steps that are given up ---------------------------------------------------------------------------------------


def test_a_pass_is_given_up_early_in_it_and_not_twice_in_a_row() -> None:
    way = GivingWay(10)
    way.ask()
    way.begin()
    way.before_layer(0)  # asked before it began: what came then is in it
    way.ask()
    way.before_layer(ceil(10 * SHARE))
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


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=1.0, seed=5)], ids=["greedy", "seed"])
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
