"""Interrupt sources: an id or an `@` source, then `:status` (SEMANTICS 2.10)."""

from __future__ import annotations

import re

from asynclm.cml.blocks import CmlError, CmlErrorCode
from asynclm.cml.control import NAME, Status
from asynclm.cml.ids import WHITESPACE, check_id, shown

_AT_SOURCE = re.compile(rf"@(?:user|system|runtime|agent\.{NAME.pattern})", re.ASCII)
_RUNTIME_STATUSES = (Status.ERROR, Status.TIMEOUT)


def parse_source(text: str) -> tuple[str, Status]:
    """Parses what stands between `[INTR]` and `[HEAD]`: a source and its status, `ok` if none is written.

    Raises:
        CmlError: BAD_SOURCE, BAD_ID or RESERVED_ID, with the offset in `text`.
    """
    body = text.strip(WHITESPACE)
    start = len(text) - len(text.lstrip(WHITESPACE))
    source, colon, word = body.partition(":")
    try:
        status = Status(word) if colon else Status.OK
    except ValueError:
        raise CmlError(
            f"status {shown(word)}: allowed are {', '.join(Status)}",
            code=CmlErrorCode.BAD_SOURCE,
            offset=start + len(source) + 1,
        ) from None
    _check(source, status, start)
    return source, status


def format_source(source: str, status: Status) -> str:
    """The one spelling of a source and status; `ok` is not written.

    Raises:
        CmlError: BAD_SOURCE, BAD_ID or RESERVED_ID.
    """
    _check(source, status, 0)
    return source if status is Status.OK else f"{source}:{status.value}"


def _check(source: str, status: Status, offset: int) -> None:
    if not source.startswith("@"):
        check_id(source, offset)
        return
    if _AT_SOURCE.fullmatch(source) is None:
        raise CmlError(
            f"source {shown(source)}: allowed are an id, @user, @system, @runtime and @agent.NAME",
            code=CmlErrorCode.BAD_SOURCE,
            offset=offset,
        )
    if source == "@runtime":
        if status not in _RUNTIME_STATUSES:
            raise CmlError(
                f"source @runtime with status {status.value}: allowed are error and timeout",
                code=CmlErrorCode.BAD_SOURCE,
                offset=offset,
            )
    elif status is not Status.OK:
        raise CmlError(
            f"source {shown(source)} with status {status.value}: only ids and @runtime have a status",
            code=CmlErrorCode.BAD_SOURCE,
            offset=offset,
        )
