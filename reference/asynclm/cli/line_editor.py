"""A line editor without IO: bytes of a keyboard in, what was meant out.

Understands what a readline user's fingers know: arrows, Home and End, word and line kills, history; pasted newlines
stay in the message.
"""

from __future__ import annotations

import codecs
import enum
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Submitted:
    """Enter was pressed: the line, possibly empty."""

    text: str


class Command(enum.Enum):
    """A key that is no text."""

    END_OF_INPUT = "end of input"
    """Ctrl-D on an empty line, or the end of a pipe."""
    PAUSE = "pause"
    """Ctrl-P."""


Input = Submitted | Command
"""What the person at the keyboard wants."""

_ESC = "\x1b"
_PASTE_BEGINS = "200~"
_PASTE_ENDS = f"{_ESC}[201~"
_LONGEST_SEQUENCE = 32


class LineEditor:
    """One line under edit. `text` and `cursor` (a position in it, in characters) are there to be drawn."""

    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sequence = ""
        self._pasting = False
        self._history: list[str] = []
        self._place: int | None = None
        self._draft = ""

    def feed(self, data: bytes) -> list[Input]:
        """Takes what was typed, in pieces of any size."""
        inputs: list[Input] = []
        for character in self._decoder.decode(data):
            inputs += self._character(character)
        return inputs

    def _character(self, character: str) -> Iterator[Input]:
        if self._sequence or character == _ESC:
            self._escape(character)
        elif self._pasting:
            self._insert("\n" if character == "\r" else character)
        elif character in "\r\n":
            yield self._submit()
        elif character == "\x04":
            if not self.text:
                yield Command.END_OF_INPUT
            else:
                self._delete()
        elif character == "\x10":
            yield Command.PAUSE
        elif character in _EDITS:
            _EDITS[character](self)
        elif character >= " ":
            self._insert(character)

    def _escape(self, character: str) -> None:
        """Collects an escape sequence; unknown ones are taken and forgotten."""
        self._sequence += character
        sequence = self._sequence
        if self._pasting:
            if not _PASTE_ENDS.startswith(sequence):
                self._sequence = ""
                self._insert(sequence[1:])
            elif sequence == _PASTE_ENDS:
                self._sequence, self._pasting = "", False
            return
        if len(sequence) == 1 or sequence in (f"{_ESC}[", f"{_ESC}O"):
            return
        final = sequence[1] not in "[O" or "@" <= character <= "~"
        if not final and len(sequence) < _LONGEST_SEQUENCE:
            return
        self._sequence = ""
        code = sequence[2:] if sequence[1] in "[O" else sequence[1:]
        if code == _PASTE_BEGINS:
            self._pasting = True
        elif code in _SEQUENCES and sequence[1] in "[O":
            _SEQUENCES[code](self)
        elif sequence[1] not in "[O" and code in _META:
            _META[code](self)

    def _submit(self) -> Submitted:
        text = self.text
        if text and (not self._history or self._history[-1] != text):
            self._history.append(text)
        self._set("")
        self._place = None
        return Submitted(text)

    def _set(self, text: str) -> None:
        self.text, self.cursor = text, len(text)

    def _insert(self, text: str) -> None:
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)

    def _cut(self, start: int, end: int) -> None:
        self.text, self.cursor = self.text[:start] + self.text[end:], start

    def _delete(self) -> None:
        self._cut(self.cursor, self.cursor + 1)

    def _backspace(self) -> None:
        if self.cursor:
            self._cut(self.cursor - 1, self.cursor)

    def _kill_word(self) -> None:
        self._cut(self._word_start(), self.cursor)

    def _kill_to_start(self) -> None:
        self._cut(0, self.cursor)

    def _kill_to_end(self) -> None:
        self._cut(self.cursor, len(self.text))

    def _left(self) -> None:
        self.cursor = max(0, self.cursor - 1)

    def _right(self) -> None:
        self.cursor = min(len(self.text), self.cursor + 1)

    def _home(self) -> None:
        self.cursor = 0

    def _end(self) -> None:
        self.cursor = len(self.text)

    def _word_left(self) -> None:
        self.cursor = self._word_start()

    def _word_right(self) -> None:
        rest = self.text[self.cursor :]
        spaces = len(rest) - len(rest.lstrip())
        word = rest.lstrip().split(maxsplit=1)
        self.cursor += spaces + (len(word[0]) if word else 0)

    def _word_start(self) -> int:
        before = self.text[: self.cursor].rstrip()
        return max((before.rfind(space) for space in " \n\t"), default=-1) + 1

    def _older(self) -> None:
        if not self._history or self._place == 0:
            return
        if self._place is None:
            self._draft, self._place = self.text, len(self._history)
        self._place -= 1
        self._set(self._history[self._place])

    def _newer(self) -> None:
        if self._place is None:
            return
        self._place += 1
        if self._place == len(self._history):
            self._place = None
            self._set(self._draft)
        else:
            self._set(self._history[self._place])


_EDITS = {
    "\x01": LineEditor._home,
    "\x02": LineEditor._left,
    "\x05": LineEditor._end,
    "\x06": LineEditor._right,
    "\x08": LineEditor._backspace,
    "\x0b": LineEditor._kill_to_end,
    "\x15": LineEditor._kill_to_start,
    "\x17": LineEditor._kill_word,
    "\x7f": LineEditor._backspace,
}
_SEQUENCES = {
    "A": LineEditor._older,
    "B": LineEditor._newer,
    "C": LineEditor._right,
    "D": LineEditor._left,
    "H": LineEditor._home,
    "F": LineEditor._end,
    "1~": LineEditor._home,
    "7~": LineEditor._home,
    "4~": LineEditor._end,
    "8~": LineEditor._end,
    "3~": LineEditor._delete,
    "1;5C": LineEditor._word_right,
    "1;5D": LineEditor._word_left,
    "1;3C": LineEditor._word_right,
    "1;3D": LineEditor._word_left,
}
_META = {"b": LineEditor._word_left, "f": LineEditor._word_right, "\x7f": LineEditor._kill_word}
