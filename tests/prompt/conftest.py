"""Templates of the two real models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asynclm.prompt.chat import JinjaTemplate


@pytest.fixture(scope="session")
def smollm2_template(smollm2_dir: Path) -> JinjaTemplate:
    settings = json.loads((smollm2_dir / "tokenizer_config.json").read_text())
    return JinjaTemplate(settings["chat_template"], bos=settings["bos_token"], eos=settings["eos_token"])
