"""The client in `examples/` is short, and works."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tests.client.scripts import EOS, TRAP, call

from asynclm.client import AsyncLM

EXAMPLE = Path(__file__).parents[2] / "examples" / "client.py"


async def test_the_example_talks_to_a_server(llm: AsyncLM, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("example_client", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    await llm.load_script("s", ["Let me see.", *call("w", 'weather(city="Bern")'), *TRAP, "Lovely.", EOS])
    await module.main(llm.target, "What is it like in Bern?", "script:s")
    assert capsys.readouterr().out == (
        'Let me see.\n-> weather {"city": "Bern"}\n\n<- w: "21 degrees and sunny in Bern"\nLovely.'
    )


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 30
