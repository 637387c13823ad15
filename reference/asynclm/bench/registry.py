"""The benchmarks by name. Each is a module with `run(*, quick) -> BenchRecord`, imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from asynclm.bench.record import BenchRecord


class UnknownBenchmarkError(ValueError):
    """There is no benchmark of that name; the message lists what there is."""


BENCHMARKS: Mapping[str, str] = MappingProxyType(
    {
        "parser": "cost of parsing one token: text, bodies and block ends, in both forms",
    }
)
"""The benchmarks, each with what it measures; the module has the same name."""


def run(name: str, *, quick: bool = False) -> BenchRecord:
    """Runs a benchmark.

    Args:
        name: its name, one of `BENCHMARKS`.
        quick: fewer rounds, for a first look; not for records that are kept.

    Raises:
        UnknownBenchmarkError: there is none of that name.
    """
    if name not in BENCHMARKS:
        raise UnknownBenchmarkError(f"benchmark {name[:80]!r}: there are {', '.join(BENCHMARKS)}")
    module = importlib.import_module(f"asynclm.bench.{name}")
    record: BenchRecord = module.run(quick=quick)
    return record
