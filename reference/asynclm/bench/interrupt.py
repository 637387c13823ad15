"""From an interrupt's arrival to the first token sampled after it, in decode steps; beside it, what vLLM makes of it.

Arrival is when the server has read the message, at times that have nothing to do with its steps. What the injected
tokens add to a step is measured in the same process and taken off. The peer has no interrupts: the stream is closed and
the request sent anew with what has been said so far and the injected tokens, for its prefix cache to recognise.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import grpc
from rich.console import Console
from rich.progress import track

from asynclm.bench import resubmit
from asynclm.bench.interrupt_server import PAUSE_S, PROMPT_TOKENS, RUNNING, TRAPPED, payload
from asynclm.bench.processes import server_process
from asynclm.bench.record import BenchRecord, Better, Metric, metric, percentile, start
from asynclm.bench.workload import TOOLS
from asynclm.engine.base import SamplingParams
from asynclm.session.config import Constraints
from asynclm.session.events import InterruptReceived
from asynclm.v1 import inference_pb2_grpc
from asynclm.wire.client_events import client_event_to_pb
from asynclm.wire.start import StartRequest

SERVER = "asynclm.bench.interrupt_server"
KINDS = {"running": RUNNING, "trapped": TRAPPED}
COUNTS = (1, 8)
ROUNDS, QUICK_ROUNDS = 8, 1
SAMPLES = 40
"""Interrupts of each kind in a round."""

MOST_OF_ONE = 5
"""Interrupts of one session; its context grows from 256 tokens to less than 600 over them."""

P50_FLOOR, P99_FLOOR = 1.2, 2.2
SEED = 20241209


@dataclass
class Seen:
    """What a client saw of its sessions.

    Attributes:
        first: by payload, when the first token after the interrupt was sampled.
        delays: seconds from sending an interrupt to reading the first token after it.
        steps: seconds between the tokens of one session, where nothing was injected.
    """

    first: dict[str, float] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)


def run(*, quick: bool = False, without_peers: bool = False) -> BenchRecord:
    """Measures both kinds of interrupt at 1 and 8 sessions, and the ratio to the peer's way."""
    record = start("interrupt")
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "server.json"
        with server_process(SERVER, str(out)) as address:
            seen = asyncio.run(_measure(address, rounds))
        server = json.loads(out.read_text(encoding="utf-8"))
    metrics = _metrics(seen, server["arrivals"], server["prefill"])
    delays = {count: [d for kind in KINDS for d in seen[kind, count].delays] for count in COUNTS}
    peer = {} if without_peers else resubmit.delays(COUNTS, PROMPT_TOKENS, SAMPLES * rounds)
    return replace(record, metrics=(*metrics, *_ratios(delays, peer)))


async def _measure(address: str, rounds: int) -> dict[tuple[str, int], Seen]:
    console = Console(stderr=True)
    seen = {(kind, count): Seen() for count in COUNTS for kind in KINDS}
    async with grpc.aio.insecure_channel(address) as channel:
        numbers = itertools.count()
        for number in track(range(rounds), "Interrupting", console=console, transient=True):
            for (kind, count), of in seen.items():
                random = Random(f"{SEED} {kind} {count} {number}")
                for first in range(0, SAMPLES, count * MOST_OF_ONE):
                    turns = range(first, min(first + count * MOST_OF_ONE, SAMPLES))
                    await _interrupts(channel, kind, count, of, random, [next(numbers) for _ in turns])
    return seen


