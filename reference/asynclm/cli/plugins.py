"""Commands that other packages add to `asynclm`, by their registered names."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

GROUP = "asynclm.commands"
"""The entry-point group that commands register in; each names a function as typer takes it."""


def names() -> list[str]:
    """The names of the commands that are registered."""
    return sorted(_registered())


def load(name: str) -> Any:
    """A registered command, as click runs it; None where there is none of that name."""
    point = _registered().get(name)
    if point is None:
        return None
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    app.command(name)(point.load())
    return typer.main.get_command(app)


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
