"""Calibration: what it measures, how long it takes, and what it keeps for the next start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from asynclm.engine.torch import calibration
from asynclm.engine.torch.cache import CACHE_VARIABLE
from asynclm.engine.torch.calibration import calibrated, cost_key, measure_costs, open_policy
from asynclm.engine.torch.cost_curves import CostCurve, CostCurves
from asynclm.engine.torch.kv_policy import Action, AutoPolicy, FixedPolicy
from asynclm.engine.torch.model import LlamaModel
from asynclm.engine.torch.swap import FileSwap

CURVES = CostCurves(recompute=CostCurve(2.0, 0.5, 0.001), swap=CostCurve(1.0, 0.01))
KEY = {"model": "some", "threads": 2}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def swap(tmp_path: Path) -> FileSwap:
    return FileSwap(tmp_path, minimum_free=0)


def never() -> CostCurves:
    raise AssertionError("measured, although the curves are there")


class Clock:
    """Time that passes with the tokens that a model computes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, ms_per_token: float) -> None:
        self.now = 0.0
        self.lengths: list[int] = []
        prefill = calibration._prefill

        def counted(model: LlamaModel, tokens: int, step_tokens: int) -> object:
            self.lengths.append(tokens)
            self.now += tokens * ms_per_token / 1000
            return prefill(model, tokens, step_tokens)

        monkeypatch.setattr(calibration, "_prefill", counted)

    def __call__(self) -> float:
        return self.now


def test_a_second_start_reads_what_the_first_measured(cache_folder: Path) -> None:
    first = calibrated(KEY, lambda: CURVES)
    second = calibrated(KEY, never)
    assert (first.measured, second.measured) == (True, False)
    assert first.curves == second.curves == CURVES
    [path] = cache_folder.glob("kv-costs-*/curves.json")
    assert json.loads(path.read_text())["key"] == KEY, "people can see what it is of"


def test_anything_else_that_the_costs_depend_on_is_measured_anew() -> None:
    calibrated(KEY, lambda: CURVES)
    for other in ({**KEY, "threads": 4}, {**KEY, "model": "other"}, {**KEY, "more": 1}):
        assert calibrated(other, lambda: CURVES).measured


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"curves": 3}', '{"curves": {"recompute": {}, "swap": {}}}', "\x00\xff"]
)
def test_a_damaged_entry_is_measured_anew_and_replaced(cache_folder: Path, content: str) -> None:
    calibrated(KEY, lambda: CURVES)
    [path] = cache_folder.glob("kv-costs-*/curves.json")
    path.write_bytes(content.encode("latin-1"))
    assert calibrated(KEY, lambda: CURVES).measured
    assert not calibrated(KEY, never).measured


def test_curves_that_are_outdated_are_measured_anew_and_replaced() -> None:
    calibrated(KEY, lambda: CURVES)
    faster = CostCurves(recompute=CostCurve(1.0, 0.25), swap=CURVES.swap)
    assert calibrated(KEY, lambda: faster, lambda found: found == CURVES).measured
    kept = calibrated(KEY, never, lambda found: found == CURVES)
    assert (kept.curves, kept.measured) == (faster, False)


