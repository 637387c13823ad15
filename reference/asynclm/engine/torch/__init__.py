"""The torch engine: Llama-architecture checkpoints, decoded with an own KV cache and continuous batching.

May import `asynclm.engine.base`, `asynclm.prompt` and below, and alone imports torch; imported by nothing but the
entry point `asynclm.engines: torch`. Importing this package imports no torch: `open_engine` does.
"""

from __future__ import annotations

import os

from asynclm.engine.base import Engine
from asynclm.engine.torch.manager import DEFAULT_MODEL

__all__ = ["DEFAULT_MODEL", "be_polite", "open_engine"]


def open_engine(
    model: str = DEFAULT_MODEL,
    *,
    dtype: str = "auto",
    device: str = "auto",
    offline: bool = False,
    max_sequences: int = 16,
    threads: int | None = None,
    progress: bool = True,
    context_length: int | None = None,
) -> Engine:
    """Opens a Llama-architecture model for decoding.

    Args:
        model: the embedded model's name, a path to a Hugging Face `LlamaForCausalLM` folder, or a Hugging Face id.
        dtype: `auto` (bfloat16, or float32 on CPUs without it), `float32`, `bfloat16` or `float16`.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        offline: use only what is on this machine.
        max_sequences: sequences open at once.
        threads: CPU threads for products, for the whole process; None for torch's default.
        progress: whether to say on standard error what is fetched and loaded.
        context_length: tokens in a context, at most the model's own, which is the default.

    Raises:
        UnknownModelError: the model's name is none of the three.
        ModelError: the model cannot be fetched, or its checkpoint is unsupported, incomplete or damaged.
        ValueError: another argument is out of range.
    """
    be_polite()
    from asynclm.engine.torch.loading import open_model

    return open_model(
        model,
        dtype=dtype,
        device=device,
        offline=offline,
        max_sequences=max_sequences,
        threads=threads,
        progress=progress,
        context_length=context_length,
    )


def be_polite() -> None:
    """Lets torch's idle threads sleep instead of spin; to be called before torch loads. `OMP_WAIT_POLICY` overrides it.

    A server shares its cores with its tools. On two cores with another busy process, spinning made a decode step 1.5 to
    6 times as slow; with the cores to itself, sleeping makes it at most 8 % slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
