"""Scripted models: each (script, session) is a play of its own, and stands where the last request left it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from asynclm_adapters.openai_mock.errors import ApiError, bad_request, model_not_found
from asynclm_adapters.openai_mock.pieces import Delta, Drop, Finish, IgnoreStop, Piece
from asynclm_adapters.openai_mock.request import ChatRequest

SCRIPT_PREFIX = "script:"
MAX_SCRIPTS = 10_000


@dataclass(frozen=True, slots=True)
class Script:
    """What a model says, in order, whatever it is asked.

    Attributes:
        id: 1 to 128 letters, digits, '_', '-' and '.'.
        pieces: deltas exactly as they are sent, ends, and faults.
        ignore_stop: stop sequences of requests are not honoured.
    """

    id: str
    pieces: tuple[Piece, ...]
    ignore_stop: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", self.id, re.ASCII):
            said = f"script id {self.id[:80]!r}: allowed are 1 to 128 letters, digits, '_', '-' and '.'"
            raise bad_request(said, "id")


@dataclass
class Play:
    """Where one session stands in a script.

    Attributes:
        script: the script as it was when the play began.
        index: pieces done.
        offset: characters of the next piece, a delta, that are done already.
        spent: faults that have happened; none of them happens twice in a play.
        turn: the request that plays now: a later one, or a moved position, ends it.
    """

    script: Script
    index: int = 0
    offset: int = 0
    spent: set[int] = field(default_factory=set)
    turn: object = None

    @property
    def characters(self) -> int:
        """Characters of the script's text that have been sent."""
        return _length(self.script.pieces[: self.index]) + self.offset

    def next(self) -> Piece | None:
        """The piece that is due; None at the end."""
        while self.index < len(self.script.pieces):
            piece = self.script.pieces[self.index]
            if self.index not in self.spent:
                return Delta(piece.text[self.offset :]) if isinstance(piece, Delta) and self.offset else piece
            self.index += 1
        return None

    def done(self) -> None:
        """The piece that was due has happened."""
        if not isinstance(self.script.pieces[self.index], (Delta, Finish)):
            self.spent.add(self.index)
        self.index, self.offset = self.index + 1, 0

    def keep(self, characters: int, ends: int = 0) -> None:
        """Declares unsent what comes after so many characters: the play goes on right behind them.

        Text behind them is played again, and so are the ends of replies but for the first so many; faults that have
        happened are not.

        Raises:
            ApiError: 400, fewer than 0 or more than were sent.
        """
        if not 0 <= characters <= self.characters:
            said = f"Invalid 'characters': {characters}; allowed: 0 to {self.characters}, as many as were sent."
            raise bad_request(said, "characters")
        self.turn = object()
        left = characters
        for index, piece in enumerate(self.script.pieces):
            if isinstance(piece, Finish) and ends > 0:
                ends -= 1
                continue
            size = len(piece.text) if isinstance(piece, Delta) else 0
            if left < size or (left == 0 and ends == 0):
                self.index, self.offset = index, left
                return
            left -= size
        self.index, self.offset = len(self.script.pieces), 0


def _length(pieces: Sequence[Piece]) -> int:
    return sum(len(piece.text) for piece in pieces if isinstance(piece, Delta))


class ScriptStore:
    """Scripts by id and their plays; the model behind every `script:ID`."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}
        self._plays: dict[tuple[str, str], Play] = {}

    @property
    def ids(self) -> list[str]:
        """The scripts there are."""
        return sorted(self._scripts)

    def load(self, script: Script) -> None:
        """Adds or replaces a script.

        Plays that have begun keep the script they began with, except that of requests that name no session: it starts
        over.
        """
        if script.id not in self._scripts and len(self._scripts) >= MAX_SCRIPTS:
            raise ApiError(429, f"there are {MAX_SCRIPTS} scripts already; forget them by POST /admin/reset")
        self._scripts[script.id] = script
        self._plays.pop((script.id, ""), None)

    def reset(self) -> None:
        """Forgets every script and every play."""
        self._scripts.clear()
        self._plays.clear()

    def standing(self, script_id: str, session: str) -> Play:
        """The play of a session; one at its start where the session has none.

        Raises:
            ApiError: 404, there is no such script.
        """
        play = self._plays.get((script_id, session))
        if play is not None:
            return play
        if script_id not in self._scripts:
            raise model_not_found(SCRIPT_PREFIX + script_id)
        return Play(self._scripts[script_id])

    async def reply(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """Plays the script on from where its play stands, up to its next end."""
        script_id = request.model.removeprefix(SCRIPT_PREFIX)
        play = self._plays[script_id, request.session] = self.standing(script_id, request.session)
        turn = play.turn = object()
        if play.script.ignore_stop:
            yield IgnoreStop()
        while (piece := play.next()) is not None:
            yield piece
            if play.turn is not turn:
                yield Drop()
                return
            play.done()
            if isinstance(piece, Finish):
                return
