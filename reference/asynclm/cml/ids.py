"""Ids: the check that follows the grammar wherever an id is read [CML-010, CML-012]."""

from __future__ import annotations

from asynclm.cml.blocks import CmlError, CmlErrorCode
from asynclm.cml.control import NAME, RESERVED_IDS

WHITESPACE = " \t\r\n"
"""What does not count around ids, trap conditions and bodies: JSON's white space."""

_SHOWN = 60


def shown(text: str) -> str:
    """Text for an error message: quoted, and cut short."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def check_id(text: str, offset: int = 0) -> str:
    """Returns `text` if it may be a call's id.

    Args:
        text: the id, without white space around it.
        offset: its position, for the error.

    Raises:
        CmlError: BAD_ID if it is not a NAME, RESERVED_ID if it is a reserved word.
    """
    if NAME.fullmatch(text) is None:
        raise CmlError(
            f"id {shown(text)}: an id is a letter or '_', then up to 63 letters, digits or '_' (ASCII)",
            code=CmlErrorCode.BAD_ID,
            offset=offset,
        )
    if text in RESERVED_IDS:
        raise CmlError(
            f"id {shown(text)} is a reserved word; reserved are {', '.join(sorted(RESERVED_IDS))}",
            code=CmlErrorCode.RESERVED_ID,
            offset=offset,
        )
    return text
