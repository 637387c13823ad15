"""`asynclm bench`: runs a benchmark and holds it against its floors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asynclm.cli.faults import CliError


def bench(
    name: Annotated[str | None, typer.Argument(help="Which one; without a name, they are listed.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds, for a first look.")] = False,
    without_peers: Annotated[
        bool, typer.Option("--without-peers", help="Leave other engines out; the record is marked incomplete.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write the record to this file.")] = None,
) -> None:
    """Measure this implementation on this machine. Exits 1 when a metric misses its floor."""
    from rich.console import Console

    from asynclm.bench.registry import BENCHMARKS, UnknownBenchmarkError
    from asynclm.bench.report import run_and_report

    if name is None:
        for known, what in BENCHMARKS.items():
            typer.echo(f"{known}  {what}")
        return
    try:
        code = run_and_report(name, quick=quick, without_peers=without_peers, json_path=json, console=Console())
    except UnknownBenchmarkError as error:
        raise CliError(str(error)) from None
    if code:
        raise typer.Exit(code)
