"""`python -m asynclm.bench NAME [--quick] [--json FILE]`: what `asynclm bench` does, without the CLI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from asynclm.bench.registry import BENCHMARKS, UnknownBenchmarkError
from asynclm.bench.report import run_and_report

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items()))],
    quick: Annotated[bool, typer.Option(help="Fewer rounds, for a first look.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the record to this file.")] = None,
) -> None:
    """Runs a benchmark; exits 1 when a metric misses its floor."""
    try:
        code = run_and_report(name, quick=quick, json_path=json, console=Console())
    except UnknownBenchmarkError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
