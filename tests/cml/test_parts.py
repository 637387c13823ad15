from __future__ import annotations

import pytest

from asynclm.cml.blocks import Call, CmlError, Interrupt, Invocation, Trap
from asynclm.cml.control import BodyLanguage, Control, Quantifier, Status
from asynclm.cml.parts import block_parts

CALL, INTR, TRAP, END, HEAD = Control.CALL, Control.INTR, Control.TRAP, Control.END, Control.HEAD


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (Call(None, "ignored", Invocation("f")), (CALL, "f()", END)),
        (Call("a", "ignored", Invocation("f")), (CALL, "a", HEAD, "f()", END)),
        (Trap(), (TRAP, END)),
        (Trap(Quantifier.ANY, ("a", "b"), 1500), (TRAP, "any a, b within 1.5", END)),
        (Trap(None, (), 20), (TRAP, "within 0.02", END)),
        (Trap(Quantifier.ALL), (TRAP, "all", END)),
        (Interrupt("a", Status.ERROR, "[END]"), (INTR, "a:error", HEAD, "[END]", END)),
        (Interrupt("@user", Status.OK, ""), (INTR, "@user", HEAD, "", END)),
    ],
)
def test_a_block_is_spelled_in_one_way(block: Call | Trap | Interrupt, parts: tuple[str | Control, ...]) -> None:
    assert block_parts(block, BodyLanguage.PYTHON) == parts


@pytest.mark.parametrize(
    "block",
    [
        Call("all", "", Invocation("f")),
        Call("[END]", "", Invocation("f")),
        Call(None, "", Invocation("f g")),
        Interrupt("a [HEAD]", Status.OK, ""),
    ],
)  # fmt: skip
def test_a_block_without_a_spelling_is_not_written(block: Call | Interrupt) -> None:
    with pytest.raises(CmlError):
        block_parts(block, BodyLanguage.PYTHON)
