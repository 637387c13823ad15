"""Which view a command shows a session with."""

from __future__ import annotations

import enum
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asynclm.cli.line_editor import LineEditor
    from asynclm.cli.view import View


class ViewChoice(enum.StrEnum):
    """How a session is shown."""

    AUTO = "auto"
    """`live` on a terminal, else `plain`."""
    LIVE = "live"
    PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class OutputChoice:
    """What the command line says of what goes in and out.

    Attributes:
        view: how the session is shown.
        record: where its events are written, or None.
        typed: whether standard input is sent to it.
    """

    view: ViewChoice = ViewChoice.AUTO
    record: Path | None = None
    typed: bool = True


def open_view(choice: ViewChoice, *, editor: LineEditor | None = None, title: str = "session") -> View:
    """The view on standard output; `editor` is drawn by the live one."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if choice is ViewChoice.PLAIN or (choice is ViewChoice.AUTO and not terminal):
        from asynclm.cli.plain import PlainView

        return PlainView(sys.stdout)
    from rich.console import Console

    from asynclm.cli.live import LiveView

    return LiveView(Console(highlight=False), editor=editor, title=title)
