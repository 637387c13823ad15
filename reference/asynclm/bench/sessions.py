"""A thousand sessions trapped at once: does the server stay small, and does every one of them come back as it was?

A real server process, over gRPC, with the real model, told to recompute the KV caches of trapped sessions. Contexts of
512 tokens that differ from the first token on, so that none can share another's. Every session traps through the decode
loop; all are seen to be trapped at once; all results are sent at once; every session goes on and ends. What the server
said of the tokens sampled afterwards is then checked against a model of the benchmark's own, in float32, whose noise
is small enough to tell a right context from a wrong one by (see `recheck`). The other policies run
the same with fewer sessions, to compare what a trapped one holds and how long it takes to come back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from asynclm.bench.recheck import Verdict, deviation, judge
from asynclm.bench.record import BenchRecord, Better, Metric, metric, start
from asynclm.bench.serving import ServedModel, serving
from asynclm.bench.trapping import SCRIPT_ID, TrappedSession, prompt_ids, resume_all, script, trap_all
from asynclm.client import AsyncLM
from asynclm.engine.torch.manager import DEFAULT_MODEL, resolve_model
from asynclm.engine.torch.model import LlamaModel
from asynclm.session.state import State

SESSIONS, QUICK_SESSIONS = 1_000, 100
COMPARED, QUICK_COMPARED = 32, 8
CHECKED = 50
ALONE = 16
"""Sessions that are resumed one at a time, to see what that takes when nothing else is computed."""

CONTEXT = 512
SAMPLED = 4
STREAM = 22
"""Room for what is written and injected before the end, so that prompt and stream together have `CONTEXT` tokens."""

RSS_LIMIT_MIB = 2.5e9 / (1 << 20)
KV_MEMORY_MIB = 256
AT_ONCE = 16
WARM_UP = 4
CALL_S = 3_600.0
POLICIES = ("recompute", "swap", "keep")


@dataclass
class Round:
    """What one policy gave."""

    policy: str
    trapped: int = 0
    held_bytes: float = 0.0
    peak_bytes: int = 0
    trapping_s: float = 0.0
    resuming_s: float = 0.0
    sessions: list[TrappedSession] = field(default_factory=list)
    alone: int = 0

    @property
    def ended_well(self) -> int:
        """Sessions that came back, had their results, sampled and ended."""
        return sum(session.ended_well for session in self.sessions)

    @property
    def resume_alone_ms(self) -> list[float]:
        """From the result to the first token, of those resumed one at a time."""
        return [1000 * s.to_token_s for s in self.sessions[: self.alone] if s.to_token_s is not None]


def run(*, quick: bool = False) -> BenchRecord:
    """Holds sessions in traps under each policy, and checks those of `recompute`."""
    record = start("sessions")
    counts = dict.fromkeys(POLICIES, QUICK_COMPARED if quick else COMPARED)
    counts["recompute"] = QUICK_SESSIONS if quick else SESSIONS
    with _progress() as progress:
        rounds = [_round(policy, counts[policy], progress) for policy in POLICIES]
        verdict = _recheck(rounds[0].sessions, progress)
    return replace(record, metrics=_metrics(rounds, verdict))


def _round(policy: str, count: int, progress: Progress) -> Round:
    """One policy on a server of its own."""
    task = progress.add_task(f"{policy}: starting the server", total=2 * count)
    arguments = ["--kv-policy", policy, "--max-sessions", str(count), "--max-call-seconds", str(CALL_S)]
    # All of the memory for sessions: beginnings of prompts are of no use to others here.
    memory = KV_MEMORY_MIB if policy == "recompute" else 4 * KV_MEMORY_MIB + count * KV_MEMORY_MIB // 16
    arguments += ["--dtype", "float32", "--prefix-memory-mib", "0", "--kv-memory-mib", str(memory), "--offline"]
    with serving(*arguments) as server:
        return asyncio.run(_hold(server, policy, count, progress, task))


async def _hold(server: ServedModel, policy: str, count: int, progress: Progress, task: TaskID) -> Round:
    round_ = Round(policy)

    def done() -> None:
        progress.advance(task)

    async with AsyncLM(server.address, timeout=600.0) as llm:
        await llm.load_script(SCRIPT_ID, script(SAMPLED))
        vocab_size = (await llm.server_info()).models[0].vocab_size
        prompts = [prompt_ids(n, length=CONTEXT - STREAM, vocab_size=vocab_size) for n in range(count + WARM_UP)]
        await _warm_up(llm, prompts[count:])
        before = server.rss_bytes
        round_.sessions = [TrappedSession(prompt) for prompt in prompts[:count]]
        progress.update(task, description=f"{policy}: trapping")
        began = time.perf_counter()
        await trap_all(llm, round_.sessions, at_once=AT_ONCE, call_ms=round(CALL_S * 1000), done=done)
        round_.trapping_s = time.perf_counter() - began
        listed = await llm.sessions()
        round_.trapped = sum(session.state is State.TRAPPED for session in listed)
        round_.held_bytes = (server.rss_bytes - before) / count
        progress.update(task, description=f"{policy}: resuming")
        round_.alone = min(ALONE, count)
        for session in round_.sessions[: round_.alone]:
            await session.resume()
            done()
        began = time.perf_counter()
        await resume_all(round_.sessions[round_.alone :], done=done)
        round_.resuming_s = time.perf_counter() - began
        round_.peak_bytes = server.peak_rss_bytes
    progress.update(task, description=f"{policy}: done")
    return round_


async def _warm_up(llm: AsyncLM, prompts: list[tuple[int, ...]]) -> None:
    """What is set up with the first sessions is none of the others' memory."""
    sessions = [TrappedSession(prompt) for prompt in prompts]
    await trap_all(llm, sessions, at_once=len(sessions), call_ms=round(CALL_S * 1000), done=lambda: None)
    await resume_all(sessions, done=lambda: None)


