"""Events a second through the server, against a bare gRPC stream of the same messages.

The engine is the scripted one, which computes nothing, so that what is measured is the way from its step to the
client: loop, session machine, event stream, conversion, gRPC. Events are counted on streams whose every token is a
control token, so that no two can be merged [WIRE-055]; tokens on a stream of plain text, whose events grow while the
client is behind [WIRE-065]. The peer is a stream of one coroutine that yields the same messages, serialised before the
run, in a server process of its own; rounds alternate, and both streams are read by the same client code.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from rich.console import Console
from rich.progress import track

from asynclm.bench.processes import server_process
from asynclm.bench.record import BenchRecord, Better, Metric, metric, percentile, start
from asynclm.bench.wire_server import BARE_METHOD, PLENTY, joined
from asynclm.cml.control import Control
from asynclm.conformance.v1 import scripted_model_pb2_grpc
from asynclm.engine.base import SamplingParams
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptStep, ScriptText
from asynclm.prompt.template import Message, Role, TextPart
from asynclm.session.config import Constraints
from asynclm.session.events import CreditGranted
from asynclm.v1 import inference_pb2_grpc, session_pb2
from asynclm.wire.client_events import client_event_to_pb
from asynclm.wire.scripts import script_to_pb
from asynclm.wire.start import StartRequest

FLOOR = 0.5
SERVER = "asynclm.bench.wire_server"
PROMPT = (Message(Role.USER, (TextPart("Hello"),)),)
SEVERAL = 8
BLOCK = 500
EVENTS, ROUNDS, PINGS = 20_000, 15, 500
QUICK_EVENTS, QUICK_ROUNDS, QUICK_PINGS = 10_000, 3, 100
TOKENS_AN_EVENT = 5
"""Plain tokens sent for each event of the other streams, so that their rounds take about as long."""


@dataclass
class Rounds:
    """What the rounds gave, by name of the metric."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Takes one round's value."""
        self.values.setdefault(name, []).append(value)


def run(*, quick: bool = False) -> BenchRecord:
    """Measures rates against the bare stream, tokens a second, and how long an event takes to its reader."""
    record = start("wire")
    with server_process(SERVER, "ours") as ours, server_process(SERVER, "bare") as bare:
        metrics = asyncio.run(_measure(ours, bare, quick=quick))
    return replace(record, metrics=metrics)


async def _measure(ours: str, bare: str, *, quick: bool) -> tuple[Metric, ...]:
    events = QUICK_EVENTS if quick else EVENTS
    async with grpc.aio.insecure_channel(ours) as ours_channel, grpc.aio.insecure_channel(bare) as bare_channel:
        client = Client(ours_channel, bare_channel)
        await client.prepare(events)
        rounds = Rounds()
        count = QUICK_ROUNDS if quick else ROUNDS
        for number in track(range(count + 1), "Streaming", console=Console(stderr=True), transient=True):
            found = await _round(client, events, QUICK_PINGS if quick else PINGS)
            if number:  # the first warms up
                for name, value in found.items():
                    rounds.add(name, value)
    return _metrics(rounds.values)


async def _round(client: Client, events: int, pings: int) -> dict[str, float]:
    """One round: each of our streams beside the bare one."""
    bare_one = await client.bare(events, 1)
    ours_one = await client.events(1)
    bare_several = await client.bare(events, SEVERAL)
    ours_several = await client.events(SEVERAL)
    tokens, tokens_events = await client.tokens()
    delays = await client.delays(pings)
    return {
        "vs_bare_grpc": ours_one / bare_one,
        f"vs_bare_grpc_{SEVERAL}": ours_several / bare_several,
        "events_per_second": ours_one,
        f"events_per_second_{SEVERAL}": ours_several,
        "bare_per_second": bare_one,
        f"bare_per_second_{SEVERAL}": bare_several,
        "tokens_per_second": tokens,
        "tokens_an_event": tokens_events,
        "tokens_vs_bare_events": tokens / bare_one,
        "made_to_read_us_p50": statistics.median(delays),
        "made_to_read_us_p99": percentile(delays, 99),
        "bare_echo_us_p50": statistics.median(await client.echoes(pings)),
    }


def _metrics(values: dict[str, list[float]]) -> tuple[Metric, ...]:
    units = {"vs": "1", "events": "events/s", "bare": "events/s", "tokens": "tokens/s", "made": "us"}
    units |= {"bare_echo_us_p50": "us", "tokens_an_event": "1", "tokens_vs_bare_events": "1"}
    out = []
    for name, rounds in values.items():
        unit = units.get(name) or units[name.partition("_")[0]]
        better = Better.LOWER if unit == "us" else Better.HIGHER
        floor = FLOOR if name == "vs_bare_grpc" else None
        out.append(metric(name, rounds, unit=unit, better=better, floor=floor))
    return tuple(out)


