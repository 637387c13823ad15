"""Interrupt sources: an id or an `@` source, then `:status` [CML-036, CML-037].

Which statuses go with which source is a rule for those who send interrupts, not for the language.
"""

from __future__ import annotations

import re

from asynclm.cml.blocks import CmlError, CmlErrorCode
from asynclm.cml.control import NAME, Status
from asynclm.cml.ids import WHITESPACE, check_id, shown

_SOURCE = re.compile(rf"{NAME.pattern}|@(?:user|system|runtime|agent\.{NAME.pattern})", re.ASCII)


def parse_source(text: str) -> tuple[str, Status]:
    """Parses what stands between `[INTR]` and `[HEAD]`: a source and its status, `ok` if none is written.

    Raises:
        CmlError: BAD_SOURCE or RESERVED_ID, with the offset in `text`.
    """
    start = len(text) - len(text.lstrip(WHITESPACE))
    source, colon, word = text.strip(WHITESPACE).partition(":")
    _check(source, start)
    try:
        return source, Status(word) if colon else Status.OK
    except ValueError:
        raise CmlError(
            f"status {shown(word)}: allowed are {', '.join(Status)}",
            code=CmlErrorCode.BAD_SOURCE,
            offset=start + len(source) + 1,
        ) from None


def format_source(source: str, status: Status) -> str:
    """The one spelling of a source and status; `ok` is not written.

    Raises:
        CmlError: BAD_SOURCE or RESERVED_ID.
    """
    _check(source, 0)
    return source if status is Status.OK else f"{source}:{status.value}"


def _check(source: str, offset: int) -> None:
    if _SOURCE.fullmatch(source) is None:
        raise CmlError(
            f"source {shown(source)}: allowed are a call's id, @user, @system, @runtime and @agent.NAME",
            code=CmlErrorCode.BAD_SOURCE,
            offset=offset,
        )
    if source[0] != "@":
        check_id(source, offset)
