"""The choice between keeping, swapping and recomputing: the paper's rule at full price, nothing at none."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm.engine.torch.cost_curves import CostCurve, CostCurves
from asynclm.engine.torch.kv_policy import (
    FREE_PRESSURE,
    FULL_PRESSURE,
    UNKNOWN_WAIT_MS,
    Action,
    AutoPolicy,
    FixedPolicy,
    make_policy,
    price,
)
from asynclm.engine.torch.options import KV_POLICIES

numbers = st.floats(0, 1000, allow_nan=False)
curve = st.builds(CostCurve, numbers, st.floats(0, 5), st.floats(0, 0.01))
policies = st.builds(AutoPolicy, st.builds(CostCurves, curve, curve))
tokens = st.integers(1, 100_000)
waits = st.integers(0, 10_000_000)
pressures = st.floats(0, 2)

LLAMA_1B = AutoPolicy(
    CostCurves(recompute=CostCurve(6.5, 0.02, 9.1e-5), swap=CostCurve(30, 0.0047))  # read off the paper's figure 7
)


def paper(policy: AutoPolicy, n: int, w: int) -> Action:
    """The paper's rule (§5.4), written as it is printed."""
    recompute, swap = policy.curves.recompute(n), policy.curves.swap(n)
    if recompute >= w and swap >= w:
        return Action.KEEP
    return Action.RECOMPUTE if recompute < swap else Action.SWAP


@given(policies, tokens, waits)
def test_with_full_memory_the_rule_is_the_papers(policy: AutoPolicy, n: int, w: int) -> None:
    assert policy.decide(n, w, FULL_PRESSURE) is paper(policy, n, w)
    assert policy.decide(n, w, 1.0) is paper(policy, n, w)


@given(policies, tokens, st.none() | waits, st.floats(0, FREE_PRESSURE))
def test_with_memory_to_spare_everything_is_kept(policy: AutoPolicy, n: int, w: int | None, pressure: float) -> None:
    assert policy.decide(n, w, pressure) is Action.KEEP


@given(policies, tokens, waits, waits, pressures)
def test_what_is_dropped_for_a_wait_is_dropped_for_a_longer_one(
    policy: AutoPolicy, n: int, w: int, more: int, pressure: float
) -> None:
    if policy.decide(n, w, pressure) is not Action.KEEP:
        assert policy.decide(n, w + more, pressure) is policy.decide(n, w, pressure)


@given(policies, tokens, st.none() | waits, pressures, pressures)
def test_what_is_dropped_under_a_pressure_is_dropped_under_a_higher_one(
    policy: AutoPolicy, n: int, w: int | None, pressure: float, more: float
) -> None:
    if policy.decide(n, w, pressure) is not Action.KEEP:
        assert policy.decide(n, w, pressure + more) is policy.decide(n, w, pressure)


@given(policies, tokens, st.none() | waits, pressures)
def test_what_is_given_up_comes_back_the_cheaper_way(
    policy: AutoPolicy, n: int, w: int | None, pressure: float
) -> None:
    action = policy.decide(n, w, pressure)
    assert action in (Action.KEEP, policy.evict(n))
    cost = {Action.RECOMPUTE: policy.curves.recompute(n), Action.SWAP: policy.curves.swap(n)}
    assert cost[policy.evict(n)] == min(cost.values()) == policy.return_ms(n)


@given(policies, tokens, pressures)
def test_an_unknown_wait_is_the_published_one(policy: AutoPolicy, n: int, pressure: float) -> None:
    assert policy.decide(n, None, pressure) is policy.decide(n, UNKNOWN_WAIT_MS, pressure)


@given(policies, tokens, st.integers(max_value=-1), pressures)
def test_a_wait_that_is_over_keeps(policy: AutoPolicy, n: int, w: int, pressure: float) -> None:
    assert policy.decide(n, w, pressure) is Action.KEEP


