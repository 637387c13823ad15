"""The server of `bench interrupt`: `python -m asynclm.bench.interrupt_server FILE`.

The whole server on real weights, whose tokens are planned so that sessions go on for as long as they are needed:
prompts that end with `RUNNING` decode text, those with `TRAPPED` call a tool and wait for it, again and again. Each
token's log-probability is the time at which it was sampled, in seconds of the machine's monotonic clock. FILE gets, as
JSON, when the server had read each interrupt, and what a step with its tokens takes longer than one without.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

from asynclm.bench.processes import READY
from asynclm.bench.transcripts import PROSE
from asynclm.bench.workload import TOOLS
from asynclm.cml.blocks import Argument, Block, Call, Invocation, Literal, Text, Trap
from asynclm.cml.bodies import render_body
from asynclm.cml.control import BodyLanguage, Quantifier
from asynclm.engine.base import Engine, Sampled, SamplingParams, SequenceId, StepRequest
from asynclm.engine.torch import open_engine
from asynclm.server import inference
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.session.config import Limits
from asynclm.session.events import InterruptReceived
from asynclm.wire.client_events import client_event_from_pb

RUNNING, TRAPPED = 1000, 1001
CONTEXT = 4096
PROMPT_TOKENS = 256
MEASURE_EVERY = 3
"""Interrupts to each measurement of what they cost."""

PAUSE_S = (0.05, 0.12)
"""Before each interrupt, at random."""


def payload(kind: str, number: int) -> str:
    """What the interrupt with this number says: some 25 tokens, whatever the number."""
    if kind == "running":
        return f"Request {number:06d}: please leave out the third table, and say so in the summary."
    return json.dumps({"report": f"{number:06d}", "title": "Weekly report", "words": "the page is ready"})


class PlannedEngine:
    """The torch engine with planned tokens and their times, and now and then a measurement of its own.

    After some of the interrupts, before the next step, as many other sequences of the same lengths do the same twice,
    without and with the injected tokens, and after as long a pause if the interrupt came to a trap: so what these
    tokens cost is measured in the same circumstances.

    Attributes:
        prefill: what injected tokens add to a step, in seconds, by kind and number of sequences: `running_8`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams = {RUNNING: _running(engine), TRAPPED: _trapped(engine)}
        self._twin_prompt = self._streams[RUNNING][:PROMPT_TOKENS]
        self._rest: dict[SequenceId, Iterator[int]] = {}
        self._next: dict[SequenceId, int] = {}
        self._twins: dict[SequenceId, SequenceId] = {}
        self._lengths: dict[SequenceId, int] = {}
        self._random = Random(PROMPT_TOKENS)
        self._kind = RUNNING
        self._injected: Sequence[int] = ()
        self._batch: list[SequenceId] = []
        self._interrupts = 0
        self.prefill: dict[str, list[float]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams, *, adapter: str | None = None) -> SequenceId:
        """Opens a sequence with the plan that its last prompt id names."""
        sequence = self._engine.open(prompt_ids, replace(sampling, logprobs=False), adapter=adapter)
        self._kind = prompt_ids[-1]
        self._rest[sequence] = iter(self._streams[self._kind])
        self._next[sequence] = next(self._rest[sequence])
        self._lengths[sequence] = len(prompt_ids)
        twin = self._twins[sequence] = self._engine.open(self._twin_prompt, SamplingParams())
        self._lengths[twin] = len(self._twin_prompt)
        self._step_until([twin])
        return sequence

    def close(self, sequence: SequenceId) -> None:
        """Closes it."""
        self._engine.close(sequence)
        if sequence in self._twins:
            self._injected, self._batch = (), []  # what is left of the last interrupts was not measured
            del self._rest[sequence]
            self._engine.close(self._twins.pop(sequence))

    def append(self, sequence: SequenceId, ids: Sequence[int]) -> None:
        """Appends; the step after the next may begin with a measurement."""
        self._append(sequence, ids)
        self._interrupts += 1
        if self._interrupts % MEASURE_EVERY == 0:
            self._injected = ids
            self._batch = []

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        """Decodes planned tokens; each carries the time."""
        if self._injected and self._batch:
            self._measure(self._injected, self._batch)
            self._injected = ()
        sampled = self._engine.step([StepRequest(r.sequence, r.mask, self._next[r.sequence]) for r in requests])
        now = time.monotonic()
        self._batch = [token.sequence for token in sampled]
        for token in sampled:
            self._next[token.sequence] = next(self._rest[token.sequence])
            self._lengths[token.sequence] += 1
        return [Sampled(token.sequence, token.token_id, now, 1) for token in sampled]

    def _measure(self, ids: Sequence[int], batch: Sequence[SequenceId]) -> None:
        twins = [self._twins[sequence] for sequence in batch]
        for twin, sequence in zip(twins, batch, strict=True):
            self._append(twin, self._twin_prompt[:1] * (self._lengths[sequence] - len(ids) - 1 - self._lengths[twin]))
        self._step_until(twins)
        plain = self._timed(twins)
        self._append(twins[self._interrupts % len(twins)], ids)
        cost = self._timed(twins) - plain
        name = "running" if self._kind == RUNNING else "trapped"
        self.prefill.setdefault(f"{name}_{len(self._rest)}", []).append(cost)

    def _timed(self, twins: Sequence[SequenceId]) -> float:
        if self._kind == TRAPPED:
            time.sleep(self._random.uniform(*PAUSE_S))
        while True:
            began = time.monotonic()
            if self._step(twins) == len(twins):  # none has given way
                return time.monotonic() - began

    def _step_until(self, twins: Sequence[SequenceId]) -> None:
        while self._step(twins) < len(twins):
            pass

    def _step(self, twins: Sequence[SequenceId]) -> int:
        sampled = self._engine.step([StepRequest(twin, None, self._twin_prompt[0]) for twin in twins])
        for token in sampled:
            self._lengths[token.sequence] += 1
        return len(sampled)

    def _append(self, sequence: SequenceId, ids: Sequence[int]) -> None:
        if ids:
            self._engine.append(sequence, ids)
            self._lengths[sequence] += len(ids)


