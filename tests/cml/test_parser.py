from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cml.strategies import items

from asynclm.cml.blocks import Call, CmlErrorCode, Interrupt, Invocation, Malformed, Trap
from asynclm.cml.codec import EOS, Item
from asynclm.cml.control import OPENING, BodyLanguage, Control, Quantifier, Status
from asynclm.cml.parser import BlockClosed, BlockOpened, BlockParser, BodyRead, Dropped, ParseEvent, TextRead

CALL, INTR, TRAP, END, HEAD = Control.CALL, Control.INTR, Control.TRAP, Control.END, Control.HEAD
Code = CmlErrorCode


def events(stream: Iterable[Item], *, spaced: bool = False) -> list[ParseEvent]:
    parser = BlockParser(BodyLanguage.PYTHON, spaced_payloads=spaced)
    return [event for item in stream for event in parser.feed(item)] + list(parser.finish())


def block(*stream: Item, spaced: bool = False) -> Call | Trap | Interrupt | Malformed:
    closed = [event.block for event in events(stream, spaced=spaced) if isinstance(event, BlockClosed)]
    assert len(closed) == 1
    return closed[0]


@given(st.lists(items, max_size=20), st.sampled_from(BodyLanguage), st.booleans())
def test_every_stream_has_a_reading(stream: list[Item], language: BodyLanguage, spaced: bool) -> None:
    parser = BlockParser(language, spaced_payloads=spaced)
    opened: Control | None = None
    body = ""
    for item in [*stream, None]:
        for event in parser.finish() if item is None else parser.feed(item):
            match event:
                case TextRead(text) | BodyRead(text):
                    assert text == item
                    assert (opened is None) == isinstance(event, TextRead)
                    body += text
                case BlockOpened(control):
                    assert opened is None
                    assert control is item
                    opened, body = control, ""
                case BlockClosed(closed):
                    assert opened is not None
                    if isinstance(closed, Malformed):
                        assert closed.opened is opened
                        assert closed.raw.replace(" ", "") == body.replace(" ", "")
                        assert 0 <= closed.offset <= len(closed.raw)
                    else:
                        assert item is END
                    opened = None
                case Dropped(code, control):
                    assert opened is None
                    assert control is item
                    assert control in (END, HEAD)
                    assert code is Code.STRAY
        assert parser.open_block is opened
        if opened is None:
            assert not parser.head_seen
        assert parser.open_id is None or (parser.head_seen and opened is CALL)
    assert opened is None


@given(st.lists(items, max_size=20))
def test_texts_may_come_in_any_pieces(stream: list[Item]) -> None:
    def blocks(stream: Iterable[Item]) -> list[ParseEvent]:
        return [event for event in events(stream) if not isinstance(event, (TextRead, BodyRead))]

    pieces = [piece for item in stream for piece in (item if isinstance(item, str) else [item])]
    assert blocks(stream) == blocks(pieces)


def test_a_document_of_every_kind() -> None:
    stream = [
        "Hi ",
        CALL,
        " a ",
        HEAD,
        "f(x=1)",
        END,
        TRAP,
        "a",
        END,
        INTR,
        "a",
        HEAD,
        " 1 ",
        END,
        CALL,
        "g()",
        END,
        EOS,
    ]
    call = Call("a", "f(x=1)", block(CALL, "f(x=1)", END).invocation)  # type: ignore[union-attr]
    assert events(stream) == [
        TextRead("Hi "),
        BlockOpened(CALL), BodyRead(" a "), BodyRead("f(x=1)"), BlockClosed(call),
        BlockOpened(TRAP), BodyRead("a"), BlockClosed(Trap(Quantifier.ALL, ("a",))),
        BlockOpened(INTR), BodyRead("a"), BodyRead(" 1 "), BlockClosed(Interrupt("a", Status.OK, " 1 ")),
        BlockOpened(CALL), BodyRead("g()"), BlockClosed(Call(None, "g()", Invocation("g"))),
    ]  # fmt: skip


def test_white_space_around_a_body_does_not_count() -> None:
    assert block(CALL, "\n f()\t", END) == Call(None, "f()", Invocation("f"))


