from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.cml.strategies import texts

from asynclm.cml.detokenise import Utf8Decoder, scrub

fragments = st.lists(st.sampled_from([b"\xf0", b"\x9f", b"\x99\x82", b"a", b"\xc3", b"\xa9", b"\xff"]))
bytes_like = st.one_of(st.binary(), texts.map(str.encode), fragments.map(b"".join))


@given(bytes_like, st.data())
def test_any_division_gives_the_text_of_the_whole(data: bytes, draw: st.DataObject) -> None:
    decoder = Utf8Decoder()
    text, at = "", 0
    while at < len(data):
        size = draw.draw(st.integers(1, 5))
        text += decoder.feed(data[at : at + size])
        at += size
    assert text + decoder.flush() == data.decode(errors="replace")


@given(bytes_like)
def test_at_most_three_bytes_are_held_back(data: bytes) -> None:
    decoder = Utf8Decoder()
    held = 0
    for byte in data:
        read = decoder.feed(bytes([byte]))
        held = 0 if read else held + 1
        assert held <= 3
        assert decoder.held or held == 0


def test_an_unfinished_sequence_is_held_back_until_it_is_whole() -> None:
    decoder = Utf8Decoder()
    assert [decoder.feed(bytes([b])) for b in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]
    assert not decoder.held
    assert decoder.flush() == ""


def test_an_invalid_byte_is_replaced_at_once() -> None:
    decoder = Utf8Decoder()
    assert decoder.feed(b"\xff") == "\ufffd"
    assert decoder.feed(b"\xf0\x9f") == ""
    assert decoder.held
    assert decoder.feed(b"a") == "\ufffda"
    assert not decoder.held


def test_flushing_gives_one_replacement() -> None:
    decoder = Utf8Decoder()
    decoder.feed(b"\xf0\x9f\x99")
    assert decoder.flush() == "\ufffd"
    assert not decoder.held


@given(st.text())
def test_scrubbed_text_can_be_encoded(text: str) -> None:
    scrubbed = scrub(text)
    scrubbed.encode()
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert scrubbed is text


def test_surrogate_pairs_are_joined_and_lone_halves_replaced() -> None:
    assert scrub("a\ud83d\ude42b\ud83dc\ude42") == "a🙂b\ufffdc\ufffd"