def _recheck(sessions: list[TrappedSession], progress: Progress) -> Verdict:
    """Checks sessions from all over the run, with a model loaded now that the servers are gone."""
    checked = sessions[:: max(1, len(sessions) // CHECKED)][:CHECKED]
    task = progress.add_task("checking log-probabilities", total=len(checked))
    folder = resolve_model(DEFAULT_MODEL).folder
    model = LlamaModel.load(folder, dtype=torch.float32, device=torch.device("cpu"))
    deviations = []
    for session in checked:
        deviations.append(deviation(model, session))
        progress.advance(task)
    return judge(deviations)


def _metrics(rounds: list[Round], verdict: Verdict) -> tuple[Metric, ...]:
    main = rounds[0]
    count = len(main.sessions)
    checked = min(CHECKED, count)
    peak_mib = main.peak_bytes / (1 << 20)
    metrics = [
        _one("trapped", main.trapped, "sessions", Better.HIGHER, floor=count, samples=count),
        _one("rss_mib", peak_mib, "MiB", Better.LOWER, floor=RSS_LIMIT_MIB),
        _one("resumed_ok", main.ended_well, "sessions", Better.HIGHER, floor=count, samples=count),
        _one("logits_ok", verdict.right, "sessions", Better.HIGHER, floor=checked, samples=checked),
        _one("logprob_deviation_max", verdict.server, "nats", Better.LOWER, samples=checked),
        _one("logprob_noise_max", verdict.noise, "nats", Better.LOWER, samples=checked),
        _one("logprob_changed_min", verdict.changed, "nats", Better.HIGHER, samples=checked),
        _one("trap_all_s", main.trapping_s, "s", Better.LOWER, samples=count),
        _one("resume_all_s", main.resuming_s, "s", Better.LOWER, samples=count - main.alone),
        _one("trap_ms_each", 1000 * main.trapping_s / count, "ms", Better.LOWER, samples=count),
        _one("resume_ms_each", 1000 * main.resuming_s / (count - main.alone), "ms", Better.LOWER, samples=count),
    ]
    for each in rounds:
        samples = len(each.sessions)
        metrics += [
            _one(f"held_kib_{each.policy}", each.held_bytes / 1024, "KiB", Better.LOWER, samples=samples),
            metric(f"resume_alone_ms_{each.policy}", each.resume_alone_ms, unit="ms", better=Better.LOWER, floor=None),
        ]
    return tuple(metrics)


def _one(name: str, value: float, unit: str, better: Better, *, floor: float | None = None, samples: int = 1) -> Metric:
    known = value if math.isfinite(value) else None
    return Metric(name=name, value=known, unit=unit, better=better, floor=floor, samples=samples, spread=None)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress
