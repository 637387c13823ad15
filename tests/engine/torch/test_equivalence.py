"""On real weights: equal to transformers, to a fresh prefill after any interruption, and to decoding alone.

Each check is made on token ids and on the logits behind them: a wrong position or KV row moves every logit, but seldom
the largest. The last tests inject such faults and see each check fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from asynclm.engine.base import SamplingParams
from asynclm.engine.torch import model as model_module
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.model import Chunk, LlamaModel
from asynclm.engine.torch.sampler import Sampler
from asynclm.prompt.hf_tokenizer import HfTokenizer

pytestmark = pytest.mark.weights

FLOAT32_TOLERANCE = 5e-4
"""Largest difference of logits in float32; their largest is about 40. Seen over 2,400 positions: 1.6e-4. Each fault
that the tests inject moves some logit by more than 0.1."""

BFLOAT16_FLIP_MARGIN = 0.5
"""Largest gap, in transformers' own logits, between its best token and ours where the two differ in bfloat16: four
units in the last place of a logit between 16 and 32. Seen over 1,040 positions: 11 flips, gaps of 0.125 and 0.25."""

PROMPTS = (
    "Write a story about a lighthouse keeper who finds a letter in a bottle.",
    "List ten European capitals and one sentence about each.",
    "def fibonacci(n):\n    '''Returns the first n Fibonacci numbers.'''\n",
    "Expliquez la photosynthèse à un enfant de dix ans, s'il vous plaît. 🌱",
    '{"name": "send_email", "arguments": {"to": "ada@example.org", "subject": "',
    "What is 17 * 23? Think step by step, then say the answer once more.",
    "To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer",
    "Q: Why does the moon always show the same face?\nA:",
)
SAMPLED = SamplingParams(temperature=0.9, top_k=50, top_p=0.95, min_p=0.01, seed=11)


@pytest.fixture(scope="module")
def prompts(smollm2_tokenizer: HfTokenizer) -> list[list[int]]:
    """The prompts as chat turns, with the special tokens of ChatML around them."""
    start, end = (smollm2_tokenizer.special_id(s) for s in ("<|im_start|>", "<|im_end|>"))
    encode = smollm2_tokenizer.encode
    return [[start, *encode("user\n" + p), end, *encode("\n"), start, *encode("assistant\n")] for p in PROMPTS]


@pytest.fixture(scope="module")
def interrupt(smollm2_tokenizer: HfTokenizer) -> list[int]:
    """An interrupt frame with control tokens, as the session machine injects it."""
    intr, head, end = (smollm2_tokenizer.special_id(s) for s in ("<jupyter_output>", "<filename>", "<file_sep>"))
    encode = smollm2_tokenizer.encode
    return [intr, *encode("weather"), head, *encode('{"city": "Oslo", "celsius": -4.5, "wind": "N"}'), end]


@pytest.fixture
def driver(smollm2_float32: LlamaModel, smollm2_tokenizer: HfTokenizer, make_engine: Any, drive: Any) -> Any:
    """An engine in float32, and the traces of its sequences."""
    return drive(make_engine(smollm2_float32, smollm2_tokenizer))


def check_reference(trace: Any, reference: Callable[[Sequence[int]], torch.Tensor], params: SamplingParams) -> int:
    """Every sampled token is the one that transformers' logits give, from the same ids; returns their number."""
    expected = reference(trace.ids)[[place - 1 for place in trace.sampled]]
    torch.testing.assert_close(torch.stack(trace.logits), expected, atol=FLOAT32_TOLERANCE, rtol=0)
    sampler = Sampler(params)
    wanted = [
        sampler.choose(logits.numpy(), trace.ids[:place], None)
        for logits, place in zip(expected, trace.sampled, strict=True)
    ]
    assert trace.tokens == wanted
    return len(trace.sampled)