@pytest.mark.parametrize(("now_ms", "lengths"), [(14.0, {32, 4096}), (16.0, {32}), (99.0, {32})])
def test_what_was_measured_on_a_busy_machine_is_measured_once_more(
    now_ms: float, lengths: set[int], tiny_model: LlamaModel, swap: FileSwap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The curves kept say 22.5 ms of a short context; two thirds of that is the bound."""
    kept = CostCurves(recompute=CostCurve(22.5), swap=CURVES.swap)
    key = cost_key(tiny_model, step_tokens=64, variant={})
    calibrated(key, lambda: kept)
    measured = []

    def measure(model: LlamaModel, store: FileSwap, *, context_length: int, step_tokens: int) -> CostCurves:
        measured.append(context_length)
        return CostCurves(recompute=CostCurve(now_ms), swap=CURVES.swap)

    monkeypatch.setattr(calibration, "measure_costs", measure)
    _, curves = open_policy("auto", tiny_model, swap, step_tokens=64, context_length=4096, variant={}, progress=False)
    assert set(measured) == lengths
    assert curves == (kept if len(lengths) == 1 else CostCurves(recompute=CostCurve(now_ms), swap=CURVES.swap))


def test_an_entry_without_its_file_is_measured_anew(cache_folder: Path) -> None:
    calibrated(KEY, lambda: CURVES)
    [path] = cache_folder.glob("kv-costs-*/curves.json")
    path.unlink()
    assert calibrated(KEY, lambda: CURVES).measured
    assert not calibrated(KEY, never).measured


def test_a_cache_folder_that_cannot_be_written_is_done_without(cache_folder: Path) -> None:
    cache_folder.write_text("a file in its place")
    assert calibrated(KEY, lambda: CURVES).measured
    assert calibrated(KEY, lambda: CURVES).curves == CURVES


def test_the_key_names_everything_that_changes_the_costs(
    tiny_model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cost_key(tiny_model, step_tokens=64, variant={"quantize": "int8"})
    assert json.loads(json.dumps(key)) == key
    assert cost_key(tiny_model, step_tokens=128, variant={"quantize": "int8"}) != key
    assert cost_key(tiny_model, step_tokens=64, variant={"quantize": ""}) != key
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert cost_key(tiny_model, step_tokens=64, variant={"quantize": "int8"}) != key
    assert key["device"], "the processor's name"


def test_lengths_double_until_the_budget_is_used(
    tiny_model: LlamaModel, swap: FileSwap, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, ms_per_token=1.0)
    curves = measure_costs(tiny_model, swap, step_tokens=64, context_length=4096, budget_s=1.0, clock=clock)
    assert clock.lengths == [1, 32, 32, 64, 128, 256]
    assert clock.now <= 1.0
    assert curves.recompute(256) == pytest.approx(256, rel=0.05)
    assert swap.nbytes == 0, "nothing is left behind"


def test_no_context_is_measured_that_cannot_be(
    tiny_model: LlamaModel, swap: FileSwap, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, ms_per_token=0.01)
    measure_costs(tiny_model, swap, step_tokens=64, context_length=100, budget_s=100.0, clock=clock)
    assert max(clock.lengths) == 64
    clock.lengths.clear()
    measure_costs(tiny_model, swap, step_tokens=64, context_length=20, budget_s=100.0, clock=clock)
    assert max(clock.lengths) == 20


def test_a_model_that_is_too_slow_for_the_budget_is_measured_once(
    tiny_model: LlamaModel, swap: FileSwap, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, ms_per_token=1000.0)
    curves = measure_costs(tiny_model, swap, step_tokens=64, context_length=4096, budget_s=1.0, clock=clock)
    assert clock.lengths == [1, 32]
    assert curves.recompute(64) >= curves.recompute(32) > 30_000


def test_only_the_policy_that_goes_by_costs_measures_them(
    tiny_model: LlamaModel, swap: FileSwap, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, int]] = []

    def measure(model: LlamaModel, store: FileSwap, **settings: int) -> CostCurves:
        calls.append(settings)
        return CURVES

    monkeypatch.setattr(calibration, "measure_costs", measure)
    open_one: Callable[[str], object] = lambda name: open_policy(  # noqa: E731
        name, tiny_model, swap, step_tokens=64, context_length=512, variant={}
    )
    for action in Action:
        assert open_one(action.value) == (FixedPolicy(action), None)
    assert not calls
    assert open_one("auto") == (AutoPolicy(CURVES), CURVES)
    assert open_one("auto") == (AutoPolicy(CURVES), CURVES)
    assert calls == [{"step_tokens": 64, "context_length": 512}, {"step_tokens": 64, "context_length": 32}]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("Measuring") == 1


@pytest.mark.weights
def test_on_real_weights_it_takes_a_moment_and_recomputing_costs_more_than_nothing(
    smollm2_bfloat16: LlamaModel, swap: FileSwap
) -> None:
    curves = measure_costs(smollm2_bfloat16, swap, step_tokens=512, context_length=2048, budget_s=0.3)
    assert curves.recompute(512) > curves.recompute(32) > 0
    assert curves.swap(512) >= curves.swap(32) > 0
    assert curves.recompute.linear + curves.recompute.quadratic > 0
