"""What the runs come to: metrics with their floors, and a table beside the literature's figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from asynclm.bench.hosted.running import Column
from asynclm.bench.hosted.stage import Run
from asynclm.bench.record import Better, Metric, metric

OURS = "futures"
OVER_BOUND, SHARE_OF_RATIO, FASTER = 1.15, 0.87, 1.0
LITERATURE: Mapping[str, Mapping[str, str]] = {
    "parallel": {"sync_parallel": "1.7×", "naive": "2.1× run", "futures": "2.1× arithmetic"},
    "multistep_needs": {"sync_parallel": "3.2×", "naive": "1.7× run", "futures": "5.4× arithmetic"},
    "multistep_free": {"sync_parallel": "3.2×", "naive": "1.7× run", "futures": "5.4× arithmetic"},
    "interrupts": {"sync_parallel": "1.7×", "naive": "1.7× run", "futures": "5.3× arithmetic"},
}
"""arXiv 2412.07017, Figures 5, 6 and 8, GPT-4o: over its own Sync, from the first token to the last."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One workload.

    Attributes:
        bounds: the least time of each task, in milliseconds.
        runs: by column, one of each task.
    """

    bounds: Sequence[float]
    runs: Mapping[str, Sequence[Run]]

    def last_ms(self, column: str) -> list[float]:
        """Times from the request to the last token."""
        return [run.times.last_ms for run in self.runs[column]]

    def over(self, column: str, base: str) -> list[float]:
        """For each task, a column's time over another's."""
        return [one / other for one, other in zip(self.last_ms(column), self.last_ms(base), strict=True)]

    def over_bound(self, column: str) -> list[float]:
        """For each task, a column's time over the least."""
        return [one / bound for one, bound in zip(self.last_ms(column), self.bounds, strict=True)]


def metrics(columns: Sequence[Column], measured: Mapping[str, Measured]) -> list[Metric]:
    """All metrics: those with floors first, workload by workload."""
    held = [of for name, found in measured.items() for of in _held(name, found)]
    return [*held, *(of for name, found in measured.items() for of in _beside(columns, name, found))]


def _held(name: str, found: Measured) -> list[Metric]:
    """What has a floor."""
    over_bound = found.over_bound(OURS)
    vs_sync = found.over("sync", OURS)
    share = [ours / bounds for ours, bounds in zip(vs_sync, found.over_bound("sync"), strict=True)]

    def ratio(of: str, values: Sequence[float], floor: float | None, better: Better = Better.HIGHER) -> Metric:
        return metric(f"{name}_{of}", values, unit="1", better=better, floor=floor)

    return [
        ratio("over_bound_p50", over_bound, OVER_BOUND, Better.LOWER),
        ratio("share_of_bound_ratio", share, SHARE_OF_RATIO),
        ratio("vs_sync", vs_sync, FASTER),
        ratio("vs_sync_parallel", found.over("sync_parallel", OURS), FASTER),
        ratio("vs_naive", found.over("naive", OURS), FASTER),
    ]


def _beside(columns: Sequence[Column], name: str, found: Measured) -> list[Metric]:
    """What is told beside that, without a floor."""

    def plain(of: str, values: Sequence[float], unit: str) -> Metric:
        return metric(f"{name}_{of}", values, unit=unit, better=Better.LOWER, floor=None)

    out = [
        metric(
            f"{name}_vs_sync_parallel_bare",
            found.over("sync_parallel_bare", OURS),
            unit="1",
            better=Better.HIGHER,
            floor=None,
        ),
        plain("bound_ms", list(found.bounds), "ms"),
    ]
    for column in columns:
        runs = found.runs[column.name]
        out += [
            plain(f"{column.name}_ms", found.last_ms(column.name), "ms"),
            plain(f"{column.name}_first_to_last_ms", [run.times.first_to_last_ms for run in runs], "ms"),
            plain(f"{column.name}_requests", [float(run.requests) for run in runs], "requests"),
            plain(f"{column.name}_discarded_tokens", [float(run.discarded) for run in runs], "tokens"),
        ]
        if column.options is not None and column.name != OURS:
            out.append(plain(f"{column.name}_over_bound_p50", found.over_bound(column.name), "1"))
    return out


def table(columns: Sequence[Column], measured: Mapping[str, Measured]) -> Table:
    """Medians of each workload and column; ratios are of times to the last token unless they say otherwise."""
    out = Table(title="medians over tasks", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("workload", "column", "to last ms", "over bound", "vs Sync", "first to last ms", "vs Sync"):
        out.add_column(heading, justify="left" if heading in ("workload", "column") else "right")
    for heading in ("requests", "discarded", "literature vs Sync"):
        out.add_column(heading, justify="right")
    for name, found in measured.items():
        out.add_row(name, "bound", f"{statistics.median(found.bounds):.0f}", "1")
        for column in columns:
            out.add_row("", column.title, *_cells(name, column.name, found), end_section=column is columns[-1])
    return out


def _cells(name: str, column: str, found: Measured) -> list[str]:
    runs, sync = found.runs[column], found.runs["sync"]
    short = [run.times.first_to_last_ms for run in runs]
    shorter = [one.times.first_to_last_ms / max(1.0, ms) for one, ms in zip(sync, short, strict=True)]
    return [
        f"{statistics.median(found.last_ms(column)):.0f}",
        f"{statistics.median(found.over_bound(column)):.2f}",
        f"{statistics.median(found.over('sync', column)):.2f}×",
        f"{statistics.median(short):.0f}",
        f"{statistics.median(shorter):.2f}×",
        f"{statistics.fmean(run.requests for run in runs):.1f}",
        f"{statistics.fmean(run.discarded for run in runs):.1f}",
        LITERATURE[name].get(column, ""),
    ]
