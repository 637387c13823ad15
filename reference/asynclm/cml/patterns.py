"""Patterns of JSON schemas, searched in a time that is linear in the text: no pattern of a peer can backtrack for ever.

RE2 does the searching. It has no look-around and no back-references, which no linear engine has; a schema that uses
them is refused when it is declared [CALL-093].
"""

from __future__ import annotations

import re
from typing import Any

import re2

MOST_INSTRUCTIONS = 50_000
"""What all patterns of one schema may take together, as RE2 counts its program's instructions; `[a-z]+` takes 6."""

_OPTIONS = re2.Options()
_OPTIONS.max_mem = 1 << 20
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True

_ESCAPE = re.compile(
    r"\\(?:u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|u(?P<unit>[0-9a-fA-F]{4})|u\{(?P<point>[0-9a-fA-F]{1,6})\}|c(?P<control>[A-Za-z])"
    r"|(?P<property>[pP])\{(?:Script|sc|General_Category|gc)=(?P<name>\w+)\}|.)",
    re.DOTALL,
)
"""An escape of ECMA 262, whose dialect JSON schemas use; the named ones are spelled otherwise in RE2."""


class Pattern:
    """A pattern that is ready to search.

    Args:
        text: the pattern, in the dialect of JSON schemas.

    Attributes:
        size: instructions of its program; a search takes a time of `size` times the text's bytes at most.

    Raises:
        ValueError: it is no pattern, or none that can be searched in linear time; says why.
    """

    __slots__ = ("_program", "size")

    def __init__(self, text: str) -> None:
        try:
            self._program: Any = re2.compile(_ESCAPE.sub(_spelled_for_re2, text), _OPTIONS)
        except re2.error as error:
            said = error.args[0].decode(errors="replace")
            raise ValueError(
                f"pattern {text[:80]!r}: {said[:120]}; allowed is what RE2 reads: no look-around, no back-references, "
                "at most 1000 repetitions"
            ) from None
        except UnicodeError:
            raise ValueError(f"pattern {text[:80]!r}: half a surrogate pair is no text") from None
        self.size: int = self._program.programsize

    def found_in(self, text: str) -> bool:
        """Whether it stands anywhere in a text."""
        return self._program.search(_well_formed(text)) is not None


def _spelled_for_re2(match: re.Match[str]) -> str:
    found = match.groupdict()
    if found["high"]:
        return f"\\x{{{_join(int(found['high'], 16), int(found['low'], 16)):x}}}"
    if found["unit"] or found["point"]:
        return f"\\x{{{found['unit'] or found['point']}}}"
    if found["control"]:
        return f"\\x{{{ord(found['control']) % 32:x}}}"
    if found["name"]:
        return f"\\{found['property']}{{{found['name']}}}"
    return match[0]


def _join(high: int, low: int) -> int:
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)


def _well_formed(text: str) -> str:
    """The text, halves of surrogate pairs replaced: JSON can spell them, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
