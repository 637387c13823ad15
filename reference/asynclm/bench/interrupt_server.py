"""The server of `bench interrupt`: `python -m asynclm.bench.interrupt_server FILE`.

The whole server on real weights, whose tokens are planned so that sessions go on for as long as they are needed:
prompts that end with `RUNNING` decode text, those with `TRAPPED` call a tool and wait for it, again and again. Each
token's log-probability is the time at which it was sampled, in seconds of the machine's monotonic clock. FILE gets, as
JSON, when the server had read each interrupt, and what a step with its tokens takes longer than one without.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from asynclm.bench.processes import READY
from asynclm.bench.transcripts import PROSE
from asynclm.bench.workload import TOOLS
from asynclm.cml.blocks import Argument, Block, Call, Invocation, Literal, Text, Trap
from asynclm.cml.bodies import render_body
from asynclm.cml.control import BodyLanguage, Quantifier, Status
from asynclm.engine.base import Engine, Sampled, SamplingParams, SequenceId, StepRequest
from asynclm.engine.torch import open_engine
from asynclm.server import inference
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.session.config import Limits
from asynclm.session.events import InterruptReceived

RUNNING, TRAPPED = 1000, 1001
CONTEXT = 4096
REPEATS = 30
COUNTS = (1, 8)


def payload(kind: str, number: int) -> str:
    """What the interrupt with this number says: some 25 tokens, whatever the number."""
    if kind == "running":
        return f"Request {number:06d}: please leave out the third table, and say so in the summary."
    return json.dumps({"report": f"{number:06d}", "title": "Weekly report", "words": "the page is ready"})


class PlannedEngine:
    """The torch engine with planned tokens and their times. All but `open` and `step` is the engine's own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams = {RUNNING: _running(engine), TRAPPED: _trapped(engine)}
        self._rest: dict[SequenceId, Iterator[int]] = {}
        self._next: dict[SequenceId, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams, *, adapter: str | None = None) -> SequenceId:
        """Opens a sequence with the plan that its last prompt id names."""
        sequence = self._engine.open(prompt_ids, replace(sampling, logprobs=False), adapter=adapter)
        self._rest[sequence] = iter(self._streams[prompt_ids[-1]])
        self._next[sequence] = next(self._rest[sequence])
        return sequence

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        """Decodes planned tokens; each carries the time."""
        sampled = self._engine.step([StepRequest(r.sequence, r.mask, self._next[r.sequence]) for r in requests])
        now = time.monotonic()
        for token in sampled:
            self._next[token.sequence] = next(self._rest[token.sequence])
        return [Sampled(token.sequence, token.token_id, now, 1) for token in sampled]


def _running(engine: Engine) -> list[int]:
    ids = list(engine.codec.encode([Text(PROSE + " ")], BodyLanguage.PYTHON))
    return ids * (CONTEXT // len(ids) + 1)


def _trapped(engine: Engine) -> list[int]:
    invocation = Invocation(TOOLS[2].name, (Argument("url", Literal('"https://example.com/a"')),))
    body = render_body(BodyLanguage.PYTHON, invocation)
    blocks: list[Block] = []
    for number in range(CONTEXT // 16):
        name = f"c{number}"
        blocks += [Text("Look:"), Call(name, body, invocation), Trap(Quantifier.ALL, (name,))]
    return list(engine.codec.encode(blocks, BodyLanguage.PYTHON))


def prefill_costs(engine: Engine) -> dict[str, float]:
    """What injected tokens add to a step, in seconds, by kind and number of sequences: `running_8` and so on."""
    frames = {
        "running": engine.codec.frame("@user", Status.OK, payload("running", 1)),
        "trapped": engine.codec.frame("c1", Status.OK, payload("trapped", 1)),
    }
    return {f"{kind}_{count}": _prefill_cost(engine, ids, count) for kind, ids in frames.items() for count in COUNTS}


def _prefill_cost(engine: Engine, ids: Sequence[int], count: int) -> float:
    """The median of a step in which one sequence has injected tokens less that of the steps beside it."""
    prompt = list(engine.codec.encode([Text(PROSE)], BodyLanguage.PYTHON)) * 3
    sequences = [engine.open(prompt, SamplingParams()) for _ in range(count)]
    requests = [StepRequest(sequence, None, prompt[0]) for sequence in sequences]

    def step() -> float:
        began = time.monotonic()
        while len(engine.step(requests)) < count:
            pass
        return time.monotonic() - began

    step()
    plain, with_injected = [], []
    for number in range(REPEATS):
        plain.append(step())
        engine.append(sequences[number % count], ids)
        with_injected.append(step())
    for sequence in sequences:
        engine.close(sequence)
    return statistics.median(with_injected) - statistics.median(plain)


async def serve() -> dict[str, Any]:
    """Serves until the process is told to stop; gives what it saw."""
    engine = open_engine(progress=False)
    costs = prefill_costs(engine)
    arrivals: dict[str, list[float]] = {}
    convert = inference.client_event_from_pb

    def stamped(pb: Any) -> Any:
        now = time.monotonic()
        event = convert(pb)
        if isinstance(event, InterruptReceived):
            arrivals.setdefault(event.payload, []).append(now)
        return event

    setattr(inference, "client_event_from_pb", stamped)  # noqa: B010
    limits = Limits(context_length=CONTEXT, max_new_tokens=CONTEXT, max_pending_calls=CONTEXT)
    options = ServerOptions(port=0, session_limits=limits, drain_seconds=0.0)
    async with Server(cast(Engine, PlannedEngine(engine)), options) as server:
        print(f"{READY}{server.address}", flush=True)
        await server.serve_until_signal()
    return {"prefill": costs, "arrivals": arrivals}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(serve())), encoding="utf-8")
