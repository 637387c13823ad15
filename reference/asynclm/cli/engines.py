"""Engines by their registered names, opened with what the command line says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asynclm.cli.faults import CliError

if TYPE_CHECKING:
    from asynclm.engine.base import Engine

GROUP = "asynclm.engines"
"""The entry-point group that engines register in."""

DEFAULT_ENGINE = "torch"

ADAPTER = "adapter"
"""The name of an adapter that only one session here uses."""


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """What the command line says of the engine; None leaves a setting to the engine."""

    engine: str = DEFAULT_ENGINE
    model: str | None = None
    dtype: str | None = None
    device: str | None = None
    threads: int | None = None
    offline: bool = False
    max_sequences: int | None = None
    context_length: int | None = None
    max_batch: int | None = None
    step_tokens: int | None = None
    kv_policy: str | None = None
    kv_memory_mib: int | None = None
    prefix_memory_mib: int | None = None
    swap_dir: Path | None = None
    quantize: str | None = None
    adapters: Mapping[str, str] | None = None
    base_url: str | None = None
    interrupt_role: str | None = None
    upstream_scripts: bool | None = None


_HOSTED_ONLY = ("base_url", "interrupt_role", "upstream_scripts")
"""What only an engine that decodes elsewhere takes."""

_EXTRAS = {"openai": "openai"}
"""The extra that an engine needs, where it is not `reference`."""


def open_engine(choice: EngineChoice) -> Engine:
    """Opens an engine; the first time it may fetch and convert a model, and says so on standard error.

    Raises:
        CliError: there is no such engine, or what it needs is not installed.
        UnknownModelError, ModelError, ValueError: as the engine says.
    """
    registered = {point.name: point for point in entry_points(group=GROUP)}
    point = registered.get(choice.engine)
    if point is None:
        raise CliError(f"--engine is {choice.engine[:80]!r}; allowed: {', '.join(sorted(registered)) or 'none'}")
    settings: dict[str, Any] = {f.name: getattr(choice, f.name) for f in fields(choice) if f.name != "engine"}
    given = {name: value for name, value in settings.items() if value is not None}
    for name in _HOSTED_ONLY:
        if name in given and choice.engine != "openai":
            raise CliError(f"--{name.replace('_', '-')} is for --engine openai; the engine is {choice.engine}")
    try:
        engine: Engine = point.load()(**given)
    except ModuleNotFoundError as error:
        raise CliError(
            f"--engine {choice.engine} needs {error.name}, which is not installed: "
            f"pip install 'asynclm-protocol[{_EXTRAS.get(choice.engine, 'reference')}]'"
        ) from error
    except ValueError as error:
        raise CliError(str(error)) from error
    return engine
