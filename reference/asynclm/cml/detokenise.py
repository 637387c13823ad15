"""Token bytes to text, incrementally: UTF-8 sequences that tokens cut are held back until they are whole."""

from __future__ import annotations

from codecs import utf_8_decode

REPLACEMENT = "\ufffd"
"""What stands for bytes that are no character, and for half of a surrogate pair."""


class Utf8Decoder:
    """Decodes bytes that come in pieces. Holds at most 3 bytes; invalid ones become U+FFFD at once.

    Attributes:
        held: the unfinished sequence that is held back, empty if there is none; to be read only.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> str:
        """Takes the next bytes and gives the text that is whole with them."""
        data = self.held + data
        text, consumed = utf_8_decode(data, "replace", False)
        self.held = data[consumed:]
        return text

    def flush(self) -> str:
        """Gives up what is held back: one U+FFFD, or nothing."""
        if not self.held:
            return ""
        self.held = b""
        return REPLACEMENT


def scrub(text: str) -> str:
    """Text with surrogate pairs joined and each lone half made U+FFFD, so that it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
