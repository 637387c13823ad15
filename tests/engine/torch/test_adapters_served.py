"""Adapters through the server: by model name, each with its own entry, in one batch with the model as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asynclm.cli.main import app
from asynclm.cli.recording import read_recording
from asynclm.client import AsyncLM, AsyncLMError
from asynclm.engine.torch import open_engine
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.wire.values import Started

from .test_lora import ALL, make_adapter

PROMPT = list(range(60, 90))


@pytest.fixture(scope="module")
def folders(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: str(make_adapter(tiny_dir, folder / name, seed, r=4, target_modules=ALL).folder)
        for seed, name in enumerate(["one", "two"])
    }


@pytest.fixture
async def llm(tiny_dir: Path, folders: dict[str, str]) -> AsyncIterator[AsyncLM]:
    engine = open_engine(str(tiny_dir), progress=False, dtype="float32", device="cpu", offline=True, adapters=folders)
    async with Server(engine, ServerOptions(port=0, drain_seconds=0.0)) as server, AsyncLM(server.address) as client:
        yield client


async def answer(llm: AsyncLM, model: str | None) -> tuple[str, list[int]]:
    async with llm.session(prompt_ids=PROMPT, model=model, constraints="none", max_new_tokens=20) as session:
        ids = [i for event in [e async for e in session] for i in getattr(event.report, "ids", ())]
        return session.started.model, ids


async def test_each_name_is_listed_and_answers_for_itself(llm: AsyncLM) -> None:
    names = ["model", "model+one", "model+two"]
    info = await llm.server_info()
    assert [model.name for model in info.models] == names
    assert [model.description.get("adapter") for model in info.models] == [None, "one", "two"]
    assert len({model.binding.tokenizer_fingerprint for model in info.models}) == 1

    alone = [await answer(llm, name) for name in names]
    assert [name for name, _ in alone] == names
    assert len({tuple(ids) for _, ids in alone}) == 3
    assert await answer(llm, None) == alone[0]
    together = await asyncio.gather(*(answer(llm, name) for name in [*names, *names]))
    assert together == [*alone, *alone]


@pytest.mark.parametrize("name", ["model+three", "one", "model+", "model+one+two", "script:x+one"])
async def test_unknown_names_list_what_is_served(llm: AsyncLM, name: str) -> None:
    with pytest.raises(AsyncLMError, match=r"this server has: model, model\+one, model\+two, script:<id>"):
        await answer(llm, name)


def test_run_loads_an_adapter_with_its_model(tiny_dir: Path, folders: dict[str, str], tmp_path: Path) -> None:
    record = tmp_path / "session.jsonl"
    limits = "--constraints none --max-new-tokens 5 --dtype float32 --device cpu --offline --view plain --no-input"
    command = ["run", "Hello", "--model", str(tiny_dir), "--adapter", folders["one"], "--record", str(record)]
    result = CliRunner().invoke(app, [*command, *limits.split()])
    assert result.exit_code == 0, result.output
    started = [r.event.report for r in read_recording(record) if isinstance(r.event.report, Started)]
    assert [report.model for report in started] == ["model+adapter"]


@pytest.mark.parametrize(
    ("other", "message"),
    [("--target localhost:1", "ask for MODEL+NAME by --model"), ("--script story.cml", "leave one")],
)
def test_an_adapter_goes_with_a_model_that_is_loaded_here(other: str, message: str, folders: dict[str, str]) -> None:
    result = CliRunner().invoke(app, ["run", "Hello", "--adapter", folders["one"], *other.split()])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
