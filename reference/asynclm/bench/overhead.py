"""What a session costs beside the model: machine, parser, masks and grammar, against the bare engine.

Both sides decode the same planned tokens on the same engine, half of them inside calls. The bare side steps the engine
and nothing else; the other is the whole loop, with sessions under GRAMMAR. They take turns every few steps on one
thread, at the same context lengths, so that whatever else the machine does meets both.

Sessions decode greedily: a planned token plays the model's favourite, which the grammar's mask is asked for and never
refuses, so that no mask is computed whole. Sessions that draw need every mask whole; what they cost is measured too.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from time import perf_counter_ns
from typing import Any, cast

from rich.console import Console
from rich.progress import track

from asynclm.bench.record import BenchRecord, Better, Metric, metric, start
from asynclm.bench.workload import TOOLS, Planned, plan, session_config
from asynclm.engine.base import Engine, Sampled, SamplingParams, SequenceId, StepRequest
from asynclm.engine.constraints import compile_constraint
from asynclm.engine.loop import EngineLoop
from asynclm.engine.running import SessionRequest, TimedReport
from asynclm.engine.torch import open_engine
from asynclm.session.effects import CallDispatched, Finished, Notice, Tokens
from asynclm.session.events import CreditGranted
from asynclm.session.state import FinishReason, NoticeCode

SEED = 20241209
FLOORS = {1: 2.0, 16: 4.0}
"""Percent of the decode rate, by number of sequences."""

GREEDY = SamplingParams()
DRAWING = SamplingParams(temperature=1.0)
"""With it every mask is computed, though tokens are the planned ones."""

PAIRS = 20
QUICK_PAIRS = 4
STEPS = 96
"""Steps of each side in a pair; contexts grow over them."""

TURN = 8
"""Steps after which the sides take turns."""

SPARE = 32
"""Further tokens of each session: prompts are prefilled over several steps, so that some begin before others."""

PROMPT_TOKENS = 32
PATIENCE_S = 600.0


class MeasurementError(RuntimeError):
    """The sessions did not decode what was planned; the figures would be wrong."""


def run(*, quick: bool = False) -> BenchRecord:
    """Measures the cost in percent of the bare engine's time a token, and in microseconds a token, for 1 and 16."""
    record = start("overhead")
    engine = open_engine(progress=False, prefix_memory_mib=0)
    console = Console(stderr=True)
    metrics: list[Metric] = []
    try:
        for count, floor in FLOORS.items():
            pairs = QUICK_PAIRS if quick else PAIRS
            _measure(engine, count, Random(SEED), GREEDY)  # warms up
            title = f"{count} sequences" if count > 1 else "1 sequence"
            rounds = [
                [_measure(engine, count, Random(f"{SEED} {number}"), sampling) for sampling in (GREEDY, DRAWING)]
                for number in track(range(pairs), title, console=console, transient=True)
            ]
            greedy, drawing = zip(*rounds, strict=True)
            metrics += [*_metrics(count, floor, greedy), *_cost(f"{count}_all_masks", drawing)]
    finally:
        engine.shutdown()
    return replace(record, metrics=tuple(metrics))


@dataclass
class Pair:
    """What both sides took.

    Attributes:
        steps: steps of each side.
        tokens: tokens of each side.
        bare_ns: time of the bare engine.
        full_ns: time of the loop.
        inside: share of the tokens that were sampled inside blocks.
    """

    steps: int = 0
    tokens: int = 0
    bare_ns: int = 0
    full_ns: int = 0
    inside: float = 0.0


class PlannedEngine:
    """An engine whose tokens are planned. Every few steps of the loop, it lets the bare side take as many.

    Everything but `open` and `step` is the engine's own.
    """

    def __init__(self, engine: Engine, plans: Sequence[Planned]) -> None:
        self._engine = engine
        self._plans = plans
        self._ids: dict[SequenceId, tuple[int, ...]] = {}
        self._at: dict[SequenceId, int] = {}
        self._prompts: dict[SequenceId, Sequence[int]] = {}
        self._bare: dict[SequenceId, SequenceId] = {}
        self._turn = 0
        self._began = 0
        self.pair = Pair()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams, *, adapter: str | None = None) -> SequenceId:
        """Opens a sequence, to which the next plan belongs."""
        sequence = self._engine.open(prompt_ids, sampling, adapter=adapter)
        self._ids[sequence] = self._plans[len(self._ids)].ids
        self._at[sequence] = 0
        self._prompts[sequence] = prompt_ids
        return sequence

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        """Decodes the planned tokens."""
        if self.pair.steps < STEPS and len(requests) == len(self._plans) and all(self._at.values()):
            self._count()
        forced = [StepRequest(r.sequence, r.mask, self._ids[r.sequence][self._at[r.sequence]]) for r in requests]
        sampled = self._engine.step(forced)
        for token in sampled:
            self._at[token.sequence] += 1
        return sampled

    def _count(self) -> None:
        """At the beginning of each of the loop's steps: its turn may be over."""
        now = perf_counter_ns()
        if not self._bare:
            self._open_bare()
        elif self._turn < TURN:
            self._turn += 1
            return
        else:
            self.pair.full_ns += now - self._began
            self.pair.steps += TURN
            self.pair.tokens += TURN * len(self._plans)
            if self.pair.steps == STEPS:
                return
        self.pair.bare_ns += self._bare_turn()
        self._turn = 1
        self._began = perf_counter_ns()

    def _open_bare(self) -> None:
        """Opens the other side's sequences, each as far as its twin, and computes all but their last tokens."""
        for sequence, at in self._at.items():
            ids = [*self._prompts[sequence], *self._ids[sequence][: at - 1]]
            self._bare[sequence] = self._engine.open(ids, SamplingParams())
        missing = {self._bare[s]: self._ids[s][at - 1] for s, at in self._at.items()}
        while missing:
            for token in self._engine.step([StepRequest(s, None, token_id) for s, token_id in missing.items()]):
                del missing[token.sequence]

    def _bare_turn(self) -> int:
        """Nanoseconds of as many steps of the bare engine as the loop will take next."""
        began = perf_counter_ns()
        for ahead in range(TURN):
            self._engine.step(
                [StepRequest(twin, None, self._ids[s][self._at[s] + ahead]) for s, twin in self._bare.items()]
            )
        return perf_counter_ns() - began

    def close_bare(self) -> None:
        """Frees the other side's sequences."""
        for twin in self._bare.values():
            self._engine.close(twin)


