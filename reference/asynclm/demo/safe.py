"""Text of models, tools and peers made safe for a terminal: it can neither move the cursor nor hide itself."""

from __future__ import annotations

_PICTURES = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_C1 = range(0x80, 0xA0)
_DIRECTION_MARKS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_HIDDEN = dict.fromkeys((*_C1, *_DIRECTION_MARKS), 0xFFFD)
_SHOWN = _PICTURES | _HIDDEN
_LINES = {code: picture for code, picture in _SHOWN.items() if code not in (0x09, 0x0A)}


def visible(text: str) -> str:
    """Control characters as their pictures, direction marks as U+FFFD; newlines and tabs stay."""
    return text.translate(_LINES)


def one_line(text: str, limit: int | None = None) -> str:
    """The same on one line: newlines become ⏎, tabs ⇥; cut to `limit` characters, saying how many there are."""
    shown = text.replace("\r\n", "\n").replace("\n", "⏎").replace("\t", "⇥").translate(_SHOWN)
    if limit is None or len(shown) <= limit:
        return shown
    return f"{shown[:limit]}… ({len(text):,} characters)"
