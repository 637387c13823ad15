"""The loop on an engine that prefills long prompts over several steps: nothing that a session wants is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from asynclm.cml.control import Control, Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine import planning
from asynclm.engine.base import SamplingParams
from asynclm.engine.constraints import SessionConstraint, compile_constraint
from asynclm.engine.loop import EngineLoop
from asynclm.engine.running import SessionRequest, TimedReport
from asynclm.engine.script import Script, ScriptControl, ScriptEnd, ScriptRelease, ScriptStep, ScriptText
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.model import LlamaModel
from asynclm.engine.torch.scheduler import StepLimits
from asynclm.prompt.hf_tokenizer import HfTokenizer
from asynclm.session.config import Constraints, Limits, OnEnd, SessionConfig
from asynclm.session.effects import CallDispatched, Finished, InterruptCommitted, Tokens
from asynclm.session.events import CreditGranted, InterruptReceived
from asynclm.session.mask import Mask
from asynclm.session.state import FinishReason, Scheduling

SEARCH = ToolSpec(
    name="search",
    parameters={"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)


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


# --- masks that are computed while the forward pass runs -------------------------------------------------------------


class Heard:
    """One session's reports: its ids, and how it ended."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.calls: list[str] = []
        self.finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        self.begun = threading.Event()

    def sink(self, batch: Sequence[TimedReport]) -> None:
        for timed in batch:
            match timed.report:
                case Tokens(ids=ids) | InterruptCommitted(ids=ids):
                    self.ids += ids
                    self.begun.set()
                case CallDispatched(function=function):
                    self.calls.append(function)
                case Finished() as report:
                    self.finished.put(report)


def grammar_request(
    engine: TorchEngine, name: str, heard: Heard, sampling: SamplingParams, *steps: ScriptStep, new_tokens: int = 48
) -> SessionRequest:
    """A session whose model goes on by itself, under GRAMMAR, after what the script says."""
    prompt_ids = tuple(engine.tokenizer.encode("Call the tools, again and again."))
    limits = Limits(max_new_tokens=new_tokens, max_block_tokens=20, context_length=engine.info.context_length)
    return SessionRequest(
        session_id=name,
        engine=engine,
        prompt_ids=prompt_ids,
        config=SessionConfig(
            constraints=Constraints.GRAMMAR,
            tools=(SEARCH,),
            client_tools=frozenset({"search"}),
            prompt_tokens=len(prompt_ids),
            limits=limits,
        ),
        sampling=sampling,
        constraint=compile_constraint(engine.codec, engine.tokenizer, (SEARCH,)).session(),
        sink=heard.sink,
        script=Script(name, (*steps, ScriptRelease())) if steps else None,
    )


@pytest.mark.weights
@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(temperature=1.0, seed=11)])
def test_masks_that_are_made_or_asked_give_the_same_tokens_as_masks_made_before_the_pass(
    loop: EngineLoop,
    smollm2_float32: LlamaModel,
    smollm2_tokenizer: HfTokenizer,
    make_engine: Any,
    monkeypatch: pytest.MonkeyPatch,
    sampling: SamplingParams,
) -> None:
    engine = make_engine(smollm2_float32, smollm2_tokenizer)
    streams: dict[str, list[list[int]]] = {}
    for way in ("lazy", "before"):
        if way == "before":
            monkeypatch.setattr(planning, "_source", lambda running, mask: running.constraint.bits(mask))
        heard = [Heard(), Heard()]
        for number, of in enumerate(heard):
            call = (ScriptText("Searching. " * (number + 1)), ScriptControl(Control.CALL))
            loop.open(grammar_request(engine, f"{way}-{number}", of, sampling, *call)).result(60)
        for of in heard:
            assert of.finished.get(timeout=60).reason is FinishReason.LENGTH
            assert set(of.calls) <= {"search"}
        streams[way] = [of.ids for of in heard]
    assert streams["lazy"] == streams["before"]
    end = engine.codec.control_ids[Control.END]
    assert all(end in ids for ids in streams["lazy"])


