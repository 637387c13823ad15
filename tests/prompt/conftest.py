"""Templates of the two real models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asynclm.prompt.chat import JinjaTemplate

LLAMA3 = (Path(__file__).parent / "llama3.jinja").read_text()
"""Llama 3.1's chat template, without the parts that list tools: they are not given to it here."""


@pytest.fixture(scope="session")
def smollm2_source(smollm2_dir: Path) -> str:
    return str(json.loads((smollm2_dir / "tokenizer_config.json").read_text())["chat_template"])


@pytest.fixture(scope="session")
def smollm2_template(smollm2_source: str) -> JinjaTemplate:
    return JinjaTemplate(smollm2_source, bos="<|im_start|>", eos="<|im_end|>")


@pytest.fixture(scope="session")
def llama3_template() -> JinjaTemplate:
    return JinjaTemplate(LLAMA3, bos="<|begin_of_text|>", eos="<|eot_id|>")
