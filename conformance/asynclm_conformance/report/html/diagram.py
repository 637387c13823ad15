"""Places the rows of a sequence diagram: where each line of text and each arrow stands, for a wide page or a phone."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from asynclm_conformance.report.html.rows import Row
from asynclm_conformance.report.labels import Span

_LINE = 15
"""Height of a line of text, in px."""
_HEAD = 34
"""Height of the boxes at the top."""
_SESSION_COLOURS = 5


@dataclass(frozen=True, slots=True)
class Size:
    """One of the two sizes in which diagrams are drawn.

    Attributes:
        name: its CSS class.
        width: in px, at which its letters have their natural size.
        left, right: where the lifelines of client and server stand.
        characters: that fit between them in a line.
        lines: of a label, at most.
    """

    name: str
    width: int
    left: int
    right: int
    characters: int
    lines: int


WIDE = Size("wide", 960, 128, 944, 106, 4)
NARROW = Size("narrow", 366, 82, 356, 38, 6)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text: where its baseline stands, and its pieces."""

    y: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A row in its place.

    Attributes:
        row: what is drawn.
        y, height: the band that it takes.
        lines: its label.
        arrow: where its arrow stands.
        failures: the failures that it shows, line by line, each with the failure's number.
        colour: CSS class of its session; empty where there is one session only.
    """

    row: Row
    y: int
    height: int
    lines: tuple[Line, ...]
    arrow: int
    failures: tuple[tuple[int, Line], ...]
    colour: str


@dataclass(frozen=True, slots=True)
class Diagram:
    """A diagram of one size."""

    size: Size
    height: int
    rows: tuple[Placed, ...]


def diagrams(rows: Sequence[Row], sessions: Sequence[str]) -> tuple[Diagram, Diagram]:
    """The same diagram for a wide page and for a phone."""
    return _placed(rows, sessions, WIDE), _placed(rows, sessions, NARROW)


def _placed(rows: Sequence[Row], sessions: Sequence[str], size: Size) -> Diagram:
    colours = {name: f"s{number % _SESSION_COLOURS}" for number, name in enumerate(sessions)} if sessions[1:] else {}
    y = _HEAD + 6
    placed: list[Placed] = []
    for row in rows:
        one = _place(row, y, size, colours.get(row.session, ""))
        placed.append(one)
        y += one.height
    return Diagram(size, y + 10, tuple(placed))


def _place(row: Row, y: int, size: Size, colour: str) -> Placed:
    spans = row.spans
    if colour:
        spans = (Span(f"{row.session} ", f"tag {colour}"), *spans)
    broken = break_lines(spans, size.characters, size.lines)
    first = y + 14
    lines = tuple(Line(first + number * _LINE, line) for number, line in enumerate(broken))
    arrow = lines[-1].y + 8
    bottom = arrow + 6 if row.shape != "note" else lines[-1].y + 8
    bottom = max(bottom, first + _LINE + 6) if row.clock else bottom
    failures: list[tuple[int, Line]] = []
    for number, words in row.failures:
        for line in break_lines((Span(f"✗ {words}"),), size.characters, size.lines):
            bottom += _LINE
            failures.append((number, Line(bottom, line)))
    return Placed(row, y, bottom + (10 if failures else 2) - y, lines, arrow, tuple(failures), colour)


def break_lines(spans: Sequence[Span], width: int, most: int) -> list[tuple[Span, ...]]:
    """Breaks spans into lines of so many characters, at spaces where there are any; what is too much ends in `…`."""
    characters = [(char, span.style) for span in spans for char in span.text]
    lines: list[tuple[Span, ...]] = []
    while characters and len(lines) < most:
        end = _break_at(characters, width)
        line, characters = characters[:end], characters[end:]
        if characters and len(lines) == most - 1:
            line = [*line[: width - 1], ("…", "dim")]
        lines.append(_spans(line))
        while characters and characters[0][0] == " ":
            characters = characters[1:]
    return lines or [()]


def _break_at(characters: Sequence[tuple[str, str]], width: int) -> int:
    """How many characters go on a line; wide ones of East Asian scripts and most emoji take two places."""
    places = 0
    for at, (char, _) in enumerate(characters):
        places += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if places > width:
            space = next((back for back in range(at, at // 2, -1) if characters[back][0] == " "), None)
            return max(1, at if space is None else space)
    return len(characters)


def _spans(characters: Sequence[tuple[str, str]]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for char, style in characters:
        if spans and spans[-1].style == style:
            spans[-1] = Span(spans[-1].text + char, style)
        else:
            spans.append(Span(char, style))
    return tuple(spans)
