"""The demonstration on real weights, real tools and a real mail server; no delays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from asynclm.cml.control import Control
from asynclm.demo.mail import MailServer
from asynclm.demo.network import TYPICAL_MS, Network
from asynclm.demo.prompts import FIRST_TOKEN, QUESTIONS, own_tools
from asynclm.demo.runner import MODES, Stage, served
from asynclm.demo.task import build_script, load_task
from asynclm.demo.tools import demo_tools
from asynclm.demo.world import World, build_world
from asynclm.engine.base import Engine
from asynclm.engine.script import ScriptControl, ScriptText
from asynclm.engine.torch import open_engine
from asynclm.session.config import ExecutionMode
from asynclm.session.state import FinishReason


@pytest.fixture
def engine(smollm2_dir: Path) -> Iterator[Engine]:
    opened = open_engine(str(smollm2_dir), progress=False)
    yield opened
    opened.shutdown()


def values(world: World) -> set[str]:
    """Everything that a tool can return from this world."""
    people = [*world.attendees, *world.chairs.values()]
    return {v for p in people for v in (p.name, p.email)} | {world.page.title, *world.page.paragraphs}


@pytest.mark.parametrize("mode", MODES)
def test_no_value_that_a_tool_returns_stands_in_a_script(tmp_path: Path, mode: ExecutionMode) -> None:
    written = "".join(s.text for s in build_script(load_task(), mode, TYPICAL_MS).steps if isinstance(s, ScriptText))
    for seed in range(4):
        world = build_world(tmp_path, page_seed=seed, attendees_seed=seed, directory_seed=seed)
        assert not [value for value in values(world) if value in written]


def test_the_scripts_of_all_modes_hold_the_same_calls_and_prose() -> None:
    task = load_task()
    plain = build_script(task, ExecutionMode.SYNC, TYPICAL_MS).steps
    for mode in MODES:
        steps = list(build_script(task, mode, TYPICAL_MS).steps)
        while ScriptControl(Control.TRAP) in steps:
            trap = steps.index(ScriptControl(Control.TRAP))
            del steps[trap : steps.index(ScriptControl(Control.END), trap) + 1]
        assert tuple(steps) == plain, mode


@pytest.mark.weights
async def test_other_files_make_another_mail(engine: Engine, tmp_path: Path) -> None:
    seeds = {
        "as it is": {},
        "another page": {"page_seed": 1},
        "other attendees": {"attendees_seed": 1},
        "another chair": {"directory_seed": 1},
    }
    sent = {}
    with MailServer() as mail:
        tools = demo_tools(tmp_path, (mail.host, mail.port), Network.none())
        async with served(engine, tools) as llm:
            stage = Stage(llm, Console(quiet=True), mail, load_task(), tools)
            for name, seed in seeds.items():
                world = build_world(tmp_path, **seed)
                run = await stage.play(ExecutionMode.ASYNC)
                (delivered,) = run.mail
                assert delivered.to == tuple(p.email for p in world.attendees)
                assert delivered.cc == (world.chairs["Physics"].email,)
                assert world.page.title in delivered.subject
                assert run.timeline.reason is FinishReason.STOP
                sent[name] = delivered
    assert sent["another page"].subject != sent["as it is"].subject
    assert sent["another page"].body != sent["as it is"].body
    assert sent["other attendees"].to != sent["as it is"].to
    assert sent["another chair"].cc != sent["as it is"].cc


@pytest.mark.weights
async def test_the_model_calls_by_itself_under_grammar_and_gates(engine: Engine) -> None:
    tools = own_tools()
    with MailServer() as mail:
        async with served(engine, tools) as llm:
            await llm.load_script(FIRST_TOKEN.id, FIRST_TOKEN.steps)
            stage = Stage(llm, Console(quiet=True), mail, load_task(), tools)
            for question in QUESTIONS:
                timeline = await stage.ask(question)
                assert timeline.calls, question
                assert all(call.function in tools for call in timeline.calls)