@given(pressures, pressures)
def test_the_price_of_memory_rises_with_the_pressure(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= price(low) <= price(high) <= 1


@pytest.mark.parametrize(("pressure", "expected"), [(0.0, 0.0), (FREE_PRESSURE, 0.0), (FULL_PRESSURE, 1.0), (3.0, 1.0)])
def test_the_price_at_its_corners(pressure: float, expected: float) -> None:
    assert price(pressure) == expected


@pytest.mark.parametrize(
    ("n", "wait", "pressure", "action"),
    [
        (300, 100, 1.0, Action.RECOMPUTE),  # the paper's own check: w = 100 ms, n = 300 on the 1B model
        (600, 100, 1.0, Action.SWAP),
        (600, 30, 1.0, Action.KEEP),
        (600, 100, 0.5, Action.KEEP),
        (600, 100, 0.6, Action.KEEP),  # a quarter of the price: 25 ms of waiting against 32 of return
        (600, 200, 0.7, Action.SWAP),  # half of it: 100 against 32
    ],
)
def test_the_papers_figure_7(n: int, wait: int, pressure: float, action: Action) -> None:
    assert LLAMA_1B.decide(n, wait, pressure) is action


@given(st.sampled_from(list(Action)), tokens, st.none() | waits, pressures)
def test_a_fixed_policy_is_fixed(action: Action, n: int, w: int | None, pressure: float) -> None:
    assert FixedPolicy(action).decide(n, w, pressure) is action


def test_memory_is_given_up_the_policys_way_and_dropped_where_it_says_keep() -> None:
    assert FixedPolicy(Action.KEEP).evict(100) is Action.RECOMPUTE
    assert FixedPolicy(Action.SWAP).evict(100) is Action.SWAP
    assert FixedPolicy(Action.RECOMPUTE).evict(100) is Action.RECOMPUTE


def test_every_policy_of_the_options_can_be_made() -> None:
    for name in KV_POLICIES:
        policy = make_policy(name, LLAMA_1B.curves)
        assert policy == (LLAMA_1B if name == "auto" else FixedPolicy(Action(name)))
    with pytest.raises(ValueError, match="kv_policy is 'lru'; allowed: auto, keep, swap, recompute"):
        make_policy("lru")
    with pytest.raises(ValueError, match="measured costs"):
        make_policy("auto")


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["base", "linear", "quadratic"])
def test_a_curve_never_falls(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match=name):
        CostCurve(**cast("dict[str, float]", {"base": 1.0, name: bad}))


@given(curve, tokens, tokens)
def test_a_longer_context_never_costs_less(c: CostCurve, n: int, more: int) -> None:
    assert c(n) <= c(n + more)


@given(
    st.lists(st.tuples(st.integers(1, 10_000), st.floats(0.01, 1e5)), min_size=1, max_size=8), st.sampled_from([1, 2])
)
def test_a_fit_of_any_times_is_a_curve_that_never_falls(samples: list[tuple[int, float]], degree: int) -> None:
    fitted = CostCurve.fit(samples, degree=degree)
    assert min(fitted.base, fitted.linear, fitted.quadratic) >= 0
    assert degree == 2 or fitted.quadratic == 0


@given(st.floats(1, 100), st.floats(0.01, 2), st.floats(1e-5, 1e-2))
def test_a_fit_of_exact_times_finds_them_again(base: float, linear: float, quadratic: float) -> None:
    wanted = CostCurve(base, linear, quadratic)
    found = CostCurve.fit([(n, wanted(n)) for n in (32, 64, 128, 256, 512, 1024)], degree=2)
    for n in (1, 100, 1000, 4000):
        assert found(n) == pytest.approx(wanted(n), rel=1e-4)


@pytest.mark.parametrize("samples", [[], [(10, 0.0)], [(10, -1.0)], [(10, float("nan"))]])
def test_a_fit_needs_times(samples: list[tuple[int, float]]) -> None:
    with pytest.raises(ValueError, match="samples"):
        CostCurve.fit(samples, degree=1)


@pytest.mark.parametrize(
    ("text", "of"),
    [
        ("0 ms", CostCurve(0)),
        ("2.1 ms", CostCurve(2.1)),
        ("2.1 ms + 0.45 ms/token + 0.0003 ms/token²", CostCurve(2.1, 0.45, 0.0003)),
    ],
)
def test_a_curve_reads_well(text: str, of: CostCurve) -> None:
    assert str(of) == text


@given(st.builds(CostCurves, curve, curve))
def test_curves_survive_json(curves: CostCurves) -> None:
    assert CostCurves.from_json(curves.to_json()) == curves


GOOD = {"base": 1.0, "linear": 0.5, "quadratic": 0.0}


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {},
        {"recompute": GOOD},
        {"recompute": GOOD, "swap": 3},
        {"recompute": GOOD, "swap": {"base": 1.0}},
        {"recompute": GOOD, "swap": {**GOOD, "cubic": 1.0}},
        {"recompute": GOOD, "swap": {**GOOD, "base": "1"}},
        {"recompute": GOOD, "swap": {**GOOD, "base": True}},
        {"recompute": {**GOOD, "linear": -1.0}, "swap": GOOD},
    ],
)
def test_curves_of_another_form_are_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"must be|recompute|swap"):
        CostCurves.from_json(bad)