def check_same(trace: Any, expected: Any) -> None:
    """The last tokens of a sequence are those of `expected`, a sequence of the same ids in the end."""
    count = len(expected.sampled)
    assert trace.ids == expected.ids
    ours, theirs = torch.stack(trace.logits[-count:]), torch.stack(expected.logits)
    torch.testing.assert_close(ours, theirs, atol=FLOAT32_TOLERANCE, rtol=0)


def interrupted(driver: Any, prompt: list[int], interrupt: list[int], *, after: Sequence[int], tokens: int) -> None:
    """Interrupts sequence `k` after its token `after[k]` and compares what follows with a fresh prefill.

    All sequences decode in one batch, which the interrupted ones leave after `tokens` more tokens. The frames have
    all lengths from one id up, and one is longer than a step prefills.
    """
    running = {driver.open(prompt): place for place in after}
    prefixes = {}
    while running:
        for sequence, place in running.items():
            if len(driver.traces[sequence].sampled) == place and sequence not in prefixes:
                frame = interrupt[: 1 + place % len(interrupt)]
                driver.append(sequence, frame * 12 if place % 26 == 25 else frame)
                prefixes[sequence] = list(driver.traces[sequence].ids)
        driver.step(*running)
        for sequence in [s for s, place in running.items() if len(driver.traces[s].sampled) == place + tokens]:
            del running[sequence]
            driver.close(sequence)
    fresh = {sequence: driver.open(prefix) for sequence, prefix in prefixes.items()}
    driver.sample(tokens, *fresh.values())
    for sequence, again in fresh.items():
        check_same(driver.traces[sequence], driver.traces[again])


def test_tokens_and_logits_equal_transformers(
    driver: Any, prompts: list[list[int]], interrupt: list[int], transformers_float32: Any
) -> None:
    """Sequences of many lengths, greedy and seeded, join one batch at different steps; one is interrupted thrice."""
    sequences: list[tuple[Any, SamplingParams]] = []
    for number, prompt in enumerate(prompts):
        params = SAMPLED if number % 2 else SamplingParams()
        sequences.append((driver.open(prompt, params), params))
        driver.sample(5, *(sequence for sequence, _ in sequences))
        if number % 3 == 0:
            driver.append(sequences[0][0], interrupt)
    driver.sample(240, *(sequence for sequence, _ in sequences))
    positions = sum(check_reference(driver.traces[s], transformers_float32, params) for s, params in sequences)
    assert positions >= 2000


def test_interrupted_anywhere_it_goes_on_like_a_fresh_prefill(
    driver: Any, prompts: list[list[int]], interrupt: list[int]
) -> None:
    interrupted(driver, prompts[0], interrupt, after=range(48), tokens=6)


def test_sequences_in_one_batch_give_what_each_gives_alone(
    driver: Any, prompts: list[list[int]], interrupt: list[int]
) -> None:
    """Three sequences, joining and leaving at different steps; the second is interrupted, the third is seeded."""

    first, second, third = driver.open(prompts[0]), driver.open(prompts[1] * 3), None
    driver.sample(20, first, second)
    driver.append(second, interrupt)
    third = driver.open(prompts[2], SAMPLED)
    driver.sample(20, first, second, third)
    driver.close(first)
    driver.sample(20, second, third)
    together = [driver.traces[sequence] for sequence in (first, second, third)]
    driver.close(second, third)

    first, second, third = driver.open(prompts[0]), driver.open(prompts[1] * 3), driver.open(prompts[2], SAMPLED)
    driver.sample(40, first)
    driver.sample(20, second)
    driver.append(second, interrupt)
    driver.sample(40, second)
    driver.sample(40, third)
    for trace, sequence in zip(together, (first, second, third), strict=True):
        check_same(trace, driver.traces[sequence])


