"""`asynclm demo`: one task in every execution mode, on real weights and real tools."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynclm.cli.engines import EngineChoice, open_engine
from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.faults import CliError

if TYPE_CHECKING:
    from asynclm.engine.base import Engine

_PANEL = "Model"


def demo(
    output: Annotated[Path, typer.Option(help="Folder for what it makes: demo.html, timeline.svg, its files.")] = Path(
        "demo-output"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the tools' delays and of the task's files.")] = 1,
    model: Annotated[
        str | None,
        typer.Option(help="A model to load. (default: the embedded one)", rich_help_panel=_PANEL, show_default=False),
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.", rich_help_panel=_PANEL)] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.", rich_help_panel=_PANEL)] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", rich_help_panel=_PANEL)] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.", rich_help_panel=_PANEL)] = False,
) -> None:
    """Show it: a page is read, a summary mailed, in each mode; ends with timelines, the mail, and latency ratios."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"--output {output}: {error.strerror}") from None
    engine = open_engine(
        EngineChoice(model=model, dtype=dtype, device=device, threads=threads, offline=offline, max_sequences=4)
    )
    asyncio.run(_run(engine, output, seed))


async def _run(engine: Engine, output: Path, seed: int) -> None:
    from rich.console import Console

    from asynclm.demo.runner import DemoError, run_demo

    try:
        await run_demo(engine, output=output, seed=seed, console=Console(highlight=False))
    except DemoError as error:
        raise CliError(str(error), ExitCode.FAILED) from error