@pytest.mark.parametrize(
    ("used", "sampling"), [("allows", SamplingParams()), ("bits", SamplingParams(temperature=1.0))]
)
def test_a_mask_that_raises_ends_its_own_session_only(
    loop: EngineLoop,
    tiny_model: LlamaModel,
    tiny_tokenizer: HfTokenizer,
    make_engine: Any,
    monkeypatch: pytest.MonkeyPatch,
    used: str,
    sampling: SamplingParams,
) -> None:
    """[ERR-005, ERR-008]: the client is told that it failed, and nothing of how."""
    engine = make_engine(tiny_model, tiny_tokenizer)
    bad, good = Heard(), Heard()
    requests = [
        grammar_request(engine, "bad", bad, sampling, ScriptControl(Control.CALL)),
        grammar_request(engine, "good", good, sampling, ScriptControl(Control.CALL)),
    ]
    sound = getattr(SessionConstraint, used)

    def fails(self: SessionConstraint, mask: Mask, *token_id: int) -> Any:
        if self is requests[0].constraint and mask.block_rule is not None:
            raise RuntimeError("a bug at /secret/path")
        return sound(self, mask, *token_id)

    monkeypatch.setattr(SessionConstraint, used, fails)
    for request in requests:
        loop.open(request).result(60)
    finished = bad.finished.get(timeout=60)
    assert finished.reason is FinishReason.ENGINE_ERROR
    assert "secret" not in finished.message
    assert good.finished.get(timeout=60).reason is FinishReason.LENGTH


# --- interrupts and floods -------------------------------------------------------------------------------------------


class Waiting:
    """An engine that tells when somebody asks it to give way. All else is the engine's own."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine = engine
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def give_way(self) -> None:
        self.asked += 1
        self._engine.give_way()


def test_a_step_is_asked_to_give_way_for_what_would_be_committed_next(
    loop: EngineLoop, tiny_model: LlamaModel, tiny_tokenizer: HfTokenizer, make_engine: Any
) -> None:
    engine = Waiting(make_engine(tiny_model, tiny_tokenizer))
    heard = Heard()
    request = grammar_request(cast(Any, engine), "a", heard, SamplingParams(), new_tokens=10)
    loop.open(dataclasses.replace(request, config=dataclasses.replace(request.config, credit=0))).result(60)
    for event, asked in (
        (InterruptReceived(source="@user", payload="now"), 1),
        (InterruptReceived(source="@user", payload="later", scheduling=Scheduling.WHEN_IDLE), 1),
        (InterruptReceived(source="x", payload="1", status=Status.PROGRESS), 1),
        (InterruptReceived(source="@user", payload="now", scheduling=Scheduling.IMMEDIATE), 2),
    ):
        loop.post("a", event)
        assert engine.asked == asked
    loop.post("nobody", InterruptReceived(source="@user", payload="now"))
    assert engine.asked == 2


def test_a_flood_of_interrupts_stops_no_session(
    loop: EngineLoop, tiny_model: LlamaModel, tiny_tokenizer: HfTokenizer, make_engine: Any
) -> None:
    """[SES-006]: of two steps in a row, one is finished, whatever arrives."""
    engine = make_engine(tiny_model, tiny_tokenizer)
    heard = Heard()
    request = grammar_request(engine, "a", heard, SamplingParams(temperature=1.0), new_tokens=60)
    config = dataclasses.replace(request.config, on_end=OnEnd.DETACH)
    loop.open(dataclasses.replace(request, config=config)).result(60)
    finished = None
    while finished is None:
        for _ in range(20):
            loop.post("a", InterruptReceived(source="@user", payload="!"))
        with contextlib.suppress(queue.Empty):
            finished = heard.finished.get_nowait()
        loop.call(lambda: None).result(60)
    assert finished.reason in (FinishReason.LENGTH, FinishReason.CONTEXT_FULL, FinishReason.STOP)
