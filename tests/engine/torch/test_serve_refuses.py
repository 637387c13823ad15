"""`asynclm serve` with a checkpoint or an adapter that cannot be served ends with one line and the code for usage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.main import app

from .conftest import save_tiny_tokenizer


def damaged(base: Path, adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "use_dora": true}')


def no_adapter(base: Path, adapter: Path) -> None:
    (adapter / "adapter_config.json").unlink()


def another_architecture(base: Path, adapter: Path) -> None:
    (base / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}')


def truncated(base: Path, adapter: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def no_free_tokens(base: Path, adapter: Path) -> None:
    save_tiny_tokenizer(base, ["<|im_start|>", "<|im_end|>"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged, "adapter_config.json: use_dora is true, which is not supported; allowed: plain LoRA"),
        (no_adapter, "is no adapter folder: it has no adapter_config.json"),
        (another_architecture, "config.json: architecture is GPT2LMHeadModel; allowed: LlamaForCausalLM"),
        (truncated, "is truncated or damaged"),
        (no_free_tokens, "no known binding fits this tokenizer"),
    ],
)
def test_serve_says_in_one_line_what_is_wrong(
    damage: Callable[[Path, Path], None], message: str, tiny_dir: Path, tmp_path: Path
) -> None:
    base, adapter = shutil.copytree(tiny_dir, tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": []}')
    if damage not in (damaged, no_adapter):
        shutil.rmtree(adapter)
    damage(base, adapter)
    given = ["--adapter", f"cml={adapter}"] if adapter.exists() else []
    result = CliRunner().invoke(
        app, ["serve", "--model", str(base), "--device", "cpu", "--offline", "--port", "0", *given]
    )
    assert result.exit_code == ExitCode.USAGE
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert len([line for line in result.output.splitlines() if line.startswith("asynclm: ")]) == 1
    assert result.output.splitlines()[-1].startswith("asynclm: ")
