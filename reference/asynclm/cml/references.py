"""References (futures): `chair.email`, `rows[0].name` [CML-031]."""

from __future__ import annotations

import re

from asynclm.cml.blocks import CmlError, CmlErrorCode, Reference
from asynclm.cml.control import NAME, RESERVED_IDS
from asynclm.cml.ids import check_id, shown

INDEX_PATTERN = r"(?:0|[1-9][0-9]{0,8})"
"""An index: no sign, no leading zeros, below a thousand million."""

_SHAPE = re.compile(rf"({NAME.pattern})((?:\.{NAME.pattern}|\[{INDEX_PATTERN}\])*)", re.ASCII)
_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[([0-9]+)\]", re.ASCII)


def parse_reference(text: str, offset: int = 0) -> Reference:
    """Parses a whole reference, without white space in or around it.

    Raises:
        CmlError: BAD_BODY if it has not the form `id`, then any of `.name` and `[index]`; RESERVED_ID if its id is
            a reserved word. Its offset is `offset`.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise CmlError(
            f"reference {shown(text)}: a reference is an id, then any of '.name' and '[index]', without spaces",
            code=CmlErrorCode.BAD_BODY,
            offset=offset,
        )
    name, steps = match.groups()
    if name in RESERVED_IDS:
        check_id(name, offset)
    if not steps:
        return Reference(name)
    return Reference(name, tuple([step if step else int(index) for step, index in _STEP.findall(steps)]))


def format_reference(reference: Reference) -> str:
    """The reference's one spelling.

    Raises:
        CmlError: a part of it has no spelling (a step that is not a NAME, a negative index, a reserved id).
    """
    text = reference.id + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in reference.path)
    if parse_reference(text) != reference:
        raise CmlError(f"reference {shown(text)} has no spelling in CML", code=CmlErrorCode.BAD_BODY)
    return text