@pytest.mark.parametrize(
    ("stream", "code", "call_id", "raw", "offset"),
    [
        ((CALL, END), Code.BAD_BODY, None, "", 0),
        ((CALL, "f(", END), Code.BAD_BODY, None, "f(", 2),
        ((CALL, " a ", HEAD, " f( ", END), Code.BAD_BODY, "a", " a   f( ", 8),
        ((CALL, "a", HEAD, END), Code.BAD_BODY, "a", "a ", 2),
        ((CALL, "a", HEAD, "f(x=1, x=1)", END), Code.REPEATED_ARGUMENT, "a", "a f(x=1, x=1)", 9),
        ((CALL, HEAD, "f()", END), Code.BAD_ID, None, " f()", 0),
        ((CALL, "  f(x) ", HEAD, "f()", END), Code.BAD_ID, None, "  f(x)  f()", 2),
        ((CALL, " all", HEAD, "f()", END), Code.RESERVED_ID, None, " all f()", 1),
        ((CALL, "a", HEAD, "f()", HEAD, "x", END), Code.BAD_HEAD, "a", "a f() x", 5),
        ((CALL, "1", HEAD, "f(", HEAD, HEAD, "x", END), Code.BAD_HEAD, None, "1 f(  x", 4),
        ((TRAP, "a", HEAD, "b", END), Code.BAD_HEAD, None, "a b", 1),
        ((TRAP, HEAD, END), Code.BAD_HEAD, None, " ", 0),
        ((TRAP, " a b", END), Code.BAD_TRAP, None, " a b", 3),
        ((TRAP, "true", END), Code.RESERVED_ID, None, "true", 0),
        ((TRAP, "1", END), Code.BAD_ID, None, "1", 0),
        ((INTR, "a", END), Code.BAD_HEAD, None, "a", 1),
        ((INTR, "@x", HEAD, "p", END), Code.BAD_SOURCE, None, "@x p", 0),
        ((INTR, "a:b", HEAD, "p", END), Code.BAD_SOURCE, None, "a:b p", 2),
        ((INTR, "a", HEAD, "p", HEAD, END), Code.BAD_HEAD, None, "a p ", 3),
        ((CALL, "a", HEAD, "f()", EOS), Code.UNTERMINATED, "a", "a f()", 5),
        ((CALL, "a"), Code.UNTERMINATED, None, "a", 1),
        ((CALL, "1", HEAD, HEAD, EOS), Code.UNTERMINATED, None, "1  ", 3),
        ((TRAP, EOS), Code.UNTERMINATED, None, "", 0),
    ],
)  # fmt: skip
def test_malformed_blocks(
    stream: tuple[Item, ...], code: CmlErrorCode, call_id: str | None, raw: str, offset: int
) -> None:
    found = block(*stream)
    assert isinstance(found, Malformed)
    assert (found.code, found.id, found.raw, found.offset) == (code, call_id, raw, offset)
    assert found.opened is stream[0]
    assert found.message


@pytest.mark.parametrize("opening", sorted(OPENING, key=lambda c: c.value))
def test_an_opening_token_inside_a_block_ends_it_and_opens_another(opening: Control) -> None:
    found = events([CALL, "a", HEAD, "f(", opening, "x", EOS])
    assert found[:3] == [BlockOpened(CALL), BodyRead("a"), BodyRead("f(")]
    first, second, last = found[3], found[4], found[6]
    assert isinstance(first, BlockClosed)
    assert isinstance(first.block, Malformed)
    assert (first.block.code, first.block.id, first.block.raw) == (Code.OPEN_IN_BLOCK, "a", "a f(")
    assert second == BlockOpened(opening)
    assert isinstance(last, BlockClosed)
    assert isinstance(last.block, Malformed)
    assert (last.block.opened, last.block.id, last.block.raw) == (opening, None, "x")


def test_stray_tokens_are_dropped() -> None:
    assert events(["a", END, HEAD, "b"]) == [
        TextRead("a"),
        Dropped(Code.STRAY, END),
        Dropped(Code.STRAY, HEAD),
        TextRead("b"),
    ]


def test_end_of_sequence_outside_a_block_is_no_event_and_the_stream_may_go_on() -> None:
    assert events([EOS, EOS, "a", EOS]) == [TextRead("a")]


def test_what_is_known_of_an_open_block() -> None:
    parser = BlockParser(BodyLanguage.PYTHON)
    assert (parser.open_block, parser.head_seen, parser.open_id) == (None, False, None)
    parser.feed(CALL)
    parser.feed(" a")
    assert (parser.open_block, parser.head_seen, parser.open_id) == (CALL, False, None)
    parser.feed(HEAD)
    assert (parser.open_block, parser.head_seen, parser.open_id) == (CALL, True, "a")
    parser.feed(INTR)
    parser.feed("a")
    parser.feed(HEAD)
    assert (parser.open_block, parser.head_seen, parser.open_id) == (INTR, True, None)


@pytest.mark.parametrize(
    ("text", "spaced", "payload"),
    [
        ("", True, ""), (" ", True, ""), ("  ", True, ""), ("   ", True, " "), (" a ", True, "a"), ("a", True, "a"),
        ("\na ", True, "\na"), ("", False, ""), ("  ", False, "  "), (" a ", False, " a "),
    ],
)  # fmt: skip
def test_only_the_text_form_takes_one_space_from_each_end_of_a_payload(text: str, spaced: bool, payload: str) -> None:
    assert block(INTR, "@user", HEAD, text, END, spaced=spaced) == Interrupt("@user", Status.OK, payload)
