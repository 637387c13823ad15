"""Opens a model: finds it, loads weights, tokenizer, binding and chat template, and makes the engine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from asynclm.cml.binding import BindingError, bind
from asynclm.engine.base import EngineInfo, ModelError
from asynclm.engine.torch.calibration import open_policy
from asynclm.engine.torch.checkpoint import LlamaConfig, read_config
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.kv_policy import KvPolicy, make_policy
from asynclm.engine.torch.linear import bfloat16_is_fast
from asynclm.engine.torch.lora import Adapter
from asynclm.engine.torch.lora_loading import load_adapter
from asynclm.engine.torch.manager import ResolvedModel, resolve_adapter, resolve_model
from asynclm.engine.torch.memory_limits import kv_memory
from asynclm.engine.torch.model import LlamaModel
from asynclm.engine.torch.operations import COMPILED, compile_kernels
from asynclm.engine.torch.options import TorchOptions
from asynclm.engine.torch.quantize import linear_maker
from asynclm.engine.torch.scheduler import CPU_CHUNK, GPU_CHUNK, StepLimits
from asynclm.engine.torch.swap import SwapStore, open_swap, swap_folder
from asynclm.prompt.chat import JinjaTemplate
from asynclm.prompt.hf_tokenizer import HfTokenizer, TokenizerError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n\n"
    "{% endfor %}Assistant:"
)
"""For checkpoints without a chat template (base models)."""


def open_model(options: TorchOptions) -> TorchEngine:
    """Does the work of `asynclm.engine.torch.open_engine`."""
    place = choose_device(options.device)
    kind = choose_dtype(options.dtype, place)
    linear_maker(options.quantize, dtype=kind, device=place)  # tells what does not go together before any file is read
    resolved = resolve_model(options.model, offline=options.offline, progress=options.progress)
    config = read_config(resolved.folder)
    length = _context_length(config, options.context_length)
    tokenizer, codec, template = _open_text_side(resolved.folder)
    engine_info = EngineInfo(
        name="torch",
        model=resolved.name,
        context_length=length,
        max_sequences=options.max_sequences,
        adapters=tuple(options.adapters),
        description=_describe(resolved, place, kind, options.quantize),
    )
    adapters = _load_adapters(options, config, kind, place)  # before the weights, which take longer
    if place.type == "cpu" and kind in COMPILED:
        with _working("Preparing kernels for this processor", options.progress):
            compile_kernels(kind)
    track_layers = _tracker(resolved.name, options.progress)
    weights = LlamaModel.load(resolved.folder, dtype=kind, device=place, track=track_layers, quantize=options.quantize)
    weights.adapters.update(adapters)
    policy, swap, about = _open_policy(options, weights, length)
    try:
        return TorchEngine(
            weights,
            info=dataclasses.replace(engine_info, description=engine_info.description | about),
            tokenizer=tokenizer,
            codec=codec,
            template=template,
            limits=step_limits(options.max_batch, options.step_tokens, place),
            kv_memory=kv_memory(place, options.kv_memory_mib),
            prefix_memory=options.prefix_memory_mib << 20,
            policy=policy,
            swap=swap,
        )
    except ValueError as error:
        raise ModelError(f"{resolved.folder}: {error}") from None


def _open_policy(
    options: TorchOptions, model: LlamaModel, context_length: int
) -> tuple[KvPolicy, SwapStore | None, dict[str, str]]:
    """The KV policy, the store that it swaps to, and what there is to say of them."""
    about = {"kv policy": options.kv_policy}
    if options.kv_policy in ("keep", "recompute"):
        return make_policy(options.kv_policy), None, about
    folder = options.swap_dir or swap_folder()
    try:
        swap = open_swap(model.device, folder)
    except OSError as error:
        raise ValueError(f"swap_dir is {str(folder)[:200]!r}: {error.strerror}; give a folder to write to") from None
    policy, curves = open_policy(
        options.kv_policy,
        model,
        swap,
        step_tokens=options.step_tokens,
        context_length=context_length,
        variant={"quantize": options.quantize or "", "swap_dir": str(folder)},
        progress=options.progress,
    )
    if curves is not None:
        about |= {"kv recompute": str(curves.recompute), "kv swap": str(curves.swap)}
    return policy, swap, about


def _load_adapters(
    options: TorchOptions, config: LlamaConfig, dtype: torch.dtype, device: torch.device
) -> dict[str, Adapter]:
    adapters = {}
    for name, place in options.adapters.items():
        folder = resolve_adapter(name, place, offline=options.offline)
        adapters[name] = load_adapter(name, folder, config, dtype=dtype, device=device)
    return adapters


def choose_device(name: str) -> torch.device:
    """The device by its name; `auto` is the first GPU if there is one.

    Raises:
        ValueError: the name is no device, or this machine has none of that kind.
    """
    cuda = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "cpu")
    allowed = "auto, cpu" + (", cuda, cuda:N" if cuda else " (no GPU is visible here)")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is {name[:40]!r}; allowed: {allowed}") from None
    if device.type == "cuda" and cuda and (device.index or 0) < torch.cuda.device_count():
        return device
    if device.type == "cpu":
        return device
    raise ValueError(f"device is {name[:40]!r}; allowed: {allowed}")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype by its name; `auto` is bfloat16, or float32 on CPUs that do not compute in it.

    Raises:
        ValueError: the name is no dtype that is served.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" and not bfloat16_is_fast() else torch.bfloat16
    if name not in DTYPES:
        raise ValueError(f"dtype is {name[:40]!r}; allowed: auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def step_limits(max_batch: int, step_tokens: int, device: torch.device) -> StepLimits:
    """How much goes into one step on a device."""
    chunk = GPU_CHUNK if device.type == "cuda" else CPU_CHUNK
    return StepLimits(max_batch=max_batch, step_tokens=step_tokens, chunk=chunk)


def _context_length(config: LlamaConfig, wanted: int | None) -> int:
    if wanted is None:
        return config.context_length
    if not 2 <= wanted <= config.context_length:
        raise ValueError(f"context_length is {wanted}; allowed: 2 to {config.context_length}, the model's own")
    return wanted


def _open_text_side(folder: Path) -> tuple[HfTokenizer, Any, JinjaTemplate]:
    try:
        tokenizer = HfTokenizer.from_folder(folder)
        codec = bind(tokenizer)
        source = read_chat_template(folder) or PLAIN_TEMPLATE
        return tokenizer, codec, JinjaTemplate(source, bos=tokenizer.bos_token, eos=tokenizer.eos_token)
    except (TokenizerError, BindingError, ValueError) as error:
        raise ModelError(f"{folder}: {error}") from None


def read_chat_template(folder: Path) -> str | None:
    """The checkpoint's chat template: `chat_template.jinja`, or the one named in JSON; None for base models.

    Raises:
        ValueError: a file is not JSON.
    """
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            template = json.loads((folder / name).read_bytes()).get("chat_template")
            if isinstance(template, list):  # several, by name
                template = {entry["name"]: entry["template"] for entry in template}.get("default")
            if isinstance(template, str):
                return template
    return None


def _describe(
    resolved: ResolvedModel, device: torch.device, dtype: torch.dtype, quantize: str | None
) -> dict[str, str]:
    weights = {} if quantize is None else {"weights": quantize}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "dtype": str(dtype).removeprefix("torch."),
        **weights,
        "source": resolved.source,
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
    }


def _working(on: str, shown: bool) -> AbstractContextManager[Any]:
    return Console(stderr=True).status(on) if shown else nullcontext()


def _tracker(name: str, shown: bool) -> Callable[[Sequence[int]], Iterable[int]]:
    if not shown:
        return lambda layers: layers
    console = Console(stderr=True)
    return lambda layers: track(layers, description=f"Loading {name}", console=console, transient=True)
