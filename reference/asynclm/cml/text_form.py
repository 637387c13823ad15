r"""The text form: control tokens spelled out, literal control words escaped [CML-040 to CML-050].

Escaping is a layer of its own, below the grammar: a run of n backslashes directly before a control word stands for
n // 2 backslashes, then the control token (n even) or the literal word (n odd). Other backslashes are untouched.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from asynclm.cml.blocks import Block, CmlError, CmlErrorCode, Malformed, Text
from asynclm.cml.codec import Item
from asynclm.cml.control import OPENING, BodyLanguage, Control, Status
from asynclm.cml.detokenise import scrub
from asynclm.cml.parser import BlockClosed, BlockParser, BodyRead, Dropped, ParseEvent, TextRead
from asynclm.cml.parts import block_parts, interrupt_parts
from asynclm.cml.sources import format_source

_WORD = re.compile("|".join(re.escape(control.value) for control in Control))
_SPLIT = re.compile(f"({_WORD.pattern})")
_CONTROLS = {control.value: control for control in Control}
_PREFIXES = frozenset(word[:n] for word in _CONTROLS for n in range(1, len(word)))
_LONGEST_PREFIX = max(map(len, _PREFIXES))


def escape(text: str, *, before_token: bool = False) -> str:
    """Escapes a whole text, so that none of it is read as a control token.

    Args:
        text: the text; never a piece of a longer one.
        before_token: whether a control token follows directly.
    """
    parts: list[str] = []
    start = 0
    for match in _WORD.finditer(text):
        before = text[start : match.start()]
        parts += (before, "\\" * (_backslashes(before) + 1), match.group())
        start = match.end()
    rest = text[start:]
    parts.append(rest)
    if before_token:
        parts.append("\\" * _backslashes(rest))
    return "".join(parts)


def render(blocks: Iterable[Block], language: BodyLanguage) -> str:
    """The canonical text of a document; empty texts are left out, and adjacent ones joined.

    Raises:
        CmlError: a block has no spelling: a bad id, source, condition, or a body outside the language.
    """
    out: list[str] = []
    text = ""
    for block in blocks:
        if isinstance(block, Text):
            text += block.text
            continue
        out += (escape(text, before_token=True), _spell(block_parts(block, language)))
        text = ""
    return "".join((*out, escape(text)))


def frame_text(source: str, status: Status, payload: str) -> str:
    """An interrupt block in the canonical text form.

    Raises:
        CmlError: the source or its status is outside the grammar.
    """
    return _spell(interrupt_parts(format_source(source, status), payload))


@dataclass(frozen=True, slots=True)
class Located:
    """A part of a document and where it stands in the source text, in characters.

    Attributes:
        part: a block, or what is malformed; a stray control token is a `Malformed` of its own.
        start: where it starts.
        end: where it ends.
        error: where the error is, for a `Malformed`.
    """

    part: Block | Malformed
    start: int
    end: int
    error: int | None = None


def parse_document(text: str, language: BodyLanguage) -> tuple[Located, ...]:
    """Parses a whole document, well formed or not."""
    return tuple(_Document(language).parse(text))


def parse(text: str, language: BodyLanguage) -> tuple[Block, ...]:
    """Parses a well-formed document.

    Raises:
        CmlError: the first error, with its offset in `text`.
    """
    blocks: list[Block] = []
    for located in parse_document(text, language):
        if isinstance(located.part, Malformed):
            raise CmlError(located.part.message, code=located.part.code, offset=located.error or 0)
        blocks.append(located.part)
    return tuple(blocks)


class TextFormDecoder:
    """The escape layer, incrementally; a `Decoder` whose units are pieces of text.

    A trailing run of backslashes or proper prefix of a control word is held back.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    @property
    def pending(self) -> bool:
        """Whether text is held back."""
        return bool(self._held)

    def feed(self, token_id: int) -> NoReturn:
        """The text form has no token ids.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"token id {token_id} in the text form; its units are pieces: call feed_text")

    def feed_text(self, piece: str) -> tuple[Item, ...]:
        """Takes the next piece, of any length, and gives what is decided with it. Lone surrogates become U+FFFD."""
        text = self._held + piece
        if not text.isascii():
            text = scrub(text)
        if "[" not in text and text[-1:] != "\\":
            self._held = ""
            return (text,) if text else ()
        end = _undecided(text)
        self._held = text[end:]
        if self._held:
            text = text[:end]
        if "\\" in text:
            return tuple(item for item, _ in _items(text))
        return tuple([_CONTROLS.get(part, part) for part in _SPLIT.split(text) if part])

    def flush(self) -> str:
        """Gives up what is held back, as text (possibly empty)."""
        held, self._held = self._held, ""
        return held


class TextCodec:
    """The text form as a `Codec`: no ids; interrupts are spelled by `frame_text`."""

    @property
    def control_ids(self) -> Mapping[Control, int]:
        """Empty: control tokens are spelled out."""
        return MappingProxyType({})

    @property
    def eos_ids(self) -> frozenset[int]:
        """Empty: the stream simply ends."""
        return frozenset()

    def decoder(self) -> TextFormDecoder:
        """A fresh decoder for one session."""
        return TextFormDecoder()

    def encode_text(self, text: str) -> Sequence[int]:
        """No ids."""
        return ()

    def encode(self, blocks: Iterable[Block], language: BodyLanguage) -> Sequence[int]:
        """No ids; the text is `render(blocks, language)`."""
        return ()

    def frame(self, source: str, status: Status, payload: str) -> Sequence[int]:
        """No ids; the text is `frame_text(source, status, payload)`."""
        return ()


class _Document:
    """Parses one text and keeps where everything stands. Parts lie side by side: each starts where the last ended."""

    def __init__(self, language: BodyLanguage) -> None:
        self._parser = BlockParser(language, spaced_payloads=True)
        self._texts: list[str] = []
        self._end = 0
        self._length = 0
        self._map: list[tuple[int, int]] = []  # (position in the open block's raw content, position in the source)

    def parse(self, text: str) -> Iterator[Located]:
        for item, start in _items(text):
            end = start + len(item if isinstance(item, str) else item.value)
            if self._parser.open_block is not None:
                self._map.append((self._length, start))
                self._length += len(item) if isinstance(item, str) else 1
            for event in self._parser.feed(item):
                yield from self._take(event, start, end)
            if item in OPENING:
                self._length, self._map = 0, []
        for event in self._parser.finish():
            self._map.append((self._length, len(text)))
            yield from self._take(event, len(text), len(text))
        yield from self._flush_text(len(text))

    def _take(self, event: ParseEvent, start: int, end: int) -> Iterator[Located]:
        if isinstance(event, TextRead):
            self._texts.append(event.text)
        elif not isinstance(event, BodyRead):
            yield from self._flush_text(start)
            if isinstance(event, Dropped):
                message = f"{event.control.value} outside a block"
                yield self._part(Malformed(event.control, event.code, message), end, start)
            elif isinstance(event, BlockClosed):
                block = event.block
                if isinstance(block, Malformed):
                    stop = start if block.code is CmlErrorCode.OPEN_IN_BLOCK else end
                    yield self._part(block, stop, self._source(block.offset))
                else:
                    yield self._part(block, end)

    def _flush_text(self, end: int) -> Iterator[Located]:
        if self._texts:
            yield self._part(Text("".join(self._texts)), end)
            self._texts = []

    def _part(self, part: Block | Malformed, end: int, error: int | None = None) -> Located:
        start, self._end = self._end, end
        return Located(part, start, end, error)

    def _source(self, offset: int) -> int:
        raw, source = self._map[bisect_right(self._map, (offset, 1 << 62)) - 1]
        return source + offset - raw


def _spell(parts: Iterable[str | Control]) -> str:
    return " ".join(escape(part) if isinstance(part, str) else part.value for part in parts)


def _backslashes(text: str) -> int:
    return len(text) - len(text.rstrip("\\"))


def _undecided(text: str) -> int:
    """Where the part starts that more text may change: trailing backslashes, or a control word's beginning."""
    end = len(text)
    at = text.rfind("[", -_LONGEST_PREFIX)
    if at >= 0 and text[at:] in _PREFIXES:
        end = at
    return len(text[:end].rstrip("\\")) if text[end - 1 : end] == "\\" else end


def _items(text: str) -> Iterator[tuple[str | Control, int]]:
    """Splits text into control tokens and unescaped texts; each text stands in the source as it is, at its offset."""
    start = 0
    for match in _WORD.finditer(text):
        word = match.start()
        run = _backslashes(text[start:word])
        if run % 2:
            before = word - run + run // 2
            if before > start:
                yield text[start:before], start
            start = word
            continue
        before = word - run // 2
        if before > start:
            yield text[start:before], start
        yield _CONTROLS[match.group()], word
        start = match.end()
    if start < len(text):
        yield text[start:], start
