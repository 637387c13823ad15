"""`asynclm replay`: shows a recorded session as it went."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Annotated

import typer

from asynclm.cli.faults import CliError
from asynclm.cli.output import ViewChoice, open_view

_FRAME_MS = 80.0


def replay(
    file: Annotated[Path, typer.Argument(help="A file written by `asynclm run --record`.", show_default=False)],
    speed: Annotated[float, typer.Option(help="Times as fast as it went.")] = 1.0,
    instant: Annotated[bool, typer.Option("--instant", help="Do not wait: show how it ended.")] = False,
    view: Annotated[ViewChoice, typer.Option(help="How to show it; auto: live on a terminal.")] = ViewChoice.AUTO,
) -> None:
    """Play a recorded session in the view that it was seen in."""
    if not 0 < speed <= 1000:
        raise CliError(f"--speed is {speed:g}; allowed: above 0, up to 1000")
    asyncio.run(_play(file, None if instant else speed, view))


async def _play(file: Path, speed: float | None, choice: ViewChoice) -> None:
    from asynclm.cli.recording import read_recording

    recorded = read_recording(file)
    first = next(recorded, None)
    if first is None:
        raise CliError(f"{file}: holds no events")
    view = open_view(choice, title=file.stem)
    now_ms = 0.0
    try:
        for item in itertools.chain([first], recorded):
            while speed is not None and now_ms < item.at_ms:
                step = min(_FRAME_MS * speed, item.at_ms - now_ms)
                await asyncio.sleep(step / speed / 1000)
                now_ms += step
                view.tick(now_ms)
            view.event(item.event, item.at_ms)
    finally:
        view.close()