class _Session:
    """One session that is read all the time, and interrupted when it is told to."""

    def __init__(self, call: Any, kind: str, seen: Seen) -> None:
        self._call = call
        self._kind = kind
        self._seen = seen
        self._number = 1
        self._source = "@user"
        self._pending = ""
        self._committed = False
        self._sent = 0.0
        self._last: float | None = None
        self.begun = asyncio.Event()
        self._ready = asyncio.Event()
        self._answered = asyncio.Event()

    async def start(self, random: Random) -> None:
        """Opens the session; its prompt is like no other."""
        prompt = [random.randrange(2000, 20000) for _ in range(PROMPT_TOKENS - 1)]
        asked = StartRequest(
            prompt_ids=(*prompt, KINDS[self._kind]),
            tools=TOOLS,
            constraints=Constraints.GRAMMAR,
            sampling=SamplingParams(logprobs=True),
        )
        await self._call.write(client_event_to_pb(asked, 1))

    async def read(self) -> None:
        """Reads until the stream ends."""
        async for event in self._call:
            match event.WhichOneof("event"):
                case "tokens":
                    self._tokens(list(event.tokens.logprobs))
                case "interrupt_committed":
                    self._committed = event.interrupt_committed.payload == self._pending
                    self._last = None
                case "trap_entered":
                    self._last = None
                    self._source = event.trap_entered.trap.ids[0]
                    self._ready.set()
                case "finished":
                    raise RuntimeError(f"a session finished: {event.finished}")

    def _tokens(self, times: list[float]) -> None:
        self.begun.set()
        if self._committed:
            self._seen.delays.append(time.monotonic() - self._sent)
            self._seen.first[self._pending] = times[0]
            self._committed = False
            self._last = None  # what comes next may be later by a measurement
            self._pending = ""
            return
        if not self._pending:
            self._answered.set()
        if self._last is not None:
            times.insert(0, self._last)
        self._seen.steps += [later - earlier for earlier, later in itertools.pairwise(times) if self._sent]
        self._last = times[-1]
        if self._kind == "running":
            self._ready.set()

    async def interrupt(self, text: str, random: Random) -> None:
        """Interrupts it once it is where it should be; returns some tokens after that."""
        await self._ready.wait()
        await asyncio.sleep(random.uniform(*PAUSE_S))
        self._ready.clear()
        self._answered.clear()
        self._pending = text
        self._number += 1
        event = client_event_to_pb(InterruptReceived(source=self._source, payload=text), self._number)
        self._sent = time.monotonic()
        await self._call.write(event)
        await self._answered.wait()


async def _interrupts(
    channel: grpc.aio.Channel, kind: str, count: int, seen: Seen, random: Random, numbers: Sequence[int]
) -> None:
    """So many sessions, interrupted in turn, one at a time."""
    stub: Any = inference_pb2_grpc.InferenceStub(channel)  # whose types want more than the library does
    calls = [stub.Session() for _ in range(count)]
    sessions = [_Session(call, kind, seen) for call in calls]
    for session in sessions:
        await session.start(random)
    readers = [asyncio.create_task(session.read()) for session in sessions]
    for session in sessions:  # while a prompt is prefilled, steps are longer
        await _while_read(session.begun.wait(), readers)
    for turn, number in enumerate(numbers):
        await _while_read(sessions[turn % count].interrupt(payload(kind, number), random), readers)
    for call, reader in zip(calls, readers, strict=True):
        call.cancel()
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


async def _while_read(wanted: Coroutine[Any, Any, object], readers: Sequence[asyncio.Task[None]]) -> None:
    """Waits for something that comes to pass only while the sessions are read; raises what ended a reader."""
    asked = asyncio.ensure_future(wanted)
    done, _ = await asyncio.wait((asked, *readers), return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _metrics(
    seen: Mapping[tuple[str, int], Seen], arrivals: Mapping[str, list[float]], prefill: Mapping[str, list[float]]
) -> list[Metric]:
    metrics = []
    for count in COUNTS:
        steps: dict[str, list[float]] = {}
        for kind in KINDS:
            of = seen[kind, count]
            step = statistics.median(of.steps)
            cost = statistics.median(prefill[f"{kind}_{count}"])
            steps[kind] = [(first - arrivals[text][0] - cost) / step for text, first in of.first.items()]
            metrics += [
                metric(
                    f"step_ms_{kind}_{count}", [s * 1000 for s in of.steps], unit="ms", better=Better.LOWER, floor=None
                ),
                metric(f"prefill_ms_{kind}_{count}", [cost * 1000], unit="ms", better=Better.LOWER, floor=None),
                *_steps(f"_{kind}_{count}", steps[kind], None, None),
            ]
        metrics = [*_steps(f"_{count}", [*itertools.chain(*steps.values())], P50_FLOOR, P99_FLOOR), *metrics]
    return metrics


def _steps(suffix: str, steps: Sequence[float], p50: float | None, p99: float | None) -> tuple[Metric, Metric]:
    last = metric(
        f"steps_p99{suffix}", [percentile(steps, 99)], unit="steps", better=Better.LOWER, floor=p99, samples=len(steps)
    )
    return metric(f"steps_p50{suffix}", steps, unit="steps", better=Better.LOWER, floor=p50), last


def _ratios(ours: Mapping[int, Sequence[float]], peer: Mapping[int, Sequence[float]]) -> list[Metric]:
    """By the clients' own clocks, from sending to reading: the peer's time over ours."""
    metrics = []
    for count in COUNTS:
        middle = statistics.median(ours[count])
        ratios = [theirs / middle for theirs in peer.get(count, ())]
        metrics += [
            metric(f"resubmit_vs_ours_{count}", ratios, unit="1", better=Better.HIGHER, floor=None),
            metric(f"client_ms_{count}", [d * 1000 for d in ours[count]], unit="ms", better=Better.LOWER, floor=None),
        ]
    return metrics