class Client:
    """Reads streams of both servers, with the same stubs and the same loop."""

    def __init__(self, ours: grpc.aio.Channel, bare: grpc.aio.Channel) -> None:
        self._session = inference_pb2_grpc.InferenceStub(ours).Session
        self._scripts = scripted_model_pb2_grpc.ScriptedModelStub(ours)
        stubs: Any = bare  # whose types want more than the library does
        self._bare = stubs.stream_stream(BARE_METHOD, response_deserializer=session_pb2.ServerEvent.FromString)
        self._sample = b""

    async def prepare(self, events: int) -> None:
        """Loads the scripts, and takes the messages of one run for the bare server to repeat."""
        for script_id, count in (("one", events), ("several", events // SEVERAL)):
            await self._scripts.LoadScript(script_to_pb(script_id, _unmergeable(count)))
        text = "word and " * (events * TOKENS_AN_EVENT // 9)
        await self._scripts.LoadScript(script_to_pb("text", (ScriptText(text), ScriptEnd())))
        await self._scripts.LoadScript(script_to_pb("ping", _unmergeable(1 << 16)))
        call = await self._open("several")
        self._sample = joined([event.SerializeToString() async for event in call if event.HasField("tokens")])

    async def events(self, streams: int) -> float:
        """Events a second over so many sessions at once."""
        calls = [await self._open("one" if streams == 1 else "several", credit=0) for _ in range(streams)]
        return await _rate(calls, client_event_to_pb(CreditGranted(tokens=PLENTY), 2))

    async def bare(self, events: int, streams: int) -> float:
        """The same of the bare stream."""
        calls = []
        for _ in range(streams):
            calls.append(self._bare())
            await calls[-1].write(self._sample)
        return await _rate(calls, b"%d" % (events // streams))

    async def tokens(self) -> tuple[float, float]:
        """Tokens a second of plain text, and tokens in an event."""
        call = await self._open("text", credit=0)
        stream = aiter(call)
        await anext(stream)
        tokens = events = 0
        began = time.perf_counter()
        await call.write(client_event_to_pb(CreditGranted(tokens=PLENTY), 2))
        async for event in stream:
            tokens += len(event.tokens.ids)
            events += event.HasField("tokens")
        return tokens / (time.perf_counter() - began), tokens / events

    async def delays(self, count: int) -> list[float]:
        """From the step that made an event to its reader, in microseconds, of events that come one at a time."""
        call = await self._open("ping", credit=0, sampling=SamplingParams(logprobs=True))
        await call.read()
        delays = []
        for number in range(count):
            await call.write(client_event_to_pb(CreditGranted(tokens=1), number + 2))
            event = await call.read()
            while not event.tokens.logprobs:
                event = await call.read()
            delays.append((time.monotonic() - event.tokens.logprobs[0]) * 1e6)
        call.cancel()
        return delays

    async def echoes(self, count: int) -> list[float]:
        """There and back on the bare stream, in microseconds."""
        call = self._bare()
        await call.write(self._sample)
        await call.write(b"0")
        await call.read()
        message = session_pb2.ServerEvent(sequence=1).SerializeToString()
        times = []
        for _ in range(count):
            began = time.perf_counter()
            await call.write(message)
            await call.read()
            times.append((time.perf_counter() - began) * 1e6)
        call.cancel()
        return times

    async def _open(self, script_id: str, **settings: Any) -> Any:
        stub: Any = self._session  # as above
        call = stub()
        wanted = StartRequest(model=f"script:{script_id}", messages=PROMPT, constraints=Constraints.NONE, **settings)
        await call.write(client_event_to_pb(wanted, 1))
        return call


def _unmergeable(events: int) -> Sequence[ScriptStep]:
    """Tokens that are each an event: `[HEAD]` after `[HEAD]` in a call block that is closed now and then."""
    heads = (ScriptControl(Control.HEAD),) * (BLOCK - 2)
    block = (ScriptControl(Control.CALL), *heads, ScriptControl(Control.END))
    return (*(block * (events // BLOCK)), ScriptEnd())


async def _rate(calls: Sequence[Any], go: object) -> float:
    """Messages a second, from the word that starts all streams to the last message of the last."""
    streams = [aiter(call) for call in calls]
    await asyncio.gather(*(anext(stream) for stream in streams))
    began = time.perf_counter()
    counts = await asyncio.gather(*(_drain(call, stream, go) for call, stream in zip(calls, streams, strict=True)))
    return sum(counts) / (time.perf_counter() - began)


async def _drain(call: Any, stream: AsyncIterator[session_pb2.ServerEvent], go: object) -> int:
    await call.write(go)
    await call.done_writing()
    count = 0
    async for _ in stream:
        count += 1
    return count
