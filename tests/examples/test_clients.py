"""The example clients: the same program on a native engine and on a chat API, and the one for a real key."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from asynclm.client import EOS, AsyncLM, Control
from asynclm.engine.scripted import open_engine as open_scripted
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm_adapters.openai_chat import open_engine as open_openai
from asynclm_adapters.openai_mock.pieces import Delta, Piece
from asynclm_adapters.openai_mock.request import ChatRequest
from asynclm_adapters.openai_mock.server import MockOpenAI

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = (
    "Let me look. ",
    *(Control.CALL, " bern ", Control.HEAD, ' weather(city="Bern") ', Control.END),
    *(Control.TRAP, " bern ", Control.END),
    "It is sunny.",
    EOS,
)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["scripted", "openai"])
async def target(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A server of either kind that has the script `bern`."""
    async with MockOpenAI() as mock:
        if request.param == "scripted":
            engine = open_scripted()
        else:
            engine = open_openai(base_url=mock.base_url, api_key="any", upstream_scripts=True)
        async with Server(engine, ServerOptions(port=0)) as server, AsyncLM(server.address) as llm:
            await llm.load_script("bern", SCRIPT)
            yield server.address


async def test_one_client_on_both_engines(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    await example("client").main(target, "How is Bern today?", "script:bern")
    assert capsys.readouterr().out.splitlines() == [
        "Let me look. ",
        '-> weather {"city": "Bern"}',
        "",
        '<- bern: "21 degrees and sunny in Bern"',
        "It is sunny.",
    ]


class Forecaster:
    """Calls the tool, waits for it, and says what it has heard."""

    async def reply(self, request: ChatRequest) -> AsyncIterator[Piece]:
        heard = next((m.content for m in request.messages if "[INTR] bern" in m.content and m.role == "tool"), None)
        if heard is None:
            yield Delta('Let me look. [CALL] bern [HEAD] weather(city="Bern") [END][TRAP] bern [END]')
            return
        yield Delta(" It is " + heard.partition('"')[2].partition('"')[0] + ".")


async def test_the_example_for_a_real_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async with MockOpenAI(models={"gpt-4o": Forecaster()}) as mock:
        monkeypatch.setenv("OPENAI_BASE_URL", mock.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        await example("gpt4o").main("How is Bern today?")
    said, cost = capsys.readouterr().out.splitlines()
    assert said == "Let me look.  It is 21 degrees and sunny in Bern."
    assert cost.startswith("HostedUsage(requests=2,")
