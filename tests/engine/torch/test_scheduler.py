"""Steps hold what they may and starve nobody, whatever is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm.engine.base import SequenceId
from asynclm.engine.torch.scheduler import LONG_SHARE, Candidate, Scheduler, StepLimits


def candidates(*pending: int, places: Sequence[int] = range(1, 100)) -> list[Candidate]:
    return [Candidate(SequenceId(n), p, place) for n, (p, place) in enumerate(zip(pending, places, strict=False))]


def plan(limits: StepLimits, *pending: int, places: Sequence[int] = range(1, 100)) -> dict[int, int]:
    step = Scheduler(limits).plan(candidates(*pending, places=places))
    return {int(number): tokens for number, tokens in step.tokens.items()}


LIMITS = StepLimits(max_batch=4, step_tokens=100, chunk=16)


def test_decode_steps_take_a_token_each() -> None:
    assert plan(LIMITS, 1, 1, 1) == {0: 1, 1: 1, 2: 1}


def test_a_long_prompt_alone_takes_the_whole_step() -> None:
    assert plan(LIMITS, 500) == {0: 100}
    assert plan(LIMITS, 60, 500) == {0: 60, 1: 40}


def test_a_long_prompt_beside_decode_steps_takes_a_chunk() -> None:
    assert plan(LIMITS, 1, 500, 500) == {0: 1, 1: 16}


def test_an_interrupt_goes_before_a_long_prompt_which_goes_on() -> None:
    """The interrupt came later; the prompt still gets its share."""
    assert plan(LIMITS, 1, 500, 14, places=[8, 1, 9]) == {0: 1, 1: 16 // LONG_SHARE, 2: 14}
    assert plan(LIMITS, 1, 500, 3, places=[8, 1, 9]) == {0: 1, 1: 13, 2: 3}


def test_a_prompt_takes_what_decode_steps_leave() -> None:
    limits = StepLimits(max_batch=12, step_tokens=20, chunk=16)
    assert plan(limits, 500, *[1] * 8) == {0: 12, **dict.fromkeys(range(1, 9), 1)}


def test_where_one_takes_part_at_a_time_a_prompt_takes_turns_with_the_others() -> None:
    scheduler = Scheduler(StepLimits(max_batch=1, step_tokens=100, chunk=16))
    prompt, running = SequenceId(0), SequenceId(1)
    first, place = scheduler.draw(), scheduler.draw()
    took_part = []
    for _ in range(6):
        step = scheduler.plan([Candidate(prompt, 500, first), Candidate(running, 1, place)])
        scheduler.done(step)
        (number,) = step.tokens
        if number == running:
            place = scheduler.draw()
        took_part.append(int(number))
    assert took_part == [0, 1, 0, 1, 0, 1]


def test_interrupts_beside_no_decode_step_all_go_at_once() -> None:
    assert plan(LIMITS, 16, 15, 14) == {0: 16, 1: 15, 2: 14}
    assert plan(LIMITS, 16, 15, 1) == {0: 16, 2: 1}


def test_the_batch_is_bounded_and_the_least_recently_served_are_in_it() -> None:
    assert set(plan(LIMITS, 1, 1, 1, 1, 1, 1, places=[6, 5, 4, 3, 2, 1])) == {2, 3, 4, 5}


def test_long_prompts_are_prefilled_one_after_another() -> None:
    scheduler = Scheduler(StepLimits(max_batch=8, step_tokens=40, chunk=16))
    pending = [100, 99, 98]
    finished = []
    for now in range(8):
        step = scheduler.plan([c for c in candidates(*pending) if c.pending])
        scheduler.done(step)
        for number, length in step.tokens.items():
            pending[number] -= length
            if not pending[number]:
                finished.append((int(number), now))
    assert finished == [(0, 2), (1, 4), (2, 7)]


@pytest.mark.parametrize("name", ["max_batch", "step_tokens", "chunk"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        StepLimits(**{name: 0})


limits = st.builds(StepLimits, max_batch=st.integers(1, 6), step_tokens=st.integers(1, 80), chunk=st.integers(1, 20))


@given(limits, st.lists(st.tuples(st.integers(1, 120), st.integers(0, 9)), min_size=1, max_size=12))
def test_a_step_is_within_its_limits(limits: StepLimits, work: list[tuple[int, int]]) -> None:
    asked = candidates(*(p for p, _ in work), places=[t for _, t in work])
    step = Scheduler(limits).plan(asked).tokens
    assert 0 < len(step) <= limits.max_batch
    assert 0 < sum(step.values()) <= limits.step_tokens
    pending = {c.number: c.pending for c in asked}
    assert all(0 < length <= pending[number] for number, length in step.items())
    long = sum(length for number, length in step.items() if pending[number] > limits.chunk)
    if any(p <= limits.chunk for p, _ in work):
        assert long <= limits.chunk
    if any(p == 1 for p, _ in work):
        prefill = sum(length for number, length in step.items() if pending[number] > 1)
        assert prefill <= limits.chunk + max(1, limits.chunk // LONG_SHARE)


@given(limits, st.lists(st.integers(1, 120), min_size=1, max_size=10), st.data())
def test_nobody_starves(limits: StepLimits, first: list[int], data: st.DataObject) -> None:
    """Whoever is asked for gets its token within the steps that all others' work, once round, can take.

    Sequences are interrupted at any time, and always have something to do.
    """
    scheduler = Scheduler(limits)
    pending = dict(enumerate(first))
    places = {number: scheduler.draw() for number in pending}
    waited = dict.fromkeys(pending, 0)
    share = max(1, min(limits.chunk, limits.step_tokens) // LONG_SHARE)
    longest = 120 + 40
    bound = 2 * len(first) * (longest // share + 1)
    for _ in range(60):
        step = scheduler.plan([Candidate(SequenceId(n), p, places[n]) for n, p in pending.items()])
        scheduler.done(step)
        for number in pending:
            waited[number] += 1
        for number, length in step.tokens.items():
            pending[number] -= length
            if pending[number] == 0:
                pending[number] = 1 + data.draw(st.sampled_from([0, 0, 0, 3, 40]))
                places[number], waited[number] = scheduler.draw(), 0
        assert max(waited.values()) <= bound


@given(limits, st.integers(1, 20))
def test_decoding_sequences_take_turns(limits: StepLimits, count: int) -> None:
    """Exactly: with nothing else to do, nobody gets a second token before everybody had one."""
    scheduler = Scheduler(limits)
    batch = min(limits.max_batch, limits.step_tokens, count)
    places = {SequenceId(n): scheduler.draw() for n in range(count)}
    got = dict.fromkeys(places, 0)
    for _ in range(3 * count):
        step = scheduler.plan([Candidate(n, 1, place) for n, place in places.items()])
        assert len(step.tokens) == batch
        scheduler.done(step)
        for number in step.tokens:
            places[number] = scheduler.draw()
            got[number] += 1
        assert max(got.values()) - min(got.values()) <= 1


@given(st.integers(1, 8), st.integers(2, 400), st.integers(1, 40))
def test_running_sequences_never_wait_for_a_prompt(decoding: int, prompt: int, chunk: int) -> None:
    """With room in the batch, a long prompt costs the others no step, and in each no more than a chunk."""
    scheduler = Scheduler(StepLimits(max_batch=decoding + 1, step_tokens=512, chunk=chunk))
    running = {SequenceId(n): scheduler.draw() for n in range(decoding)}
    late = SequenceId(decoding)
    place = scheduler.draw()
    left = prompt
    while left:
        step = scheduler.plan([*(Candidate(n, 1, p) for n, p in running.items()), Candidate(late, left, place)])
        scheduler.done(step)
        assert all(step.tokens[number] == 1 for number in running)
        assert 0 < step.tokens[late] <= chunk
        running = {number: scheduler.draw() for number in running}
        left -= step.tokens[late]
