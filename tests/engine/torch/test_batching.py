"""On real weights: what else is in the batch, what memory there is and what becomes of a KV cache change no token.

Six sessions join and leave a batch at different steps, each interrupted once and suspended at times; every way of
running them is compared with each session alone, ids and logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from asynclm.engine.base import SamplingParams
from asynclm.engine.torch.kv_memory import KvMemory
from asynclm.engine.torch.kv_policy import Action, FixedPolicy
from asynclm.engine.torch.model import LlamaModel
from asynclm.engine.torch.prefix import PrefixStore
from asynclm.engine.torch.scheduler import StepLimits
from asynclm.engine.torch.swap import FileSwap
from asynclm.prompt.hf_tokenizer import HfTokenizer

pytestmark = pytest.mark.weights

TOLERANCE = 5e-4
"""Largest difference of logits in float32; see test_equivalence."""

BFLOAT16_FLIP_MARGIN = 0.5
"""See test_equivalence."""

SYSTEM = "You are a weather assistant. " + " ".join(
    f"Tool {n}: forecast_{n}(city: string, days: integer) returns the forecast of source number {n}." for n in range(6)
)
QUESTIONS = ("Hello!", "Rain in Oslo?", "A poem on rain.", "Bonjour, ça va ?", "17 * 23 =", "Why is snow white?")
TOKENS = 16
"""Sampled by each session."""

TURN = 5
"""Tokens that a sequence samples before others may have its memory; few, so that it changes hands often."""

TOKEN_BYTES = 30 * 2 * 3 * 64 * 4
"""Of the KV cache, in float32."""


@dataclass(frozen=True)
class Session:
    """What happens to a session, by the number of tokens it has: joins at a step, is interrupted after a token."""

    prompt: Sequence[int]
    params: SamplingParams
    joins: int
    interrupted: int
    frame: Sequence[int]


@pytest.fixture(scope="module")
def sessions(smollm2_tokenizer: HfTokenizer) -> list[Session]:
    start, end = (smollm2_tokenizer.special_id(s) for s in ("<|im_start|>", "<|im_end|>"))
    encode = smollm2_tokenizer.encode
    system = [start, *encode("system\n" + SYSTEM), end, *encode("\n")]
    frame = encode('{"city": "Oslo", "celsius": -4.5, "wind": "N"}')
    return [
        Session(
            prompt=[*system, start, *encode("user\n" + question), end, *encode("\n"), start, *encode("assistant\n")],
            params=SamplingParams(temperature=0.8, top_p=0.95, seed=n) if n % 2 else SamplingParams(),
            joins=3 * n,
            interrupted=2 + n,
            frame=frame[: 3 + 2 * n],
        )
        for n, question in enumerate(QUESTIONS)
    ]


@pytest.fixture(scope="module")
def alone(
    sessions: list[Session], smollm2_float32: LlamaModel, smollm2_tokenizer: HfTokenizer, make_engine: Any, drive: Any
) -> list[Any]:
    """Each session's trace when there is no other."""
    traces = []
    for session in sessions:
        driver = drive(make_engine(smollm2_float32, smollm2_tokenizer))
        sequence = driver.open(session.prompt, session.params)
        driver.sample(session.interrupted, sequence)
        driver.append(sequence, session.frame)
        driver.sample(TOKENS - session.interrupted, sequence)
        traces.append(driver.traces[sequence])
    return traces


Suspended = Callable[[int, int], int]
"""For how many steps a session is suspended, given its number and how many tokens it has; 0 for not at all."""


def play(driver: Any, sessions: Sequence[Session], suspended: Suspended = lambda session, tokens: 0) -> dict[int, Any]:
    """Runs all sessions in one batch; gives their traces, and checks that nothing is held in the end."""
    engine = driver.engine
    open_: dict[int, Any] = {}
    wakes: dict[int, int] = {}
    traces: dict[int, Any] = {}
    for now in range(2000):
        for number, session in enumerate(sessions):
            if number not in traces and now >= session.joins:
                open_[number] = driver.open(session.prompt, session.params)
                traces[number] = driver.traces[open_[number]]
        for number in [n for n, wake in wakes.items() if wake <= now]:
            engine.resume(open_[number])
            del wakes[number]
        answered = driver.step(*(sequence for number, sequence in open_.items() if number not in wakes))
        for number, sequence in list(open_.items()):
            tokens = len(traces[number].sampled)
            if sequence not in answered:
                continue
            if tokens == TOKENS:
                driver.close(sequence)
                del open_[number]
                continue
            if steps := suspended(number, tokens):
                engine.suspend(sequence, 10 * steps)
                wakes[number] = now + steps
            if tokens == sessions[number].interrupted:
                driver.append(sequence, sessions[number].frame)
        if len(traces) == len(sessions) and not open_:
            break
    stats = engine.stats()
    assert stats.kv_bytes == engine._memory.prefixes.nbytes
    assert (stats.open_sequences, stats.swapped_bytes) == (0, 0)
    return traces


def check(traces: Mapping[int, Any], alone: Sequence[Any]) -> None:
    assert len(traces) == len(alone)
    for number, trace in traces.items():
        assert trace.ids == alone[number].ids
        ours, theirs = torch.stack(trace.logits), torch.stack(alone[number].logits)
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


def tight(tokens: int) -> int:
    """Memory for so many tokens."""
    return tokens * TOKEN_BYTES


def after_every_token(_: int, tokens: int) -> int:
    return 1


def now_and_then(number: int, tokens: int) -> int:
    return 3 + number if (tokens + number) % 5 == 0 else 0


