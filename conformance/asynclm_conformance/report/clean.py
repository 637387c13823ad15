"""Makes text of a target fit to be shown: control characters become visible, and what is too long is cut."""

from __future__ import annotations

import unicodedata

LINE = 300
"""Characters of a text that has to stand on a line."""
BLOCK = 4000
"""Characters of a text that may take several lines."""

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_SHOWN_AS_CODE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str, limit: int = LINE, *, lines: bool = False) -> str:
    """Shows a text as it is, but safely.

    C0 control characters become their pictures (`␛`), everything else that is invisible or changes the direction of
    writing, and everything that XML cannot hold, its code point (`‹U+202E›`).

    Args:
        text: any text.
        limit: characters after which it is cut, with a note of how many there were.
        lines: whether line feeds and tabs are kept.
    """
    shown = "".join(_shown(char, lines=lines) for char in text[:limit])
    return shown if len(text) <= limit else f"{shown}… ({len(text):,} characters)"


def _shown(char: str, *, lines: bool) -> str:
    code = ord(char)
    if lines and char in "\n\t":
        return char
    if code in _PICTURES:
        return _PICTURES[code]
    if unicodedata.category(char) in _SHOWN_AS_CODE or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return f"‹U+{code:04X}›"
    return char
