"""What the parser's benchmark reads: transcripts like those of tool-using models, and a tokenizer of such pieces."""

from __future__ import annotations

import hashlib
from random import Random

from asynclm.cml.binding import BINDINGS
from asynclm.cml.blocks import Argument, Block, Call, Invocation, Literal, Reference, Text, Trap
from asynclm.cml.bodies import render_body
from asynclm.cml.control import BodyLanguage, Quantifier
from asynclm.cml.literals import render_literal

PROSE = (
    "the summary of this page is ready and will be sent to everybody who was at the meeting on Thursday while we wait "
    "for budget figures from the café in Zürich naïve 東京 results look good but two rows need another look because "
    "their totals differ by 12 % – see below"
)
_WORDS = PROSE.split()
_FUNCTIONS = ("search", "send_email", "fetch", "calendar.create_event", "read_rows", "db.query", "summarize")
_PARAMETERS = ("query", "to", "subject", "body", "limit", "url", "path", "start", "attendees", "options", "language")
_IDS = ("page", "summary", "rows", "chair", "mail_1", "mail_2", "weather")


def transcript(random: Random, language: BodyLanguage, turns: int) -> list[Block]:
    """What a model writes in a session: prose, four calls to every trap, end of sequence left out."""
    blocks: list[Block] = []
    for turn in range(turns):
        blocks.append(Text(prose(random, 15, 45) + "\n"))
        blocks.append(_trap(random) if turn % 5 == 4 else _call(random, language))
    return blocks


def cut(random: Random, text: str) -> list[str]:
    """Text in pieces of three to six characters."""
    pieces = []
    at = 0
    while at < len(text):
        size = random.randint(3, 6)
        pieces.append(text[at : at + size])
        at += size
    return pieces


def prose(random: Random, shortest: int, longest: int) -> str:
    """Words of prose, so many at least and at most."""
    return " ".join(random.choices(_WORDS, k=random.randint(shortest, longest)))


def _trap(random: Random) -> Trap:
    if random.random() < 0.4:
        return Trap()
    names = tuple(random.sample(_IDS, random.randint(1, 3)))
    return Trap(random.choice(list(Quantifier)), names, random.choice([None, 2500]))


def _call(random: Random, language: BodyLanguage) -> Call:
    names = random.sample(_PARAMETERS, random.choice((0, 1, 1, 2, 2, 3, 3, 4, 5)))
    arguments = [Argument(name, _value(random)) for name in names]
    arguments.sort(key=lambda argument: isinstance(argument.value, Reference))
    invocation = Invocation(random.choice(_FUNCTIONS), tuple(arguments))
    call_id = random.choice(_IDS) if random.random() < 0.8 else None
    return Call(call_id, render_body(language, invocation), invocation)


def _value(random: Random) -> Literal | Reference:
    kind = random.random()
    if kind < 0.25:
        steps: tuple[str | int, ...] = random.choice(((), (), ("email",), ("rows", 0), (2, "name")))
        return Reference(random.choice(_IDS), steps)
    if kind < 0.6:
        return Literal(render_literal(prose(random, 1, 12)))
    if kind < 0.65:  # an email or a file
        return Literal(render_literal("\n\n".join(prose(random, 20, 60) for _ in range(3))))
    if kind < 0.85:
        return Literal(random.choice(("10", "true", "null", "0.75", "2026", "-3.50")))
    people = [{"name": prose(random, 1, 2), "id": random.randint(1, 999)} for _ in range(random.randint(1, 4))]
    return Literal(render_literal(random.choice((people, [p["name"] for p in people], {"all": people, "deep": True}))))


class PieceTokenizer:
    """A tokenizer whose tokens are three to six bytes long, as those of large vocabularies are; a `Tokenizer`.

    It has no vocabulary of its own: each new piece of bytes that it meets takes the next id. As with any byte-level
    vocabulary, a token may end inside a character.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._specials = (*BINDINGS["bytes"].tokens.values(), "<|eos|>")
        self._pieces: list[bytes] = []
        self._ids: dict[bytes, int] = {}

    @property
    def vocab_size(self) -> int:
        """Number of ids so far."""
        return len(self._specials) + len(self._pieces)

    @property
    def special_ids(self) -> frozenset[int]:
        """The first ids."""
        return frozenset(range(len(self._specials)))

    @property
    def eos_ids(self) -> frozenset[int]:
        """End of sequence."""
        return frozenset({len(self._specials) - 1})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary so far, in hex."""
        return hashlib.sha256(b"\0".join(self._pieces)).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Cuts the text's bytes into pieces."""
        data = text.encode()
        ids = []
        at = 0
        while at < len(data):
            size = self._random.randint(3, 6)
            ids.append(self._id(data[at : at + size]))
            at += size
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The piece, `b""` for a special token."""
        return b"" if token_id < len(self._specials) else self._pieces[token_id - len(self._specials)]

    def special_id(self, spelling: str) -> int | None:
        """The id of a special token by its spelling, or None."""
        return self._specials.index(spelling) if spelling in self._specials else None

    def spelling(self, token_id: int) -> str:
        """The special token's spelling, or the piece as Python writes bytes."""
        return self._specials[token_id] if token_id < len(self._specials) else repr(self.token_bytes(token_id))

    def _id(self, piece: bytes) -> int:
        if piece not in self._ids:
            self._ids[piece] = self.vocab_size
            self._pieces.append(piece)
        return self._ids[piece]
