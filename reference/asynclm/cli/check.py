"""`asynclm check`: says whether a document is CML, and where it is not."""

from __future__ import annotations

import collections
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.faults import CliError
from asynclm.cml.control import BodyLanguage
from asynclm.demo.safe import one_line

if TYPE_CHECKING:
    from asynclm.cli.document import Finding
    from asynclm.cml.text_form import Located

_MOST_ERRORS = 50
_LINE_CELLS = 100


def check(
    file: Annotated[Path, typer.Argument(help="A text with CML in its text form; `-` for standard input.")],
    body: Annotated[BodyLanguage, typer.Option(help="The language of call bodies.")] = BodyLanguage.PYTHON,
    session: Annotated[
        bool,
        typer.Option(help="Check what one session would, too: ids used twice, references and traps to unknown ids."),
    ] = True,
) -> None:
    """Check CML: count its blocks, or show each error with its line and a caret. Exits 1 on errors."""
    from asynclm.cli.document import findings
    from asynclm.cml.text_form import parse_document

    name, text = _read(file)
    parts = parse_document(text, body)
    errors = findings(parts, session=session)
    for error in errors[:_MOST_ERRORS]:
        typer.echo(_shown(name, text, error))
    if len(errors) > _MOST_ERRORS:
        typer.echo(f"{name}: {len(errors) - _MOST_ERRORS} more errors")
    if errors:
        typer.echo(f"{name}: {len(errors)} {'error' if len(errors) == 1 else 'errors'}")
        raise typer.Exit(ExitCode.FAILED)
    typer.echo(f"{name}: {_counted(parts)}")


def _read(file: Path) -> tuple[str, str]:
    name = "<stdin>" if str(file) == "-" else str(file)
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise CliError(f"{name}: {error.strerror}") from None
    try:
        return name, data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CliError(f"{name}: not UTF-8 at byte {error.start}") from None


def _shown(name: str, text: str, error: Finding) -> str:
    """`file:line:column: class: message`, the line, and a caret under the column."""
    start = text.rfind("\n", 0, error.offset) + 1
    end = text.find("\n", error.offset)
    line = text[start : len(text) if end < 0 else end].rstrip("\r")
    number, column = text.count("\n", 0, error.offset) + 1, error.offset - start + 1
    # Of a long line, the part around the error.
    first = max(0, min(column - 1 - _LINE_CELLS // 2, len(line) - _LINE_CELLS))
    part = one_line(line[first : first + _LINE_CELLS])
    ahead = "…" if first else ""
    caret = " " * (_width(ahead + part[: column - 1 - first])) + "^"
    return f"{name}:{number}:{column}: {error.code}: {one_line(error.message, 300)}\n    {ahead}{part}\n    {caret}"


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _counted(parts: Sequence[Located]) -> str:
    counts = collections.Counter(type(located.part).__name__.lower() for located in parts)
    said = []
    for kind in ("call", "interrupt", "trap", "text"):
        number = counts[kind]
        said.append(f"{number} {kind}{'' if number == 1 else 's'}")
    return ", ".join(said)
