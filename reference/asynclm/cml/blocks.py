"""The value types of CML documents: texts, calls, interrupts, traps, and blocks that are none of these.

All are frozen. A `Call` keeps its body as written (`raw`) and as parsed (`invocation`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from asynclm.cml.control import Control, Quantifier, Status


class CmlErrorCode(enum.StrEnum):
    """Classes of CML errors. Tests and cases compare these, never message texts."""

    BAD_HEAD = "bad_head"
    """A second `[HEAD]`, one where the block has none (in a trap), or none where it needs one (in an interrupt)."""
    BAD_ID = "bad_id"
    """An id that is not a NAME."""
    RESERVED_ID = "reserved_id"
    """An id that is a reserved word."""
    BAD_BODY = "bad_body"
    """A call body outside its body language."""
    REPEATED_ARGUMENT = "repeated_argument"
    """An argument or an object key given twice."""
    BAD_TRAP = "bad_trap"
    """A trap condition outside the grammar."""
    BAD_SOURCE = "bad_source"
    """An interrupt source or status outside the grammar."""
    OPEN_IN_BLOCK = "open_in_block"
    """An opening control token inside a block."""
    UNTERMINATED = "unterminated"
    """End of sequence (or of the document) inside a block."""
    STRAY = "stray"
    """`[END]` or `[HEAD]` outside a block."""
    FORGED = "forged"
    """An `[INTR]` block written by the model."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text outside blocks, verbatim."""

    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A future: the terminal payload of call `id`, then `.name` and `[index]` steps [CML-031]."""

    id: str
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Literal:
    """A JSON value as canonical JSON text; numbers are kept as they were spelled."""

    json: str


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument; `name` is None for a positional one (python_call only)."""

    name: str | None
    value: Literal | Reference


@dataclass(frozen=True, slots=True)
class Invocation:
    """A parsed call body: the function's name and its arguments in written order."""

    function: str
    arguments: tuple[Argument, ...] = ()

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references among the arguments, in written order."""
        return tuple(a.value for a in self.arguments if isinstance(a.value, Reference))


@dataclass(frozen=True, slots=True)
class Call:
    """A well-formed call block; `id` is None for an anonymous call."""

    id: str | None
    raw: str
    invocation: Invocation


@dataclass(frozen=True, slots=True)
class Trap:
    """A well-formed trap block.

    Bare: `quantifier` None and no ids. On ids: quantifier and ids. Everything pending: ALL and no ids.
    `within_ms` is the time-out in whole milliseconds, or None.
    """

    quantifier: Quantifier | None = None
    ids: tuple[str, ...] = ()
    within_ms: int | None = None

    @property
    def bare(self) -> bool:
        """Whether the trap waits for the next interrupt rather than for calls."""
        return self.quantifier is None


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An interrupt block; written by the runtime only. `source` is an id or an `@` source."""

    source: str
    status: Status
    payload: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A block that is not well formed.

    Attributes:
        opened: the control token that opened it, or the stray token itself.
        code: the class of the error.
        message: what was wrong, where, and what is allowed.
        id: the id that could be read from a call block, if any [CML-066], else None.
        raw: the block's content as written, without its control tokens, a `[HEAD]` shown as a space.
        offset: position of the error in `raw`, in characters.
        bad_id: whether it is the call's own id that is at fault, not one that its body refers to.
        body: of `raw`, what stands after its first `[HEAD]`, if it has one, without the white space around it.
    """

    opened: Control
    code: CmlErrorCode
    message: str
    id: str | None = None
    raw: str = ""
    offset: int = 0
    bad_id: bool = False
    body: str = ""


Block = Text | Call | Trap | Interrupt
"""A part of a well-formed document."""

ParsedBlock = Call | Trap | Interrupt | Malformed
"""What the incremental parser makes of a closed block."""


class CmlError(ValueError):
    """A CML text that could not be parsed where only well-formed CML is allowed.

    Attributes:
        code: the class of the error.
        offset: position in the source text, in characters.
    """

    def __init__(self, message: str, *, code: CmlErrorCode, offset: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.offset = offset
