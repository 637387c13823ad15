"""The sampled stream: units in, items out, and the block that the stream is in."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from asynclm.cml.codec import EOS, Codec, Item
from asynclm.cml.control import Control
from asynclm.cml.parser import BlockParser, ParseEvent
from asynclm.session.config import SessionConfig, Unit
from asynclm.session.copying import CopySources
from asynclm.session.core import Core
from asynclm.session.effects import Tokens
from asynclm.session.errors import LocalProtocolError
from asynclm.session.events import TokenSampled
from asynclm.session.mask import Mask, inside_block
from asynclm.session.outbox import Phase
from asynclm.session.stops import StopStrings


@runtime_checkable
class PieceDecoder(Protocol):
    """A decoder whose units are pieces of text (`text_form.TextFormDecoder`)."""

    def feed_text(self, piece: str) -> tuple[Item, ...]:
        """Decodes one piece."""
        ...


class Reader:
    """Decodes and parses one session's stream, and counts what stands in the open block.

    Attributes:
        stop_string: the stop string that the unit decoded last has completed, or None.

    Raises:
        ValueError: the unit is PIECE and the codec has no text form.
    """

    def __init__(self, config: SessionConfig, codec: Codec) -> None:
        self._decoder = codec.decoder()
        self.parser = BlockParser(config.body_language)
        self._pieces = config.unit is Unit.PIECE
        if self._pieces and not isinstance(self._decoder, PieceDecoder):
            raise ValueError("unit is PIECE; the codec's decoder takes token ids only, not pieces of text")
        self._stops = StopStrings(config.stop) if config.stop else None
        self.stop_string: str | None = None
        self._constraints = config.constraints
        self.block_limit = config.limits.max_block_tokens
        self.block_number = 0
        self.block_tokens = 0
        self._mask = Mask(frozenset())
        self._mask_key: tuple[object, ...] = ()

    def decode(self, event: TokenSampled) -> tuple[Item, ...]:
        """The items of one unit: texts, then at most one control token or end of sequence.

        Raises:
            LocalProtocolError: a piece where ids are due, or the reverse; or a piece that is not cut at a control word.
        """
        if self._pieces:
            items = self._items(event)
        elif event.piece is not None:
            raise LocalProtocolError("a piece of text was sampled; this session's unit is TOKEN")
        else:
            items = self._decoder.feed(event.token_id)
        if self._stops is None:
            return items
        return self._look_for_stops(items, self._stops)

    def _items(self, event: TokenSampled) -> tuple[Item, ...]:
        """The items of a piece."""
        if event.piece is None:
            raise LocalProtocolError(f"token id {event.token_id} was sampled; this session's unit is PIECE")
        items = cast(PieceDecoder, self._decoder).feed_text(event.piece)
        if any(not isinstance(item, str) for item in items[:-1]):
            raise LocalProtocolError("a piece goes on after a control word; cut pieces at control words [WIRE-074]")
        if event.ends:
            held = self._decoder.flush()
            return (*items, held, EOS) if held else (*items, EOS)
        return items

    def _look_for_stops(self, items: tuple[Item, ...], stops: StopStrings) -> tuple[Item, ...]:
        """Holds back what may be the beginning of a stop string; one that is complete ends the unit [SES-101]."""
        self.stop_string = None
        if self.parser.open_block is not None:
            return items
        given: list[Item] = []
        for item in items:
            if isinstance(item, str):
                text, self.stop_string = stops.feed(item)
                if text:
                    given.append(text)
                if self.stop_string is not None:
                    self._decoder.flush()
                    break
            else:
                if stops.pending:
                    given.append(stops.flush())
                given.append(item)
        return tuple(given)

    @property
    def unfinished(self) -> bool:
        """Whether an unfinished text sequence is held back."""
        return self._decoder.pending or (self._stops is not None and self._stops.pending)

    def give_up(self, core: Core) -> None:
        """Gives up an unfinished text sequence, which nothing will complete: its text is reported and parsed."""
        text = (self._stops.flush() if self._stops is not None else "") + self._decoder.flush()
        if text:
            report = Tokens(token_index=core.token_index, ids=(), text=text, in_block=self.open_block)
            core.out.add(Phase.TOKENS, report)
            self.parser.feed(text)

    @property
    def open_block(self) -> Control | None:
        """The opening token of the open block, or None."""
        return self.parser.open_block

    def opened(self) -> None:
        """A block was opened."""
        self.block_number += 1
        self.block_tokens = 0

    @property
    def at_block_limit(self) -> bool:
        """Whether nothing but `[END]` may follow in the open block [SES-078]."""
        return self.parser.open_block is not None and self.block_tokens >= self.block_limit

    def abandon_block(self) -> tuple[ParseEvent, ...]:
        """Ends the open block where it stands, malformed."""
        return self.parser.finish()

    def block_mask(self, opened: Control, copied: CopySources | None) -> Mask:
        """The mask inside the open block; made once for each place in it. Nothing is committed inside a block."""
        key = (self.block_number, self.parser.head_seen, self.block_tokens >= self.block_limit)
        if key != self._mask_key:
            kinds, rule = inside_block(self._constraints, opened, head_seen=key[1], at_limit=key[2])
            self._mask = Mask(kinds, rule, self.block_number, copied)
            self._mask_key = key
        return self._mask
