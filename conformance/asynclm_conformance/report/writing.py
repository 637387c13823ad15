"""Writes reports: one function for all forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TextIO

from asynclm_conformance.report import badge, html, junit, text
from asynclm_conformance.report.record import Run

Format = Literal["text", "junit", "html", "badge"]


class ReportError(ValueError):
    """A report cannot be made of these runs, or not there; the message says what is possible."""


def write(runs: Sequence[Run], *, format: Format, out: Path | TextIO) -> None:
    """Writes a report.

    Args:
        runs: what it is made of; a badge is of one run.
        format: `text`, `junit`, `html` or `badge`.
        out: a file or a stream; for `html` a folder, which is made if it is not there.

    Raises:
        ReportError: there is no run, a badge is asked of several, `html` has no folder, or it cannot be written there.
    """
    if not runs:
        raise ReportError("no run is given")
    try:
        _write(runs, format, out)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ReportError(f"{out}: cannot be written: {error.strerror}; see --out") from None


def _write(runs: Sequence[Run], format: Format, out: Path | TextIO) -> None:
    if format == "html":
        if not isinstance(out, Path) or (out.exists() and not out.is_dir()):
            raise ReportError(f"html is written into a folder; got {out if isinstance(out, Path) else 'a stream'}")
        html.write_site(runs, out)
    elif isinstance(out, Path):
        with out.open("w", encoding="utf-8") as file:
            _write_stream(runs, format, file)
    else:
        _write_stream(runs, format, out)


def _write_stream(runs: Sequence[Run], format: Literal["text", "junit", "badge"], out: TextIO) -> None:
    if format == "text":
        console = text.console(out)
        for number, run in enumerate(runs):
            if number:
                console.print()
            text.write_run(run, console)
    elif format == "junit":
        out.write(junit.to_xml(runs))
    else:
        if len(runs) > 1:
            raise ReportError(f"a badge is of one run; got {len(runs)}")
        out.write(badge.to_svg(runs[0]))