FEW = StepLimits(max_batch=2, step_tokens=40, chunk=24)
SCENARIOS: dict[str, tuple[dict[str, Any], Suspended]] = {
    "one batch": ({}, lambda *_: 0),
    "small steps of few": ({"limits": FEW}, lambda *_: 0),
    "prefixes": ({"prefix_memory": tight(400), "limits": StepLimits(chunk=24)}, lambda *_: 0),
    "keep": ({"policy": FixedPolicy(Action.KEEP)}, now_and_then),
    "swap after every token": ({"policy": FixedPolicy(Action.SWAP)}, after_every_token),
    "recompute after every token": (
        {"policy": FixedPolicy(Action.RECOMPUTE), "prefix_memory": tight(192)},
        after_every_token,
    ),
    "preemption": ({"kv_memory": tight(480)}, lambda *_: 0),
    "room for one": ({"kv_memory": tight(300), "limits": FEW}, now_and_then),
    "everything": (
        {
            "kv_memory": tight(620),
            "prefix_memory": tight(128),
            "policy": FixedPolicy(Action.SWAP),
            "limits": StepLimits(max_batch=3, chunk=40),
        },
        now_and_then,
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_tokens_are_those_of_each_session_alone(
    name: str,
    sessions: list[Session],
    alone: list[Any],
    smollm2_float32: LlamaModel,
    smollm2_tokenizer: HfTokenizer,
    make_engine: Any,
    drive: Any,
    tmp_path: Path,
) -> None:
    options, suspended = SCENARIOS[name]
    if options.get("policy") == FixedPolicy(Action.SWAP):
        options = {**options, "swap": FileSwap(tmp_path)}
    driver = drive(make_engine(smollm2_float32, smollm2_tokenizer, **options))
    driver.engine._memory.turn_tokens = TURN
    check(play(driver, sessions, suspended), alone)
    stats = driver.engine.stats()
    happened = {
        "prefixes": stats.prefix_hit_tokens >= 5 * 96,
        "keep": stats.kept > 10,
        "swap after every token": stats.swapped == len(sessions) * (TOKENS - 1),
        "recompute after every token": stats.dropped == len(sessions) * (TOKENS - 1),
        "preemption": stats.preemptions > 1,
        "room for one": stats.preemptions > 1,
        "everything": min(stats.swapped, stats.preemptions, stats.prefix_hit_tokens) > 0,
    }
    assert happened.get(name, stats.preemptions == 0), stats
    driver.engine.shutdown()


def test_bfloat16_flips_where_it_is_all_but_undecided(
    sessions: list[Session],
    smollm2_bfloat16: LlamaModel,
    smollm2_tokenizer: HfTokenizer,
    make_engine: Any,
    drive: Any,
    transformers_bfloat16: Any,
) -> None:
    """With prefixes shared, sequences preempted and caches dropped."""
    engine = make_engine(
        smollm2_bfloat16,
        smollm2_tokenizer,
        kv_memory=tight(480) // 2,
        prefix_memory=tight(128) // 2,
        policy=FixedPolicy(Action.RECOMPUTE),
    )
    traces = play(drive(engine), sessions, now_and_then)
    assert engine.stats().recomputed_tokens > 1000
    for number, trace in traces.items():
        if sessions[number].params == SamplingParams():
            theirs = transformers_bfloat16(trace.ids)[[place - 1 for place in trace.sampled]]
            chosen = theirs.gather(1, torch.tensor(trace.tokens)[:, None])[:, 0]
            assert float((theirs.max(-1).values - chosen).max()) <= BFLOAT16_FLIP_MARGIN


# --- The checks fail when something is wrong ---------------------------------------------------------------------


def lose_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A swapped cache comes back without its last row."""
    swap_in = KvMemory._swap_in

    def faulty(memory: KvMemory, sequence: Any) -> None:
        swap_in(memory, sequence)
        sequence.cache.rows[7, 1, :, sequence.computed - 1] = 0

    monkeypatch.setattr(KvMemory, "_swap_in", faulty)


def share_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block's keys and values are those of another place."""
    add = PrefixStore.add

    def faulty(store: PrefixStore, cache: Any, ids: Any, *args: Any, **kwargs: Any) -> None:
        cache.rows[3, 0, :, :64] = cache.rows[3, 0, :, :64].roll(1, -2)
        add(store, cache, ids, *args, **kwargs)

    monkeypatch.setattr(PrefixStore, "add", faulty)


def forget_to_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dropped cache counts as computed but for its last tokens."""

    def faulty(memory: KvMemory, sequence: Any) -> None:
        memory._free(sequence)
        sequence.computed = min(sequence.computed, 4)

    monkeypatch.setattr(KvMemory, "_drop", faulty)


@pytest.mark.parametrize(
    ("fault", "scenario", "count"),
    [
        (lose_a_row, "swap after every token", 2),
        (share_too_much, "prefixes", 2),
        (forget_to_forget, "preemption", 6),
    ],
)
def test_the_checks_catch(
    fault: Callable[[pytest.MonkeyPatch], None],
    scenario: str,
    count: int,
    sessions: list[Session],
    alone: list[Any],
    smollm2_float32: LlamaModel,
    smollm2_tokenizer: HfTokenizer,
    make_engine: Any,
    drive: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options, suspended = SCENARIOS[scenario]
    swap = FileSwap(tmp_path)
    driver = drive(make_engine(smollm2_float32, smollm2_tokenizer, **{**options, "swap": swap}))
    driver.engine._memory.turn_tokens = TURN
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check(play(driver, sessions[:count], suspended), alone[:count])
    swap.close()
