"""Sampling: transformers' rules for what is kept and penalised, the right frequencies, masks as bits, seeds, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asynclm.engine.base import Bits, SamplingParams, ScoredId
from asynclm.engine.torch import sampler as sampling
from asynclm.engine.torch.choice import Choice, ChoiceRequest, best_ids, choose_many, not_finite
from asynclm.engine.torch.sampler import Sampler, allows, check_mask, uniform, unpack_mask, weigh

SMALL = torch.randn(500, generator=torch.Generator().manual_seed(4)) * 3
LARGE = torch.randn(49_152, generator=torch.Generator().manual_seed(5)) * 3
TIED = SMALL.to(torch.bfloat16).float().repeat(20)


def bits(vocabulary: int, *ids: int) -> Bits:
    words = np.zeros(-(-vocabulary // 32), dtype=np.uint32)
    for token in ids:
        words[token // 32] |= np.uint32(1 << token % 32)
    return words


def kept(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The probabilities that are sampled from, 0 for what is dropped."""
    weights, places = weigh(logits.numpy(), params)
    full = torch.zeros(len(logits), dtype=torch.float64)
    full[slice(None) if places is None else torch.from_numpy(places)] = torch.from_numpy(weights).double()
    return full / full.sum()


def of_transformers(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = TemperatureLogitsWarper(params.temperature)(None, logits[None])
    if params.top_k:
        scores = TopKLogitsWarper(params.top_k)(None, scores)
    if params.top_p < 1:
        scores = TopPLogitsWarper(params.top_p)(None, scores)
    if params.min_p:
        scores = MinPLogitsWarper(params.min_p)(None, scores)
    return scores[0].double().softmax(-1)


SETTINGS = [
    {"temperature": 0.5},
    {"temperature": 1.3, "top_k": 7},
    {"top_k": 1000},
    {"top_k": 100_000},
    {"top_p": 0.8},
    {"top_p": 0.99},
    {"temperature": 2.0, "top_p": 0.01},
    {"temperature": 4.0, "top_p": 0.95},
    {"min_p": 0.05},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.1},
    {"temperature": 3.0, "top_k": 5000, "top_p": 0.7},
]

# --- what is kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("logits", [SMALL, LARGE], ids=["500", "49152"])
def test_what_is_kept_is_what_transformers_keeps(logits: torch.Tensor, settings: dict[str, Any]) -> None:
    """[SES-110]: the same tokens, with the same probabilities."""
    params = SamplingParams(**{"temperature": 1.0, **settings})
    ours, theirs = kept(logits, params), of_transformers(logits, params)
    assert torch.equal(ours > 0, theirs > 0)
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-12)


@pytest.mark.parametrize(
    "settings", [{"top_k": 30}, {"top_k": 30, "min_p": 0.2}, {"temperature": 0.7, "top_k": 1}], ids=str
)
def test_what_ties_with_the_last_stays(settings: dict[str, Any]) -> None:
    params = SamplingParams(**{"temperature": 1.0, **settings})
    ours = kept(TIED, params)
    assert torch.equal(ours > 0, of_transformers(TIED, params) > 0)
    assert int((ours > 0).sum()) % 20 == 0


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9, 0.999])
def test_of_what_ties_at_the_edge_of_the_mass_as_many_stay(share: float) -> None:
    params = SamplingParams(temperature=1.0, top_p=share)
    ours = kept(TIED, params)
    assert int((ours > 0).sum()) == int((of_transformers(TIED, params) > 0).sum())