def test_bfloat16_differs_from_transformers_by_rounding_alone(
    smollm2_bfloat16: LlamaModel,
    smollm2_tokenizer: HfTokenizer,
    make_engine: Any,
    drive: Any,
    prompts: list[list[int]],
    interrupt: list[int],
    transformers_bfloat16: Any,
    transformers_float32: Any,
    record_property: Callable[[str, object], None],
) -> None:
    """Where the most probable token differs, transformers was all but undecided; and our error is not the larger."""
    driver = drive(make_engine(smollm2_bfloat16, smollm2_tokenizer))
    sequences = [driver.open(prompt) for prompt in prompts]
    driver.sample(40, *sequences)
    for sequence in sequences[:4]:
        driver.append(sequence, interrupt)
    driver.sample(90, *sequences)
    margins: list[float] = []
    ours_off, theirs_off = 0.0, 0.0
    for sequence in sequences:
        trace = driver.traces[sequence]
        rows = [place - 1 for place in trace.sampled]
        theirs, exact = transformers_bfloat16(trace.ids)[rows], transformers_float32(trace.ids)[rows]
        ours = torch.stack(trace.logits)
        ours_off += float((ours - exact).abs().mean())
        theirs_off += float((theirs - exact).abs().mean())
        chosen = theirs.gather(1, torch.tensor(trace.tokens)[:, None])[:, 0]
        margins += [float(gap) for gap in theirs.max(-1).values - chosen if gap > 0]
    record_property("flips", len(margins))
    record_property("largest_margin", max(margins, default=0.0))
    print(f"bfloat16: {len(margins)} flips of {130 * len(prompts)}, margins {sorted(margins)}")
    print(f"mean error of logits: ours {ours_off / len(prompts):.4f}, transformers {theirs_off / len(prompts):.4f}")
    assert max(margins, default=0.0) <= BFLOAT16_FLIP_MARGIN
    assert ours_off <= theirs_off * 1.1


# --- The checks fail when something is wrong ---------------------------------------------------------------------


def wrong_token(engine: TorchEngine, _: pytest.MonkeyPatch) -> None:
    """One injected id is another than the one asked for."""
    append = engine.append

    def faulty(sequence: Any, ids: Sequence[int]) -> None:
        append(sequence, [*ids[:-2], ids[-2] + 1, ids[-1]])

    engine.append = faulty  # type: ignore[method-assign]


def wrong_position(_: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One injected id stands one place further on than it should."""
    positions_of = model_module.positions_of

    def faulty(chunks: Sequence[Chunk]) -> list[int]:
        positions = positions_of(chunks)
        if chunks[0].start and len(chunks[0].ids) > 1:
            positions[1] += 1
        return positions

    monkeypatch.setattr(model_module, "positions_of", faulty)


def wrong_row(engine: TorchEngine, _: pytest.MonkeyPatch, values: int = 0) -> None:
    """When ids are injected, one earlier row of one layer's keys is lost."""
    append = engine.append

    def faulty(sequence: Any, ids: Sequence[int]) -> None:
        state = engine._sequences[sequence]
        state.cache.rows[15, values, :, state.computed - 3] = 0
        append(sequence, ids)

    engine.append = faulty  # type: ignore[method-assign]


def wrong_value_row(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with the values."""
    wrong_row(engine, monkeypatch, values=1)


def no_fault(*_: object) -> None:
    """The control: nothing is wrong."""


@pytest.mark.parametrize("fault", [no_fault, wrong_token, wrong_position, wrong_row, wrong_value_row])
def test_the_checks_catch(
    fault: Callable[..., None],
    driver: Any,
    prompts: list[list[int]],
    interrupt: list[int],
    transformers_float32: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(driver.engine, monkeypatch)
    sequence = driver.open(prompts[0])
    driver.sample(4, sequence)
    driver.append(sequence, interrupt)
    driver.sample(4, sequence)
    checks = (
        lambda: interrupted(driver, prompts[0], interrupt, after=[12], tokens=4),
        lambda: check_reference(driver.traces[sequence], transformers_float32, SamplingParams()),
    )
    for check in checks:
        if fault is no_fault:
            check()
        else:
            with pytest.raises(AssertionError):
                check()
