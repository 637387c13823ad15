"""Who holds KV memory when there is too little: the limit holds, somebody always gets on, and everybody in turn.

A stand-in for the model computes nothing; scheduler, memory and caches are the real ones, of two bytes a token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asynclm.engine.base import EngineError, SamplingParams, SequenceId
from asynclm.engine.torch.admission import Decision, Holder, Standing, decide
from asynclm.engine.torch.counters import Counters
from asynclm.engine.torch.kv_cache import GRAIN, SequenceCache
from asynclm.engine.torch.kv_memory import KvMemory
from asynclm.engine.torch.kv_policy import Action, FixedPolicy
from asynclm.engine.torch.memory_limits import free_memory
from asynclm.engine.torch.sampler import Sampler
from asynclm.engine.torch.scheduler import Scheduler, StepLimits
from asynclm.engine.torch.sequence import SequenceState
from asynclm.engine.torch.swap import FileSwap

TOKEN = 2
"""Bytes a token."""
PAGE = TOKEN * GRAIN
LONGEST = 12 * GRAIN


class Simulation:
    """An engine without a model: each step gives a token to all that are planned to the end."""

    def __init__(self, memory_pages: int, limits: StepLimits | None = None, **settings: object) -> None:
        self.counters = Counters()
        self.memory = KvMemory(self.counters, limit=memory_pages * PAGE, longest=LONGEST, **settings)  # type: ignore[arg-type]
        self.scheduler = Scheduler(limits or StepLimits(max_batch=4, step_tokens=64, chunk=16))
        self.sequences: dict[SequenceId, SequenceState] = {}
        self.got: dict[SequenceId, int] = {}

    def open(self, prompt: Sequence[int]) -> SequenceState:
        number = SequenceId(len(self.got))
        cache = SequenceCache(num_layers=1, num_kv_heads=1, head_dim=1, dtype=torch.uint8, device=torch.device("cpu"))
        state = SequenceState(
            number,
            prompt,
            cache=cache,
            sampler=Sampler(SamplingParams(), ()),
            place=self.scheduler.draw(),
            ticket=self.memory.draw_ticket(),
        )
        self.sequences[number] = state
        self.got[number] = 0
        return state

    def close(self, sequence: SequenceState) -> None:
        del self.sequences[sequence.number]
        self.memory.forget(sequence)

    def step(self, *asked: SequenceState) -> set[SequenceId]:
        plan = self.memory.plan(self.scheduler, self.sequences, {s.number: s for s in asked})
        assert plan.tokens, "somebody can always get on"
        answered = set()
        for number, length in plan.tokens.items():
            sequence = self.sequences[number]
            self.memory.prepare(sequence)
            assert len(sequence.ids) <= sequence.cache.capacity
            start, end = sequence.computed, sequence.computed + length
            self.check(sequence)
            sequence.cache.rows[..., start:end, 0] = torch.tensor(sequence.ids[start:end], dtype=torch.uint8)
        self.scheduler.done(plan)
        for number, length in plan.tokens.items():
            sequence = self.sequences[number]
            self.memory.computed(sequence, length)
            if sequence.pending == 0:
                self.memory.answered(sequence)
                sequence.took(len(sequence.ids) % 251)
                sequence.place = self.scheduler.draw()
                self.got[number] += 1
                answered.add(number)
        self.check_account()
        return answered

    def check(self, sequence: SequenceState) -> None:
        """A sequence's cache holds what was computed of it, and nothing of another's."""
        rows = sequence.cache.rows[0, :, 0, : sequence.computed, 0]
        assert rows.tolist() == [sequence.ids[: sequence.computed]] * 2

    def check_account(self) -> None:
        assert self.memory.held == sum(s.cache.nbytes for s in self.sequences.values())
        assert self.memory.nbytes == self.memory.held + self.memory.prefixes.nbytes
        if self.memory.limit:
            assert self.memory.nbytes <= self.memory.limit


def ids(start: int, length: int) -> list[int]:
    return [(start + place) % 251 for place in range(length)]


def test_a_sequence_that_waits_for_its_prefill_holds_nothing() -> None:
    simulation = Simulation(100)
    first, second = simulation.open(ids(0, 300)), simulation.open(ids(9, 300))
    simulation.step(first, second)
    assert first.cache.capacity >= 300
    assert second.cache.nbytes == 0


def test_a_cache_grows_by_a_fraction_and_no_more() -> None:
    simulation = Simulation(0)
    sequence = simulation.open(ids(0, 4))
    sizes = set()
    for _ in range(300):
        simulation.step(sequence)
        sizes.add(sequence.cache.capacity)
        assert sequence.cache.capacity <= len(sequence.ids) * 9 / 8 + 2 * GRAIN
    assert len(sizes) <= 10


def test_a_sequence_that_does_not_fit_alone_fails_alone() -> None:
    simulation = Simulation(2)
    short, long = simulation.open(ids(0, 3)), simulation.open(ids(0, 2 * GRAIN))
    while not simulation.step(long):
        pass
    with pytest.raises(EngineError, match="takes 0 KiB; there may be") as caught:
        simulation.step(short, long)
    assert caught.value.sequence == long.number
    simulation.close(long)
    simulation.step(short)


def test_memory_is_taken_in_order() -> None:
    """Prefixes, suspended sequences (the last expected first), idle ones, then the latest of those that run."""

    def holder(number: int, standing: Standing, *, held: int = 10, need: int = 10, due: float = math.inf) -> Holder:
        return Holder(
            number=SequenceId(number), ticket=number, held=held, need=need, growth=1, standing=standing, due=due
        )

    holders = {
        h.number: h
        for h in (
            holder(0, Standing.SUSPENDED, due=5),
            holder(1, Standing.SUSPENDED, due=50),
            holder(2, Standing.IDLE),
            holder(3, Standing.ASKED),
            holder(5, Standing.ASKED),
            holder(6, Standing.ASKED),
        )
    }
    orders = []
    for need in (*range(0, 61, 5), 64):
        want = holder(4, Standing.ASKED, held=0, need=need)
        decision = decide({**holders, want.number: want}, [want.number], free=4, prefixes=10)
        orders.append((decision.prefixes, [int(n) for n in decision.given_up], bool(decision.refused)))
    assert orders == [
        (0, [], False),
        (1, [], False),
        (6, [], False),
        (10, [1], False),
        (10, [1], False),
        (10, [1, 0], False),
        (10, [1, 0], False),
        (10, [1, 0, 2], False),
        (10, [1, 0, 2], False),
        (10, [1, 0, 2, 6], False),
        (10, [1, 0, 2, 6], False),
        (10, [1, 0, 2, 6, 5], False),
        (10, [1, 0, 2, 6, 5], False),
        (0, [], True),  # what those before it need next must be left
    ]


def test_what_one_leaves_of_anothers_memory_is_for_the_next() -> None:
    def holder(number: int, held: int, need: int) -> Holder:
        standing = Standing.ASKED if need > held else Standing.IDLE
        return Holder(number=SequenceId(number), ticket=number, held=held, need=need, growth=1, standing=standing)

    holders = {h.number: h for h in (holder(0, 0, 4), holder(1, 0, 5), holder(2, 10, 10), holder(3, 10, 10))}
    decision = decide(holders, [SequenceId(0), SequenceId(1)], free=0, prefixes=0)
    assert decision == Decision(given_up=(SequenceId(3),), spare=1)


def test_behind_the_first_that_is_refused_all_wait_for_their_memory() -> None:
    """Those that hold theirs go on."""

    def holder(number: int, held: int, need: int) -> Holder:
        return Holder(number=SequenceId(number), ticket=number, held=held, need=need, growth=0, standing=Standing.ASKED)

    holders = {h.number: h for h in (holder(0, 9, 9), holder(1, 0, 8), holder(2, 0, 2), holder(3, 2, 3))}
    decision = decide(holders, [SequenceId(n) for n in (0, 1, 3)], free=3, prefixes=0)
    assert decision == Decision(refused=frozenset(map(SequenceId, (1, 2))), spare=2)


def test_enough_for_all_changes_nothing() -> None:
    holders = {
        SequenceId(n): Holder(number=SequenceId(n), ticket=n, held=4, need=8, growth=1, standing=Standing.ASKED)
        for n in range(3)
    }
    assert decide(holders, list(holders), free=12, prefixes=7) == Decision(spare=0)


def test_the_latest_is_preempted_and_comes_back() -> None:
    simulation = Simulation(6)
    old, new = simulation.open(ids(0, GRAIN)), simulation.open(ids(7, GRAIN))
    simulation.memory.turn_tokens = 10_000
    while simulation.counters.preemptions == 0:
        simulation.step(old, new)
    assert new.cache.nbytes == 0
    assert new.computed == 0
    before = simulation.got[new.number]
    while len(old.ids) < 5 * GRAIN:
        assert simulation.step(old, new) == {old.number}
    simulation.close(old)
    simulation.step(new)
    assert simulation.counters.recomputed_tokens > 0
    while simulation.got[new.number] == before:
        simulation.step(new)
    simulation.close(new)
    assert simulation.memory.nbytes == 0


@pytest.mark.parametrize("action", list(Action))
def test_suspension_does_what_the_policy_says(action: Action, tmp_path: Path) -> None:
    swap = FileSwap(tmp_path)
    simulation = Simulation(0, policy=FixedPolicy(action), swap=swap)
    sequence = simulation.open(ids(0, 100))
    while not simulation.step(sequence):
        pass
    held = simulation.memory.held
    simulation.memory.suspend(sequence, 250)
    assert (simulation.memory.held, swap.nbytes) == {
        Action.KEEP: (held, 0),
        Action.SWAP: (0, 100 * TOKEN),
        Action.RECOMPUTE: (0, 0),
    }[action]
    simulation.memory.resume(sequence)
    counters = simulation.counters
    assert (counters.kept, counters.swapped, counters.dropped) == tuple(
        int(action is a) for a in (Action.KEEP, Action.SWAP, Action.RECOMPUTE)
    )
    while not simulation.step(sequence):
        pass
    assert counters.recomputed_tokens == (100 if action is Action.RECOMPUTE else 0)
    assert swap.nbytes == 0
    simulation.memory.suspend(sequence, None)
    simulation.close(sequence)
    assert (simulation.memory.nbytes, swap.nbytes) == (0, 0)
    simulation.memory.close()


def test_what_cannot_be_swapped_is_dropped(tmp_path: Path) -> None:
    full = FileSwap(tmp_path, free_bytes=lambda _: 0)
    for swap in (full, None):
        simulation = Simulation(0, policy=FixedPolicy(Action.SWAP), swap=swap)
        sequence = simulation.open(ids(0, 10))
        simulation.step(sequence)
        simulation.memory.suspend(sequence, None)
        assert (simulation.counters.swapped, simulation.counters.dropped) == (0, 1)
        simulation.step(sequence)
        simulation.memory.close()


def test_what_cannot_be_read_back_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap = FileSwap(tmp_path)
    simulation = Simulation(0, policy=FixedPolicy(Action.SWAP), swap=swap)
    sequence = simulation.open(ids(0, 10))
    simulation.step(sequence)
    simulation.memory.suspend(sequence, None)

    def fail(_: object) -> torch.Tensor:
        raise OSError("the disk is gone")

    monkeypatch.setattr(swap, "get", fail)
    simulation.step(sequence)
    simulation.check(sequence)
    simulation.memory.close()


def test_kept_suspended_sequences_give_way_when_memory_gets_short() -> None:
    simulation = Simulation(6)
    waiting, running = simulation.open(ids(0, 2 * GRAIN)), simulation.open(ids(7, GRAIN))
    while not simulation.got[waiting.number]:
        simulation.step(waiting)
    simulation.memory.suspend(waiting, 10)
    assert waiting.cache.nbytes
    while len(running.ids) < 5 * GRAIN:
        assert simulation.step(running) or running.pending
    assert waiting.cache.nbytes == 0
    assert simulation.counters.dropped == 1
    assert simulation.counters.preemptions == 0
    simulation.close(running)
    while simulation.got[waiting.number] < 2:
        simulation.step(waiting)


actions = st.sampled_from(["step", "step", "step", "suspend", "resume", "append", "open", "close", "idle"])


@settings(max_examples=200)
@given(
    memory=st.integers(6, 14),
    prefix=st.integers(0, 6),
    turn=st.integers(1, 40),
    batch=st.integers(1, 5),
    action=st.sampled_from([Action.KEEP, Action.RECOMPUTE]),
    data=st.data(),
)
def test_whatever_happens_the_limit_holds_and_somebody_gets_on(
    memory: int, prefix: int, turn: int, batch: int, action: Action, data: st.DataObject
) -> None:
    limits = StepLimits(max_batch=batch, step_tokens=64, chunk=16)
    simulation = Simulation(memory, limits, prefix_limit=prefix * PAGE, policy=FixedPolicy(action))
    simulation.memory.turn_tokens = turn
    stepping: dict[SequenceId, SequenceState] = {}
    most = memory * GRAIN
    for _ in range(data.draw(st.integers(1, 40))):
        everybody = list(simulation.sequences.values())
        what = data.draw(actions) if everybody else "open"
        one = data.draw(st.sampled_from(everybody)) if everybody else None
        if what == "open" or one is None:
            new = simulation.open(ids(data.draw(st.sampled_from([0, 0, 7])), data.draw(st.integers(1, 5 * GRAIN))))
            stepping[new.number] = new
        elif what == "suspend":
            stepping.pop(one.number, None)
            simulation.memory.suspend(one, data.draw(st.none() | st.integers(0, 9)))
        elif what == "resume":
            simulation.memory.resume(one)
            stepping[one.number] = one
        elif what == "idle":
            stepping.pop(one.number, None)
        elif what == "close":
            stepping.pop(one.number, None)
            simulation.close(one)
        elif what == "append":
            one.ids += ids(3, min(data.draw(st.integers(1, 60)), most - len(one.ids)))
        for full in [s for s in simulation.sequences.values() if len(s.ids) >= most]:
            stepping.pop(full.number, None)
            simulation.close(full)
        simulation.check_account()
        if what == "step" and stepping:
            simulation.step(*stepping.values())
    for sequence in list(simulation.sequences.values()):
        simulation.close(sequence)
    simulation.memory.close()
    assert simulation.memory.nbytes == 0


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 4 * GRAIN), min_size=2, max_size=7),
    st.integers(6, 12),
    st.integers(1, 20),
    st.integers(1, 4),
)
def test_everybody_gets_on_in_turn(prompts: list[int], memory: int, turn: int, batch: int) -> None:
    """With memory for one or a few of them at a time, each gets a token at least once in a round of all turns."""
    simulation = Simulation(memory, StepLimits(max_batch=batch, step_tokens=64, chunk=32))
    simulation.memory.turn_tokens = turn
    states = [simulation.open(ids(9 * n, length)) for n, length in enumerate(prompts)]
    last = {s.number: 0 for s in states}
    prefill = memory * GRAIN // 8 + 1  # steps that a context may take, at a long one's share
    bound = 2 * len(states) * (turn + prefill) * -(-len(states) // batch)
    for now in range(1, 400):
        for number in simulation.step(*states):
            last[number] = now
        assert all(now - then <= bound for then in last.values())
        for state in [s for s in states if len(s.ids) >= memory * GRAIN - 1]:
            states.remove(state)
            del last[state.number]
            simulation.close(state)
        if not states:
            break


def test_free_memory_is_the_least_of_machine_and_group(tmp_path: Path) -> None:
    for folder in ("proc/self", "sys/fs/cgroup/jobs/mine"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 16000 kB\nMemAvailable:    8000 kB\n")
    assert free_memory(tmp_path) == 8000 << 10
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/mine\n")
    mine = tmp_path / "sys/fs/cgroup/jobs/mine"
    (mine / "memory.max").write_text("max\n")
    (mine / "memory.current").write_text("3000\n")
    (mine / "memory.stat").write_text("anon 1000\ninactive_file 500\n")
    assert free_memory(tmp_path) == 8000 << 10
    for name, text in (("memory.max", "10000\n"), ("memory.current", "3000\n"), ("memory.stat", "inactive_file 500\n")):
        (mine.parent / name).write_text(text)
    assert free_memory(tmp_path) == 7500
    assert free_memory() > 0
