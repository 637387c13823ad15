"""The incremental block parser: items in, texts and blocks out, in either form.

It is total [CML-060]: every stream of items has a reading, and no stream makes it raise. What a block's error
does to a session is the session's business.
"""

from __future__ import annotations

from dataclasses import dataclass

from asynclm.cml.blocks import Call, CmlError, CmlErrorCode, Interrupt, Malformed, ParsedBlock
from asynclm.cml.bodies import parse_body
from asynclm.cml.codec import EOS, Item
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.ids import WHITESPACE, check_id
from asynclm.cml.sources import parse_source
from asynclm.cml.traps import parse_trap


@dataclass(frozen=True, slots=True)
class TextRead:
    """Text outside blocks; a run of text may come in any number of pieces."""

    text: str


@dataclass(frozen=True, slots=True)
class BodyRead:
    """Text inside a block, as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class BlockOpened:
    """A block's opening token."""

    control: Control


@dataclass(frozen=True, slots=True)
class BlockClosed:
    """The end of a block: `[END]`, or what made it malformed."""

    block: ParsedBlock


@dataclass(frozen=True, slots=True)
class Dropped:
    """A control token that stands where it means nothing; `code` is STRAY."""

    code: CmlErrorCode
    control: Control


ParseEvent = TextRead | BodyRead | BlockOpened | BlockClosed | Dropped
"""What the parser tells of the items it was fed."""


# Looked up once: an enum's members cost more to reach than all else that is done for a token.
_CALL, _TRAP, _END, _HEAD = Control.CALL, Control.TRAP, Control.END, Control.HEAD


class BlockParser:
    """Parses one stream of items into texts and blocks.

    A block is judged in this order: how it ended (OPEN_IN_BLOCK, UNTERMINATED), its `[HEAD]`s (BAD_HEAD), its id,
    source or condition, its body; the first fault found names it.

    Args:
        language: the language of call bodies.
        spaced_payloads: text form: take one space from each end of an interrupt's payload [CML-048].

    Attributes:
        open_block: the opening token of the block that the stream is in, or None outside blocks; to be read only.
    """

    __slots__ = ("_bad_head", "_head", "_id", "_language", "_pieces", "_spaced", "open_block")

    def __init__(self, language: BodyLanguage, *, spaced_payloads: bool = False) -> None:
        self._language = language
        self._spaced = spaced_payloads
        self.open_block: Control | None = None
        self._pieces: list[str] = []
        self._head: str | None = None
        self._id: str | CmlError | None = None
        self._bad_head: int | None = None

    @property
    def head_seen(self) -> bool:
        """Whether the open block's `[HEAD]` has come."""
        return self._head is not None

    @property
    def open_id(self) -> str | None:
        """The valid id that the open call block gave before its `[HEAD]`, or None."""
        return self._id if isinstance(self._id, str) else None

    def feed(self, item: Item) -> tuple[ParseEvent, ...]:
        """Takes the next item; end of sequence ends an open block, and the stream may go on after it."""
        if isinstance(item, str):
            if self.open_block is None:
                return (TextRead(item),)
            self._pieces.append(item)
            return (BodyRead(item),)
        if item is EOS:
            return self.finish()
        if self.open_block is None:
            if item is _END or item is _HEAD:
                return (Dropped(CmlErrorCode.STRAY, item),)
            self.open_block = item
            return (BlockOpened(item),)
        if item is _END:
            return (BlockClosed(self._leave(self._judge(self.open_block))),)
        if item is _HEAD:
            self._take_head(self.open_block)
            return ()
        message = f"{item.value} inside a {self.open_block.value} block; close the block with [END] first"
        closed = BlockClosed(self._leave(self._unfinished(self.open_block, CmlErrorCode.OPEN_IN_BLOCK, message)))
        self.open_block = item
        return closed, BlockOpened(item)

    def finish(self) -> tuple[ParseEvent, ...]:
        """Ends the stream, or one turn of it: an open block is malformed, UNTERMINATED."""
        if self.open_block is None:
            return ()
        message = f"a {self.open_block.value} block without its [END]"
        return (BlockClosed(self._leave(self._unfinished(self.open_block, CmlErrorCode.UNTERMINATED, message))),)

    def _leave(self, block: ParsedBlock) -> ParsedBlock:
        self.open_block = self._head = self._id = self._bad_head = None
        self._pieces.clear()
        return block

    def _take_head(self, opened: Control) -> None:
        if self._head is not None or opened is Control.TRAP:
            if self._bad_head is None:
                self._bad_head = len(self._raw())
            self._pieces.append(" ")
            return
        head = self._head = "".join(self._pieces)
        self._pieces = []
        if opened is Control.CALL:
            try:
                self._id = check_id(head.strip(WHITESPACE), len(head) - len(head.lstrip(WHITESPACE)))
            except CmlError as error:
                self._id = error

    def _raw(self) -> str:
        rest = "".join(self._pieces)
        return rest if self._head is None else f"{self._head} {rest}"

    def _unfinished(self, opened: Control, code: CmlErrorCode, message: str) -> Malformed:
        return self._malformed(opened, code, message, len(self._raw()))

    def _malformed(
        self, opened: Control, code: CmlErrorCode, message: str, offset: int, *, bad_id: bool = False
    ) -> Malformed:
        body = "".join(self._pieces).strip(WHITESPACE)
        return Malformed(opened, code, message, self.open_id, self._raw(), offset, bad_id, body)

    def _judge(self, opened: Control) -> ParsedBlock:
        if self._bad_head is not None:
            message = f"[HEAD] has no place here: a {opened.value} block has "
            message += "none" if opened is Control.TRAP else "one"
            return self._malformed(opened, CmlErrorCode.BAD_HEAD, message, self._bad_head)
        rest = "".join(self._pieces)
        base = 0 if self._head is None else len(self._head) + 1
        try:
            if opened is _CALL:
                if isinstance(self._id, CmlError):
                    base = 0
                    raise self._id
                return Call(self._id, rest.strip(WHITESPACE), parse_body(self._language, rest))
            if opened is _TRAP:
                return parse_trap(rest)
            if self._head is None:
                raise CmlError("an [INTR] block needs a [HEAD]", code=CmlErrorCode.BAD_HEAD, offset=len(rest))
            base = 0
            source, status = parse_source(self._head)
            return Interrupt(source, status, self._payload(rest))
        except CmlError as error:
            bad_id = error is self._id
            return self._malformed(opened, error.code, str(error), base + error.offset, bad_id=bad_id)

    def _payload(self, text: str) -> str:
        if not self._spaced:
            return text
        return text.removeprefix(" ").removesuffix(" ")
