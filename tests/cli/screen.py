"""A terminal as far as the live view needs one: what stands on it, scrollback included."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(?P<arguments>[0-9;?]*)(?P<final>[A-Za-z])|(?P<text>[^\x1b\r\n]+)|(?P<move>[\r\n])")


class Screen:
    """Takes what a program writes; knows text, newlines, cursor up and erase line, and that colours take no room."""

    def __init__(self) -> None:
        self._rows = [""]
        self._row = 0
        self._column = 0

    def feed(self, output: str) -> None:
        end = 0
        for match in _TOKEN.finditer(output):
            assert match.start() == end, f"unknown sequence at {output[end : end + 20]!r}"
            end = match.end()
            if match["text"]:
                self._write(match["text"])
            elif match["move"] == "\r":
                self._column = 0
            elif match["move"] == "\n":
                self._newline()
            elif match["final"] == "A":
                self._row = max(0, self._row - int(match["arguments"] or 1))
            elif match["final"] == "K":
                self._rows[self._row] = ""
            else:
                assert match["final"] in "mhl", f"unknown sequence {match.group()!r}"
        assert end == len(output)

    @property
    def text(self) -> str:
        return "".join(f"{row.rstrip()}\n" for row in self._rows).rstrip("\n") + "\n"

    def _write(self, text: str) -> None:
        row = self._rows[self._row].ljust(self._column)
        self._rows[self._row] = row[: self._column] + text + row[self._column + len(text) :]
        self._column += len(text)

    def _newline(self) -> None:
        self._row, self._column = self._row + 1, 0
        if self._row == len(self._rows):
            self._rows.append("")
