from __future__ import annotations

from random import Random
from typing import Any

import pytest

from asynclm.bench import interrupt, overhead, workload
from asynclm.bench.interrupt import Seen
from asynclm.bench.registry import run
from asynclm.cml.codec import Item
from asynclm.cml.control import Control
from asynclm.engine.constraints import compile_constraint
from asynclm.engine.scripted import open_engine
from asynclm.engine.torch.sampler import Sampler


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "open_engine", lambda **_: open_engine())
    monkeypatch.setattr(overhead, "STEPS", 16)
    monkeypatch.setattr(overhead, "QUICK_PAIRS", 1)


@pytest.mark.usefixtures("short")
def test_overhead_compares_the_loop_with_the_bare_engine_on_the_same_tokens() -> None:
    metrics = {m.name: m for m in run("overhead", quick=True).metrics}
    assert {name: metrics[name].floor for name in ("percent_1", "percent_16")} == {"percent_1": 2.0, "percent_16": 4.0}
    for count in (1, 16):
        assert metrics[f"percent_{count}_all_masks"].floor is None
        for name in ("us_per_token_{}", "us_per_token_{}_all_masks", "bare_step_ms_{}"):
            value = metrics[name.format(count)].value
            assert value is not None
            assert value > 0


def test_sessions_measured_greedily_ask_and_the_others_need_every_mask() -> None:
    assert Sampler(overhead.GREEDY).plain
    assert not Sampler(overhead.DRAWING).plain


@pytest.mark.usefixtures("short")
def test_overhead_of_sessions_that_do_something_else_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = overhead.plan

    def wrong(*given: Any) -> workload.Planned:
        planned = sound(*given)
        return workload.Planned(planned.ids, planned.calls + 1, planned.inside)

    monkeypatch.setattr(overhead, "plan", wrong)
    with pytest.raises(overhead.MeasurementError):
        run("overhead", quick=True)


def test_a_plan_is_legal_and_half_of_it_stands_in_calls() -> None:
    engine = open_engine()
    constraint = compile_constraint(engine.codec, engine.tokenizer, workload.TOOLS)
    planned = workload.plan(Random(2), engine.codec, constraint, 2000)
    assert len(planned.ids) == 2000
    assert planned.calls > 5
    assert 0.45 < planned.inside / 2000 < 0.55
    items: list[Item] = []
    decoder = engine.codec.decoder()
    for token_id in planned.ids:
        items += decoder.feed(token_id)
    assert sum(item is Control.CALL for item in items) in (planned.calls, planned.calls + 1)


def test_a_plan_that_breaks_the_grammar_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine()
    constraint = compile_constraint(engine.codec, engine.tokenizer, workload.TOOLS)
    monkeypatch.setattr(workload, "_value", lambda *_: None)  # what no schema takes
    with pytest.raises(workload.IllegalPlanError, match="masked"):
        workload.plan(Random(2), engine.codec, constraint, 500)


def test_an_interrupts_time_is_counted_in_steps_without_its_prefill() -> None:
    seen = {
        (kind, count): Seen(first={f"{kind} {count}": 10.05}, delays=[0.1], steps=[0.02] * 9)
        for kind in interrupt.KINDS
        for count in interrupt.COUNTS
    }
    arrivals = {f"{kind} {count}": [10.0] for kind, count in seen}
    prefill = {f"{kind}_{count}": [0.03] for kind, count in seen}
    metrics = {m.name: m for m in interrupt._metrics(seen, arrivals, prefill)}
    for count in interrupt.COUNTS:
        assert metrics[f"steps_p50_{count}"].value == pytest.approx(1.0)
        assert metrics[f"steps_p99_{count}"].value == pytest.approx(1.0)
        assert (metrics[f"steps_p50_{count}"].floor, metrics[f"steps_p99_{count}"].floor) == (1.2, 2.2)
    ratios = {m.name: m.value for m in interrupt._ratios({1: [0.1], 8: [0.1]}, {1: [0.2, 0.3]})}
    assert ratios["resubmit_vs_ours_1"] == pytest.approx(2.5)
    assert ratios["resubmit_vs_ours_8"] is None
