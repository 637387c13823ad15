"""What a benchmark run is written down as: one record of metrics, each with its spread and its floor."""

from __future__ import annotations

import datetime
import enum
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PROCESSORS = Path("/proc/cpuinfo")


class Better(enum.StrEnum):
    """Which way a metric is good."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measured quantity.

    Attributes:
        name: its name, the key in the record.
        value: the median of the rounds; None if it could not be measured (a peer is missing).
        unit: its unit, as `us` or `tokens/s`; `1` for a ratio.
        better: which way it is good.
        floor: the worst value that is still good enough (a ceiling if lower is better); None if nothing is held
            against it.
        samples: how many measurements are in it.
        spread: 10th and 90th percentile of the rounds, in `unit`.
    """

    name: str
    value: float | None
    unit: str
    better: Better
    floor: float | None
    samples: int
    spread: tuple[float, float] | None

    @property
    def met(self) -> bool:
        """Whether the floor holds; a floor without a value is missed."""
        if self.floor is None:
            return True
        if self.value is None:
            return False
        return self.value >= self.floor if self.better is Better.HIGHER else self.value <= self.floor


def metric(
    name: str, rounds: Sequence[float], *, unit: str, better: Better, floor: float | None, samples: int | None = None
) -> Metric:
    """A metric from its value in each round: the median, with the 10th and 90th percentile as spread.

    Args:
        name: its name.
        rounds: one value a round; empty if it could not be measured.
        unit: its unit.
        better: which way it is good.
        floor: what it is held against.
        samples: measurements behind all rounds; the number of rounds if absent.
    """
    if not rounds:
        return Metric(name=name, value=None, unit=unit, better=better, floor=floor, samples=0, spread=None)
    spread = (percentile(rounds, 10), percentile(rounds, 90))
    count = len(rounds) if samples is None else samples
    value = statistics.median(rounds)
    return Metric(name=name, value=value, unit=unit, better=better, floor=floor, samples=count, spread=spread)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of the values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values, or `percent` is not between 0 and 100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"percentile {percent} of {len(values)} values: give 0 to 100, of at least one value")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRecord:
    """One run of one benchmark.

    Attributes:
        bench: the benchmark's name.
        commit: the code's commit, or its version if it is no checkout; `+changes` if files differ from the commit.
        machine: processor, memory and software, for people.
        started: when it started, in ISO 8601, UTC.
        metrics: what was measured, by unique names.
        incomplete: whether peers were left out on purpose.

    Raises:
        ValueError: two metrics have one name.
    """

    bench: str
    commit: str
    machine: str
    started: str
    metrics: tuple[Metric, ...]
    incomplete: bool = False

    def __post_init__(self) -> None:
        names = [m.name for m in self.metrics]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"metrics: {repeated[0]!r} is measured twice; names must be unique")

    @property
    def missed(self) -> tuple[Metric, ...]:
        """The metrics that miss their floor; without peers, those that could not be measured are not among them."""
        return tuple(m for m in self.metrics if not m.met and not (self.incomplete and m.value is None))

    @property
    def exit_code(self) -> int:
        """1 if a metric misses its floor, else 0."""
        return 1 if self.missed else 0

    def to_json(self) -> str:
        """The record as indented JSON text."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in ("bench", "commit", "machine", "started")}
        if self.incomplete:
            fields["incomplete"] = True
        fields["metrics"] = {m.name: _fields(m) for m in self.metrics}
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Writes the record to a file, and makes the folder if there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def from_json(cls, text: str) -> BenchRecord:
        """Reads what `to_json` writes.

        Raises:
            ValueError, KeyError, TypeError: it is not such a record.
        """
        fields = json.loads(text)
        metrics = []
        for name, of in fields.pop("metrics").items():
            spread = None if of["spread"] is None else (of["spread"][0], of["spread"][1])
            metrics.append(Metric(**{**of, "name": name, "better": Better(of["better"]), "spread": spread}))
        return cls(**fields, metrics=tuple(metrics))


def start(bench: str) -> BenchRecord:
    """A record without metrics, of here and now; `dataclasses.replace` adds them."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return BenchRecord(bench=bench, commit=_commit(), machine=_machine(), started=now, metrics=())


def _fields(of: Metric) -> dict[str, Any]:
    names = ("value", "unit", "better", "floor", "samples", "spread")
    return {name: getattr(of, name) for name in names}


def _commit() -> str:
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(folder), *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        head = git("rev-parse", "--short=12", "HEAD")
        return f"{head}+changes" if git("status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.CalledProcessError):
        return f"asynclm-protocol {version('asynclm-protocol')}"


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    software = (
        f"{platform.system()} {platform.release()}, {platform.python_implementation()} {platform.python_version()}"
    )
    return f"{_processor()}, {os.cpu_count()} CPUs, {memory:.0f} GiB, {software}"


def _processor() -> str:
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
