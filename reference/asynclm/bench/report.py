"""Running a benchmark for people: the table, the file, the exit code."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asynclm.bench.record import BenchRecord, Better, Metric
from asynclm.bench.registry import run


def run_and_report(
    name: str, *, quick: bool = False, without_peers: bool = False, json_path: Path | None = None, console: Console
) -> int:
    """Runs a benchmark, prints its table and writes its record.

    Args:
        name: the benchmark's name.
        quick: fewer rounds, for a first look.
        without_peers: leave peers out, which marks the record incomplete.
        json_path: where to write the record, or None.
        console: where to print.

    Returns:
        The exit code: 1 if a metric misses its floor, else 0.

    Raises:
        UnknownBenchmarkError: there is no such benchmark.
    """
    record = run(name, quick=quick, without_peers=without_peers)
    console.print(table(record))
    for missed in record.missed:
        console.print(
            f"{missed.name}: {_number(missed.value)} {missed.unit}, floor {_number(missed.floor)}", style="red"
        )
    if json_path is not None:
        record.write(json_path)
        console.print(f"Record written to {json_path}", style="dim")
    return record.exit_code


def table(record: BenchRecord) -> Table:
    """The metrics of a record as a table, with what it was measured on beneath it."""
    caption = f"{record.commit} · {record.machine}" + (" · incomplete: without peers" if record.incomplete else "")
    out = Table(title=f"bench {record.bench}", caption=caption, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("metric", "value", "p10 … p90", "floor", ""):
        out.add_column(heading, justify="left" if heading in ("metric", "") else "right", overflow="fold")
    for of in record.metrics:
        out.add_row(*_row(of))
    return out


def _row(of: Metric) -> tuple[str | Text, ...]:
    spread = "" if of.spread is None else f"{_number(of.spread[0])} … {_number(of.spread[1])}"
    bound = "" if of.floor is None else f"{'≥' if of.better is Better.HIGHER else '≤'} {_number(of.floor)}"
    verdict = Text("ok", style="green") if of.met else Text("missed", style="bold red")
    unit = "" if of.value is None or of.unit == "1" else f" {of.unit}"
    return of.name, f"{_number(of.value)}{unit}", spread, bound, verdict if bound else ""


def _number(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
