"""Trap conditions: what stands between `[TRAP]` and `[END]` [CML-033 to CML-035]."""

from __future__ import annotations

import re

from asynclm.cml.blocks import CmlError, CmlErrorCode, Trap
from asynclm.cml.control import NAME, RESERVED_IDS, Quantifier
from asynclm.cml.ids import WHITESPACE, check_id, shown

_TOKEN = re.compile(r"[ \t\r\n]*+([A-Za-z0-9_.]++|,|\Z|.)", re.ASCII | re.DOTALL)
_SECONDS = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,3}))?", re.ASCII)
_SPACE = r"[ \t\r\n]*+"
_ID = NAME.pattern + "+"
_PLAIN = re.compile(
    rf"{_SPACE}(?:(all|any)[ \t\r\n]++)?({_ID}(?:{_SPACE},{_SPACE}{_ID})*+)"
    rf"(?:[ \t\r\n]++within[ \t\r\n]++{_SECONDS.pattern})?{_SPACE}",
    re.ASCII,
)
"""A condition on ids, but for reserved words among them."""
_NO_IDS = frozenset({",", "all", "any", "within"})
_BARE = Trap()


def parse_trap(text: str) -> Trap:
    """Parses a trap condition: `""`, `within s`, `[all|any] id, … [within s]`, or `all [within s]`.

    Raises:
        CmlError: BAD_TRAP, BAD_ID or RESERVED_ID, with the offset in `text`.
    """
    if not text:
        return _BARE
    match = _PLAIN.fullmatch(text)
    if match is not None:
        word, listed, whole, fraction = match.groups()
        ids = tuple([name.strip(WHITESPACE) for name in listed.split(",")])
        if RESERVED_IDS.isdisjoint(ids):
            return Trap(Quantifier(word) if word else Quantifier.ALL, ids, _milliseconds(whole, fraction))
    return _parse_words(text)


def _parse_words(text: str) -> Trap:
    """Parses any condition, word by word; it alone says what is wrong, and where."""
    tokens = [(m.group(1), m.start(1)) for m in _TOKEN.finditer(text)]
    if not tokens[0][0]:
        return _BARE
    at = 0
    quantifier = None
    if tokens[0][0] in ("all", "any"):
        quantifier = Quantifier(tokens[0][0])
        at = 1
    ids, at = _ids(tokens, at, required=quantifier is Quantifier.ANY)
    within, at = _within(tokens, at)
    word, offset = tokens[at]
    if word:
        raise _bad(word, offset, "allowed is [all|any] id, id … [within SECONDS]")
    if ids and quantifier is None:
        quantifier = Quantifier.ALL
    return Trap(quantifier, ids, within)


def format_trap(trap: Trap) -> str:
    """The one spelling of a trap condition, empty for a bare trap without a time-out; `all` is written only alone.

    Raises:
        CmlError: the trap has no spelling (`any` without ids, a bad id, a time-out out of range).
    """
    words = []
    if trap.quantifier is Quantifier.ANY or (trap.quantifier is Quantifier.ALL and not trap.ids):
        words.append(trap.quantifier.value)
    if trap.ids:
        words.append(", ".join(trap.ids))
    if trap.within_ms is not None:
        seconds, milliseconds = divmod(trap.within_ms, 1000)
        words.append(f"within {seconds}" + (f".{milliseconds:03d}".rstrip("0") if milliseconds else ""))
    text = " ".join(words)
    if parse_trap(text) != trap:
        raise CmlError(f"trap condition {shown(text)} is not what was to be written", code=CmlErrorCode.BAD_TRAP)
    return text


def _ids(tokens: list[tuple[str, int]], at: int, *, required: bool) -> tuple[tuple[str, ...], int]:
    word, offset = tokens[at]
    if not required and (not word or word == "within"):
        return (), at
    ids = []
    while True:
        if not word or word in _NO_IDS:
            raise _bad(word, offset, "an id is missing here")
        ids.append(check_id(word, offset))
        if tokens[at + 1][0] != ",":
            return tuple(ids), at + 1
        at += 2
        word, offset = tokens[at]


def _within(tokens: list[tuple[str, int]], at: int) -> tuple[int | None, int]:
    if tokens[at][0] != "within":
        return None, at
    word, offset = tokens[at + 1]
    match = _SECONDS.fullmatch(word)
    if match is None:
        raise _bad(word, offset, "'within' needs seconds: up to 6 digits, and up to 3 after a point")
    return _milliseconds(*match.groups()), at + 2


def _milliseconds(whole: str | None, fraction: str | None) -> int | None:
    if whole is None:
        return None
    return int(whole) * 1000 + int((fraction or "").ljust(3, "0"))


def _bad(word: str, offset: int, allowed: str) -> CmlError:
    what = shown(word) if word else "its end"
    return CmlError(f"trap condition at {what}: {allowed}", code=CmlErrorCode.BAD_TRAP, offset=offset)