def _running(engine: Engine) -> list[int]:
    plain = " ".join(word for word in PROSE.split() if word.isascii())  # no character takes several tokens
    ids = list(engine.codec.encode([Text(plain + " ")], BodyLanguage.PYTHON))
    return ids * (CONTEXT // len(ids) + 1)


def _trapped(engine: Engine) -> list[int]:
    invocation = Invocation(TOOLS[2].name, (Argument("url", Literal('"https://example.com/a"')),))
    body = render_body(BodyLanguage.PYTHON, invocation)
    blocks: list[Block] = []
    for number in range(CONTEXT // 16):
        name = f"c{number}"
        blocks += [Text("Look:"), Call(name, body, invocation), Trap(Quantifier.ALL, (name,))]
    return list(engine.codec.encode(blocks, BodyLanguage.PYTHON))


async def serve() -> dict[str, Any]:
    """Serves until the process is told to stop; gives what it saw."""
    engine = open_engine(progress=False)
    planned = PlannedEngine(engine)
    arrivals: dict[str, list[float]] = {}

    def stamped(pb: Any) -> Any:
        now = time.monotonic()
        event = client_event_from_pb(pb)
        if isinstance(event, InterruptReceived):
            arrivals.setdefault(event.payload, []).append(now)
        return event

    setattr(inference, "client_event_from_pb", stamped)  # noqa: B010
    limits = Limits(context_length=CONTEXT, max_new_tokens=CONTEXT, max_pending_calls=CONTEXT)
    options = ServerOptions(port=0, session_limits=limits, drain_seconds=0.0)
    async with Server(cast(Engine, planned), options) as server:
        print(f"{READY}{server.address}", flush=True)
        await server.serve_until_signal()
    return {"prefill": planned.prefill, "arrivals": arrivals}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(serve())), encoding="utf-8")
