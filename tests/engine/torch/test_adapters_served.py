"""Adapters through the server: by model name, each with its own entry, in one batch with the model as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asynclm.client import AsyncLM, AsyncLMError
from asynclm.engine.torch import open_engine
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions

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
