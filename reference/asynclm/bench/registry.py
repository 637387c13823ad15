"""The benchmarks by name. Each is a module with `run(*, quick) -> BenchRecord`, imported when it is asked for.

Those that compare with peers take `without_peers` as well.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from asynclm.bench.record import BenchRecord


class UnknownBenchmarkError(ValueError):
    """There is no benchmark of that name; the message lists what there is."""


BENCHMARKS: Mapping[str, str] = MappingProxyType(
    {
        "decode": "tokens a second at 1, 8 and 16 sequences, against transformers and vLLM on the same weights",
        "hosted": "tasks on a chat API at GPT-4o's pace: sessions against ordinary tool calling, and against the bound",
        "interrupt": "from an interrupt's arrival to the first token after it, in decode steps, and against vLLM",
        "overhead": "cost of sessions, masks and grammar, in percent of the bare engine's decode rate",
        "parser": "cost of parsing one token: text, bodies and block ends, in both forms",
        "sessions": "a thousand sessions trapped at once: the server's memory, and whether all come back as they were",
        "wire": "events and tokens a second through the server, against a bare gRPC stream",
    }
)
"""The benchmarks, each with what it measures; the module has the same name."""


def run(name: str, *, quick: bool = False, without_peers: bool = False) -> BenchRecord:
    """Runs a benchmark.

    Args:
        name: its name, one of `BENCHMARKS`.
        quick: fewer rounds, for a first look; not for records that are kept.
        without_peers: leave peers out; the record of a benchmark that has any is marked incomplete.

    Raises:
        UnknownBenchmarkError: there is none of that name.
    """
    if name not in BENCHMARKS:
        raise UnknownBenchmarkError(f"benchmark {name[:80]!r}: there are {', '.join(BENCHMARKS)}")
    module = importlib.import_module(f"asynclm.bench.{name}")
    if "without_peers" not in inspect.signature(module.run).parameters:
        record: BenchRecord = module.run(quick=quick)
        return record
    record = module.run(quick=quick, without_peers=without_peers)
    return replace(record, incomplete=record.incomplete or without_peers)