@given(
    st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=40),
    st.floats(0, 5, exclude_min=True),
    st.integers(0, 50),
    st.floats(0, 1, exclude_min=True),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 2**40),
)
def test_whatever_is_asked_something_likely_is_drawn(
    values: list[float], temperature: float, top_k: int, top_p: float, min_p: float, point: float, seed: int
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    logits = np.array(values, np.float32)
    before = logits.copy()
    weights, places = weigh(logits, params)
    assert weights.max() == 1.0
    assert np.isfinite(weights).all()
    chosen = Sampler(params).choose(logits, range(seed % 9), None)
    full = np.zeros(len(logits))
    full[slice(None) if places is None else places] = weights
    assert full[chosen] > 0
    assert np.array_equal(logits, before)


def test_levels_and_sorting_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way for many tokens keeps what the way for few keeps."""
    for temperature in (0.1, 1.0, 5.0):
        for share in (0.001, 0.5, 0.9, 0.999999, 1 - 1e-12):
            params = SamplingParams(temperature=temperature, top_p=share)
            by_level = kept(LARGE, params)
            with monkeypatch.context() as patch:
                patch.setattr(sampling, "FEW", len(LARGE))
                assert torch.equal(by_level, kept(LARGE, params))


# --- penalties -----------------------------------------------------------------------------------------------------


def penalised(
    params: SamplingParams, ids: Sequence[int], sampled: Sequence[int] = (), special: Sequence[int] = ()
) -> Any:
    chooser = Sampler(params, frozenset(special))
    for token in sampled:
        chooser.took(token)
    assert chooser._penalties is not None
    return torch.from_numpy(chooser._penalties.apply(SMALL.numpy(), ids))


@pytest.mark.parametrize("penalty", [0.5, 1.2, 3.0])
def test_the_repetition_penalty_is_transformers(penalty: float) -> None:
    """[SES-114]: over the whole context, whoever wrote it."""
    from transformers import RepetitionPenaltyLogitsProcessor

    ids = [3, 3, 77, 400, 12, 77]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), SMALL[None].clone())[0]
    torch.testing.assert_close(penalised(SamplingParams(repetition_penalty=penalty), ids), expected)


def test_presence_and_frequency_count_what_was_sampled() -> None:
    """[SES-114]."""
    params = SamplingParams(presence_penalty=0.5, frequency_penalty=0.25)
    expected = SMALL.clone()
    expected[7] -= 0.5 + 3 * 0.25
    expected[9] -= 0.5 + 0.25
    torch.testing.assert_close(penalised(params, [1, 2, 3, 7, 9], [7, 9, 7, 7]), expected)


def test_special_tokens_are_spared() -> None:
    """[SES-113]: a model that has written blocks can close the next one."""
    params = SamplingParams(repetition_penalty=2.0, presence_penalty=1.0, frequency_penalty=1.0)
    assert torch.equal(penalised(params, [5, 6, 5], [5, 6], special=[5, 6]), SMALL)


def test_penalties_follow_a_growing_context() -> None:
    grown = Sampler(SamplingParams(repetition_penalty=1.5, frequency_penalty=1.0))
    ids = [1, 2]
    for token in (9, 9, 4):
        grown.choose(SMALL.numpy(), ids, None)
        ids += [token, 300]
        grown.took(token)
    fresh = penalised(SamplingParams(repetition_penalty=1.5, frequency_penalty=1.0), ids, [9, 9, 4])
    assert grown._penalties is not None
    assert torch.equal(torch.from_numpy(grown._penalties.apply(SMALL.numpy(), ids)), fresh)


def test_a_greedy_choice_is_penalised_too() -> None:
    logits = np.array([3.0, 2.0, 1.0], np.float32)
    assert Sampler(SamplingParams(repetition_penalty=2.0)).choose(logits, [0], None) == 1


# --- drawing -------------------------------------------------------------------------------------------------------


def test_frequencies_are_the_probabilities() -> None:
    logits = np.array([0.0, 0.0, 2.0, 1.0, -3.0], np.float32)
    chooser, mask = Sampler(SamplingParams(temperature=1.0, seed=9)), bits(5, 0, 2, 3, 4)
    drawn = np.bincount([chooser.choose(logits, range(n), mask) for n in range(4000)], minlength=5) / 4000
    expected = torch.tensor([0.0, -torch.inf, 2.0, 1.0, -3.0]).softmax(-1).numpy()
    assert drawn[1] == 0
    assert np.abs(drawn - expected).max() < 4 * 0.5 / 4000**0.5  # four standard deviations of the widest


def test_random_numbers_are_even_over_places_and_seeds() -> None:
    """[SES-112]."""
    for points in (
        [uniform(3, place) for place in range(20_000)],
        [uniform(seed, 7) for seed in range(-10_000, 10_000)],
        [uniform(n, n) for n in range(20_000)],
    ):
        assert all(0 <= point < 1 for point in points)
        counts = np.histogram(points, 100, (0, 1))[0]
        assert ((counts - 200) ** 2 / 200).sum() < 100 + 5 * 200**0.5  # chi-squared with 99 degrees of freedom
        assert abs(np.corrcoef(points[:-1], points[1:])[0, 1]) < 5 / 20_000**0.5


def test_the_seed_and_the_place_decide() -> None:
    """[SES-112]: and how often it is asked does not."""

    def draw(seed: int, start: int = 0) -> list[int]:
        chooser = Sampler(SamplingParams(temperature=1.0, seed=seed))
        return [chooser.choose(SMALL.numpy(), range(place), None) for place in range(start, 20)]

    assert draw(1) == draw(1)
    assert draw(1)[5:] == draw(1, start=5)
    assert draw(1) != draw(2)
    assert draw(-1) == draw(2**64 - 1)


def test_greedy_takes_the_first_of_the_best() -> None:
    """[SES-115]."""
    logits = np.array([1.0, 3.0, 3.0], np.float32)
    assert Sampler(SamplingParams()).choose(logits, [], None) == 1
    assert Sampler(SamplingParams()).choose(logits, [], bits(3, 0, 2)) == 2


@pytest.mark.parametrize("top_k", [0, 2])
def test_rounding_never_picks_a_forbidden_last_token(monkeypatch: pytest.MonkeyPatch, top_k: int) -> None:
    monkeypatch.setattr(sampling, "uniform", lambda *_: 1.0)
    logits = np.array([1.0, 2.0, 3.0], np.float32)
    params = SamplingParams(temperature=1.0, top_k=top_k)
    assert Sampler(params).choose(logits, [], bits(3, 0, 1)) == 1
    monkeypatch.setattr(sampling, "FEW", 0)
    assert Sampler(params).choose(logits, [], bits(3, 0, 1)) in (0, 1)


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-9, 1e-3])
def test_the_smallest_temperatures_are_greedy(temperature: float) -> None:
    chooser = Sampler(SamplingParams(temperature=temperature))
    assert {chooser.choose(SMALL.numpy(), range(n), None) for n in range(9)} == {int(SMALL.argmax())}


# --- masks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 263])
def test_bits_are_read_as_the_seam_says(vocabulary: int) -> None:
    allowed = np.random.default_rng(vocabulary).random(vocabulary) < 0.5
    allowed[-1] = True
    words = bits(vocabulary, *np.flatnonzero(allowed).tolist())
    check_mask(words, vocabulary)
    assert unpack_mask(words, vocabulary).tolist() == allowed.tolist()
    assert [allows(words, token) for token in range(vocabulary)] == allowed.tolist()


@pytest.mark.parametrize("vocabulary", [32, 33, 64])
def test_bits_beyond_the_vocabulary_do_not_count(vocabulary: int) -> None:
    words = np.zeros(-(-vocabulary // 32), np.uint32)
    with pytest.raises(ValueError, match="allows no token"):
        check_mask(words, vocabulary)
    words[-1] = 1 << (vocabulary - 1) % 32
    check_mask(words, vocabulary)
    if vocabulary % 32:
        with pytest.raises(ValueError, match="allows no token"):
            check_mask(words << np.uint32(1), vocabulary)


@pytest.mark.parametrize("wrong", [np.ones(3, np.uint32), np.ones(2, np.int32), np.ones((1, 2), np.uint32)])
def test_masks_of_another_shape(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"allowed: \(2,\) of uint32"):
        check_mask(wrong, 64)


@pytest.mark.parametrize("few", [0, 1 << 20], ids=["filled", "gathered"])
@pytest.mark.parametrize("settings", [{}, *SETTINGS], ids=str)
def test_only_what_the_mask_allows_is_chosen(
    monkeypatch: pytest.MonkeyPatch, few: int, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(sampling, "FEW", few)
    allowed = [int(token) for token in SMALL.argsort()[100:130]]
    params = SamplingParams(**settings) if not settings else SamplingParams(**{"temperature": 1.0, **settings})
    chooser, mask = Sampler(params), bits(500, *allowed)
    drawn = {chooser.choose(SMALL.numpy(), range(n), mask) for n in range(60)}
    assert drawn <= set(allowed)
    best = max(allowed, key=lambda token: float(SMALL[token]))
    assert drawn == {best} if not settings else best in drawn


# --- a whole step --------------------------------------------------------------------------------------------------

ROWS = torch.randn(6, 700, generator=torch.Generator().manual_seed(8)) * 2
REQUESTS = [
    ChoiceRequest(Sampler(SamplingParams()), [1]),
    ChoiceRequest(Sampler(SamplingParams(temperature=1.0, seed=4, logprobs=True, top_logprobs=3)), [1, 2]),
    ChoiceRequest(Sampler(SamplingParams(logprobs=True)), [], bits(700, 5, 6)),
    ChoiceRequest(Sampler(SamplingParams(temperature=0.5, top_p=0.5)), [], bits(700, 9, 8)),
    ChoiceRequest(Sampler(SamplingParams(repetition_penalty=1.3, logprobs=True, top_logprobs=20)), [3, 4]),
    ChoiceRequest(Sampler(SamplingParams(logprobs=True)), [3, 4], None, 650),
]


def choose(rows: torch.Tensor, requests: Sequence[ChoiceRequest]) -> list[Choice]:
    return choose_many(rows, best_ids(rows), requests)


def test_a_row_gets_what_it_gets_alone() -> None:
    """[SES-111]."""
    before = ROWS.clone()
    together = choose(ROWS, REQUESTS)
    alone = [choose(row[None], [request])[0] for row, request in zip(ROWS, REQUESTS, strict=True)]
    assert together == alone
    assert torch.equal(ROWS, before)
    assert choose(ROWS[:0], []) == []


def test_scores_are_the_models_own() -> None:
    """[WIRE-062], [WIRE-063]: before penalties, mask and temperature."""
    for row, request, choice in zip(ROWS, REQUESTS, choose(ROWS, REQUESTS), strict=True):
        params = request.sampler.params
        if not params.logprobs:
            assert (choice.logprob, choice.rank, choice.top) == (None, None, ())
            continue
        logprobs = row.log_softmax(-1)
        assert choice.logprob == pytest.approx(float(logprobs[choice.token_id]), abs=1e-5)
        order = logprobs.argsort(descending=True).tolist()
        assert choice.rank == order.index(choice.token_id) + 1
        assert [scored.token_id for scored in choice.top] == order[: params.top_logprobs]
        assert all(isinstance(scored, ScoredId) for scored in choice.top)
        assert [s.logprob for s in choice.top] == pytest.approx(
            logprobs[order[: params.top_logprobs]].tolist(), abs=1e-5
        )


def test_ranks_of_equals_are_equal() -> None:
    request = ChoiceRequest(Sampler(SamplingParams(logprobs=True)), [], None, 2)
    assert choose(torch.tensor([[1.0, 3.0, 3.0, 0.0]]), [request])[0].rank == 1


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_rows_that_are_not_finite_are_found(value: float) -> None:
    rows = ROWS.clone()
    assert not_finite(rows) == []
    rows[2, 699] = value
    rows[4, 0] = value
    assert not_finite(rows) == [2, 4]
