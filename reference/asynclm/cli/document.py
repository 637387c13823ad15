"""What is wrong with a CML document, block by block, and as the text of one session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asynclm.cml.blocks import Call, Interrupt, Malformed, Trap
from asynclm.cml.control import Quantifier
from asynclm.cml.text_form import Located


@dataclass(frozen=True, slots=True)
class Finding:
    """An error: its class, what is wrong, and its offset in the document, in characters."""

    code: str
    message: str
    offset: int


def findings(parts: Sequence[Located], *, session: bool) -> list[Finding]:
    """Every error of a document, in order.

    Args:
        parts: the document as parsed.
        session: also look for what only a session would refuse: ids used twice, references, traps and interrupts that
            name no earlier call.
    """
    found: list[Finding] = []
    known: set[str] = set()
    for located in parts:
        part = located.part
        if isinstance(part, Malformed):
            offset = located.start if located.error is None else located.error
            found.append(Finding(part.code.value, part.message, offset))
            known.update({part.id} if part.id else ())
        elif session:
            found += _out_of_place(located, known)
            known.update({part.id} if isinstance(part, Call) and part.id else ())
    return found


def _out_of_place(located: Located, known: set[str]) -> Iterator[Finding]:
    part = located.part
    if isinstance(part, Call):
        if part.id in known:
            yield Finding("duplicate_id", f"the id {part.id} was given to an earlier call", located.start)
        for reference in part.invocation.references:
            if reference.id not in known:
                message = f"{reference.id} names no call written before this one"
                yield Finding("unknown_reference", message, located.start)
    elif isinstance(part, Interrupt):
        if not part.source.startswith("@") and part.source not in known:
            yield Finding("unknown_id", f"{part.source} names no call written before this interrupt", located.start)
    elif isinstance(part, Trap):
        unknown = [name for name in part.ids if name not in known]
        hopeless = unknown and (part.quantifier is Quantifier.ALL or len(unknown) == len(part.ids))
        if hopeless:
            message = f"the trap cannot end: {', '.join(unknown)} {'names' if len(unknown) == 1 else 'name'} no call"
            yield Finding("unknown_id", f"{message} written before it", located.start)
