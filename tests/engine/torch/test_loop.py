"""The loop on an engine that prefills long prompts over several steps: nothing that a session wants is lost."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from asynclm.engine.base import SamplingParams
from asynclm.engine.constraints import compile_constraint
from asynclm.engine.loop import EngineLoop
from asynclm.engine.running import SessionRequest, TimedReport
from asynclm.engine.script import Script, ScriptEnd, ScriptText
from asynclm.engine.torch.model import LlamaModel
from asynclm.engine.torch.scheduler import StepLimits
from asynclm.prompt.hf_tokenizer import HfTokenizer
from asynclm.session.config import Constraints, SessionConfig
from asynclm.session.effects import Finished, InterruptCommitted, Tokens
from asynclm.session.events import CreditGranted, InterruptReceived


@pytest.fixture
def loop() -> Iterator[EngineLoop]:
    loop = EngineLoop()
    loop.start()
    yield loop
    loop.stop()


def test_long_prompts_keep_their_scripts_and_interrupts(
    loop: EngineLoop, tiny_model: LlamaModel, tiny_tokenizer: HfTokenizer, make_engine: Any
) -> None:
    engine = make_engine(tiny_model, tiny_tokenizer, limits=StepLimits(step_tokens=5))
    constraint = compile_constraint(engine.codec, engine.tokenizer, grammar=False)
    reports: dict[str, queue.SimpleQueue[Any]] = {}

    def start(name: str, length: int) -> None:
        mine = reports[name] = queue.SimpleQueue()

        def sink(batch: Sequence[TimedReport]) -> None:
            for timed in batch:
                mine.put(timed.report)

        request = SessionRequest(
            session_id=name,
            engine=engine,
            prompt_ids=tuple([65] * length),
            config=SessionConfig(
                constraints=Constraints.STATIC, prompt_tokens=length, credit=None if length < 9 else 0
            ),
            sampling=SamplingParams(),
            constraint=constraint.session(),
            sink=sink,
            script=Script(name, (ScriptText("hello world"), ScriptEnd())),
        )
        loop.open(request).result()

    start("short", 3)
    start("long", 60)
    loop.post("long", InterruptReceived(source="@user", payload="Wait: " + "x" * 40))
    loop.post("long", CreditGranted(tokens=100))
    for name in ("short", "long"):
        said, committed = "", []
        while not isinstance(report := reports[name].get(timeout=60), Finished):
            said += report.text if isinstance(report, Tokens) else ""
            committed += [report.token_index] if isinstance(report, InterruptCommitted) else []
        assert said == "hello world"
        assert committed == ([0] if name == "long" else [])
