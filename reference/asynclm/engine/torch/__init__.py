"""The torch engine: Llama-architecture checkpoints, decoded with an own KV cache and continuous batching.

May import `asynclm.engine.base`, `asynclm.prompt` and below, and alone imports torch; imported by nothing but the
entry point `asynclm.engines: torch`. Importing this package imports no torch: `open_engine` does.
"""

from __future__ import annotations

import os
from typing import Any

from asynclm.engine.base import Engine
from asynclm.engine.torch.manager import DEFAULT_MODEL
from asynclm.engine.torch.options import TorchOptions

__all__ = ["DEFAULT_MODEL", "be_polite", "open_engine"]


def open_engine(model: str = DEFAULT_MODEL, **settings: Any) -> Engine:
    """Opens a Llama-architecture model for decoding.

    Args:
        model: the embedded model's name, a path to a Hugging Face `LlamaForCausalLM` folder, or a Hugging Face id.
        **settings: the other fields of `asynclm.engine.torch.options.TorchOptions`.

    Raises:
        UnknownModelError: the model's name is none of the three.
        ModelError: the model or an adapter cannot be fetched, or is unsupported, incomplete or damaged.
        ValueError: a setting is out of range.
    """
    options = TorchOptions(model=model, **settings)
    be_polite()
    from asynclm.engine.torch.loading import open_model
    from asynclm.engine.torch.threads import call_on_own_thread, use_threads

    if options.threads is not None:
        use_threads(options.threads)
    return call_on_own_thread(lambda: open_model(options))


def be_polite() -> None:
    """Lets torch's idle threads sleep instead of spin; to be called before torch loads. `OMP_WAIT_POLICY` overrides it.

    A server shares its cores with its tools. On two cores with another busy process, spinning made a decode step 1.5 to
    6 times as slow; with the cores to itself, sleeping makes it at most 8 % slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
