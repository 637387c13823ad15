"""The torch engine: Llama-architecture checkpoints, decoded with an own KV cache and continuous batching.

May import `asynclm.engine.base`, `asynclm.prompt` and below, and alone imports torch; imported by nothing but the
entry point `asynclm.engines: torch`. Importing this package imports no torch: `open_engine` does.
"""

from __future__ import annotations