@dataclass
class Listener:
    """Takes one session's reports and counts what is in them."""

    over: threading.Event = field(default_factory=threading.Event)
    tokens: int = 0
    calls: int = 0
    notices: int = 0
    reason: FinishReason | None = None

    def sink(self, reports: Sequence[TimedReport]) -> None:
        """Counts."""
        for timed in reports:
            report = timed.report
            if isinstance(report, Tokens):
                self.tokens += len(report.ids)
            elif isinstance(report, CallDispatched):
                self.calls += 1
            elif isinstance(report, Notice) and report.code is not NoticeCode.INCOMPLETE_BLOCK:  # the plan's end
                self.notices += 1
            elif isinstance(report, Finished):
                self.reason = report.reason
                self.over.set()


def _measure(engine: Engine, count: int, random: Random, sampling: SamplingParams) -> Pair:
    """One pair: so many sessions through the loop, and as many bare sequences in turn with them."""
    constraint = compile_constraint(engine.codec, engine.tokenizer, TOOLS)
    length = STEPS + SPARE
    plans = [plan(random, engine.codec, constraint, length) for _ in range(count)]
    planned = PlannedEngine(engine, plans)
    loop = EngineLoop()
    listeners = [Listener() for _ in plans]
    loop.start()
    try:
        for number, listener in enumerate(listeners):
            prompt_ids = engine.tokenizer.encode("A desk that answers questions. " * PROMPT_TOKENS)[:PROMPT_TOKENS]
            request = SessionRequest(
                session_id=str(number),
                engine=cast(Engine, planned),
                prompt_ids=tuple(prompt_ids),
                config=session_config(PROMPT_TOKENS, length, credit=0),
                sampling=sampling,
                constraint=constraint.session(),
                sink=listener.sink,
            )
            loop.open(request).result(PATIENCE_S)
        for number in range(count):
            loop.post(str(number), CreditGranted(tokens=length))
        for listener in listeners:
            listener.over.wait(PATIENCE_S)
    finally:
        loop.stop()
        planned.close_bare()
    _check(planned, plans, listeners)
    return planned.pair


def _check(planned: PlannedEngine, plans: Sequence[Planned], listeners: Sequence[Listener]) -> None:
    for of, heard in zip(plans, listeners, strict=True):
        expected = (FinishReason.LENGTH, len(of.ids), of.calls, 0)
        got = (heard.reason, heard.tokens, heard.calls, heard.notices)
        if got != expected:
            raise MeasurementError(f"finish, tokens, calls and notices are {got}; planned: {expected}")
    if planned.pair.steps < STEPS:
        raise MeasurementError(f"{planned.pair.steps} steps with every session in them; planned: {STEPS}")
    planned.pair.inside = sum(of.inside for of in plans) / sum(len(of.ids) for of in plans)


def _metrics(count: int, floor: float, pairs: Sequence[Pair]) -> list[Metric]:
    return [
        *_cost(str(count), pairs, floor),
        _of(f"bare_step_ms_{count}", [pair.bare_ns / pair.steps / 1e6 for pair in pairs], "ms"),
        _of(f"tokens_in_blocks_{count}", [pair.inside for pair in pairs], "1"),
    ]


def _cost(which: str, pairs: Sequence[Pair], floor: float | None = None) -> list[Metric]:
    """What the loop adds."""
    return [
        _of(f"percent_{which}", [100 * (pair.full_ns / pair.bare_ns - 1) for pair in pairs], "%", floor),
        _of(f"us_per_token_{which}", [(pair.full_ns - pair.bare_ns) / pair.tokens / 1000 for pair in pairs], "us"),
    ]


def _of(name: str, values: Sequence[float], unit: str, floor: float | None = None) -> Metric:
    return metric(name, values, unit=unit, better=Better.LOWER, floor=floor)
