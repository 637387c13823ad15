"""What a block is spelled with, in either form: its control tokens and the texts between them."""

from __future__ import annotations

from asynclm.cml.blocks import Call, Interrupt, Trap
from asynclm.cml.bodies import render_body
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.ids import check_id
from asynclm.cml.sources import format_source
from asynclm.cml.traps import format_trap


def block_parts(block: Call | Trap | Interrupt, language: BodyLanguage) -> tuple[str | Control, ...]:
    """Spells a block: control tokens and texts, the body canonical, nothing escaped and no space added.

    Raises:
        CmlError: the block has no spelling: a bad id, source or condition, or a body outside the language.
    """
    if isinstance(block, Call):
        body = render_body(language, block.invocation)
        if block.id is None:
            return Control.CALL, body, Control.END
        return Control.CALL, check_id(block.id), Control.HEAD, body, Control.END
    if isinstance(block, Trap):
        condition = format_trap(block)
        return (Control.TRAP, condition, Control.END) if condition else (Control.TRAP, Control.END)
    return interrupt_parts(format_source(block.source, block.status), block.payload)


def interrupt_parts(source: str, payload: str) -> tuple[str | Control, ...]:
    """Spells an interrupt; `source` is as `format_source` gives it."""
    return Control.INTR, source, Control.HEAD, payload, Control.END
