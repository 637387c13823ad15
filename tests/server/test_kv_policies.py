"""Whatever happens to the KV caches of trapped sessions, clients see the same events, on real weights [TRAP-051]."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from asynclm.client import AsyncLM
from asynclm.cml.binding import bind
from asynclm.cml.control import Control
from asynclm.engine.base import EngineInfo, EngineStats, SamplingParams
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptSample, ScriptText
from asynclm.engine.torch.cost_curves import CostCurve, CostCurves
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.kv_policy import Action, AutoPolicy, FixedPolicy, KvPolicy
from asynclm.engine.torch.loading import PLAIN_TEMPLATE
from asynclm.engine.torch.model import LlamaModel
from asynclm.engine.torch.swap import FileSwap
from asynclm.prompt.chat import JinjaTemplate
from asynclm.prompt.hf_tokenizer import HfTokenizer
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.session.effects import CallRow, CallSettled, CallTimings, Finished, Tokens, TrapEntered
from asynclm.tools import tool
from asynclm.tools.toolset import ToolSet
from asynclm.wire import Started

pytestmark = pytest.mark.weights

PATIENCE_S = 60.0
MIB = 1 << 20
SWAP_IS_CHEAPER = CostCurves(recompute=CostCurve(50.0), swap=CostCurve(1.0))
POLICIES: dict[str, KvPolicy] = {
    "keep": FixedPolicy(Action.KEEP),
    "swap": FixedPolicy(Action.SWAP),
    "recompute": FixedPolicy(Action.RECOMPUTE),
    "auto": AutoPolicy(SWAP_IS_CHEAPER),
}
STORY = (
    ScriptControl(Control.CALL),
    ScriptText("x"),
    ScriptControl(Control.HEAD),
    ScriptText("add(a=20, b=22)"),
    ScriptControl(Control.END),
    ScriptControl(Control.TRAP),
    ScriptText("x"),
    ScriptControl(Control.END),
    ScriptSample(max_tokens=3),
    ScriptControl(Control.CALL),
    ScriptText("y"),
    ScriptControl(Control.HEAD),
    ScriptText("add(a=x, b=1)"),
    ScriptControl(Control.END),
    ScriptControl(Control.TRAP),
    ScriptControl(Control.END),
    ScriptSample(max_tokens=3),
    ScriptEnd(),
)


@pytest.fixture(scope="module")
def model(smollm2_dir: Path) -> LlamaModel:
    return LlamaModel.load(smollm2_dir, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture
def open_engine(model: LlamaModel, smollm2_tokenizer: HfTokenizer, tmp_path: Path) -> Callable[[KvPolicy], TorchEngine]:
    def make(policy: KvPolicy) -> TorchEngine:
        return TorchEngine(
            model,
            info=EngineInfo(name="torch", model="test", context_length=512, max_sequences=8),
            tokenizer=smollm2_tokenizer,
            codec=bind(smollm2_tokenizer),
            template=JinjaTemplate(PLAIN_TEMPLATE, bos="", eos=""),
            kv_memory=5 * MIB,
            policy=policy,
            swap=FileSwap(tmp_path, minimum_free=0),
        )

    return make


class Adder:
    """A tool that is told when its session is trapped, so that the order of events is the same every time."""

    def __init__(self) -> None:
        self.trapped = threading.Semaphore(0)

    def tools(self) -> ToolSet:
        @tool(expected_duration_ms=60_000)
        def add(a: int, b: int) -> int:
            """Adds, in its own time."""
            assert self.trapped.acquire(timeout=PATIENCE_S)
            return a + b

        return ToolSet([add])


@dataclasses.dataclass
class Content:
    """What a session's stream says, however its tokens were put together into events [WIRE-064].

    Attributes:
        said: every token by itself, and every other report, in order, without times; a control token beside its id.
        logprobs: of the sampled tokens.
        alternatives: ids of the most probable tokens, for each of them.
    """

    said: list[Any] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    alternatives: list[int] = dataclasses.field(default_factory=list)
    text: str = ""

    def add(self, report: Any) -> None:
        """Takes the next report."""
        match report:
            case Tokens():
                self.said += report.ids
                if report.control is not None:
                    self.said.append(report.control)
                self.text += report.text
                self.logprobs += report.logprobs
                self.alternatives += [entry.token_id for best in report.top_logprobs for entry in best]
            case CallSettled(row=row):
                self.said.append(dataclasses.replace(report, row=untimed(row)))
            case Finished(calls=calls):
                self.said.append(dataclasses.replace(report, calls=tuple(map(untimed, calls))))
            case _:
                self.said.append(report)


async def content(llm: AsyncLM, adder: Adder, prompt: str) -> Content:
    """All that one session says but its `Started`."""
    found = Content()
    async with llm.session(
        prompt,
        model="script:story+weights",
        instructions="none",
        sampling=SamplingParams(logprobs=True, top_logprobs=2),
    ) as session:
        async for event in session:
            if isinstance(event.report, TrapEntered):
                adder.trapped.release()
            if not isinstance(event.report, Started):
                found.add(event.report)
    return found


def untimed(row: CallRow) -> CallRow:
    return dataclasses.replace(row, timings=CallTimings(emitted_ms=0))


async def played(engine: TorchEngine) -> tuple[Content, EngineStats]:
    """One session, and what the engine counted."""
    adder = Adder()
    server = Server(engine, ServerOptions(port=0, drain_seconds=0.0), adder.tools())
    await server.start()
    try:
        async with AsyncLM(server.address) as llm:
            await llm.load_script("story", STORY)
            return await content(llm, adder, "How much is 20 + 22 + 1? Use the tool, and explain it."), engine.stats()
    finally:
        await server.stop()


async def test_clients_see_the_same_under_every_policy(open_engine: Callable[[KvPolicy], TorchEngine]) -> None:
    streams: dict[str, Content] = {}
    stats: dict[str, EngineStats] = {}
    for name, policy in POLICIES.items():
        streams[name], stats[name] = await played(open_engine(policy))
    kept = streams["keep"]
    assert kept.said[-1].reason.value == "stop"
    for name, stream in streams.items():
        assert (stream.said, stream.text, stream.alternatives) == (kept.said, kept.text, kept.alternatives), name
        assert stream.logprobs == pytest.approx(kept.logprobs, abs=1e-3), name
    done = {name: (found.kept, found.swapped, found.dropped) for name, found in stats.items()}
    assert done == {"keep": (2, 0, 0), "swap": (0, 2, 0), "recompute": (0, 0, 2), "auto": (0, 2, 0)}
    assert stats["recompute"].recomputed_tokens > 0
    assert stats["keep"].recomputed_tokens == stats["swap"].recomputed_tokens == 0
