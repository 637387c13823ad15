"""What follows from a script alone: its text and control tokens come, in order, each at its number of units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.cases.model import ScriptPiece
from asynclm_conformance.judge.trace import Mismatch, placed

_MARKS = {
    types_pb2.CONTROL_TOKEN_CALL: "\ue000",
    types_pb2.CONTROL_TOKEN_INTR: "\ue001",
    types_pb2.CONTROL_TOKEN_TRAP: "\ue002",
    types_pb2.CONTROL_TOKEN_END: "\ue003",
    types_pb2.CONTROL_TOKEN_HEAD: "\ue004",
}
_END = "\ue005"
_SPELLED = dict(zip("\ue000\ue001\ue002\ue003\ue004", ("[CALL]", "[INTR]", "[TRAP]", "[END]", "[HEAD]"), strict=True))
_SPELLED[_END] = "<end>"
"""Private characters stand for control tokens and end of sequence, so that texts and tokens can be compared as one."""


@dataclass(frozen=True, slots=True)
class _Played:
    """What is sampled: the text with marks, and the number of units at each mark."""

    text: str
    marks: tuple[tuple[str, int], ...]


def script_mismatch(
    pieces: Sequence[ScriptPiece], units: Sequence[int], events: Sequence[session_pb2.ServerEvent], *, stops: bool
) -> Mismatch | None:
    """Holds the sampled tokens of a session against its script.

    Args:
        pieces: the script.
        units: of each piece, 0 for one that the mask forbids.
        events: everything that came.
        stops: whether the session has stop strings, which keep text back for good.
    """
    if any(piece.step.WhichOneof("step") in ("sample", "release") for piece in pieces):
        return None  # the model's own words
    seen, wanted = _seen(events), _wanted(pieces, units)
    last = next((event.sequence for event in reversed(events) if event.HasField("tokens")), 0)
    text, whole = seen.text.rstrip(_END), wanted.text.rstrip(_END)
    if not whole.startswith(text) and not (stops and _within(text, whole)):
        return Mismatch("the sampled text is not the script's", _spell(whole), _spell(text), "SCR-004", last)
    for number, (mark, at) in enumerate(seen.marks):
        if number >= len(wanted.marks):
            if mark == _END:
                continue  # an exhausted script samples end of sequence [SCR-007]
            return Mismatch("a control token beyond the script", "none", _spell(mark), "SCR-004", last)
        expected, units_there = wanted.marks[number]
        if (expected, units_there) != (mark, at):
            want = f"{_spell(expected)} as unit {units_there}"
            return Mismatch("a control token at the wrong place", want, f"{_spell(mark)} as unit {at}", "SCR-004", last)
    return None


def _seen(events: Sequence[session_pb2.ServerEvent]) -> _Played:
    text, marks = "", []
    for place in placed(events):
        event = place.event
        if not event.HasField("tokens"):
            continue
        tokens = event.tokens
        text += tokens.text
        mark = _END if tokens.end_of_sequence else _MARKS.get(tokens.control, "")
        if mark:
            text += mark
            marks.append((mark, place.sampled + max(len(tokens.ids), 1)))
    return _Played(text, tuple(marks))


def _wanted(pieces: Sequence[ScriptPiece], units: Sequence[int]) -> _Played:
    text, marks, so_far = "", [], 0
    for piece, count in zip(pieces, units, strict=True):
        if piece.masked:
            continue
        so_far += count
        step = piece.step
        mark = _END if step.HasField("end_of_sequence") else _MARKS.get(step.control, "")
        text += mark or step.text
        if mark:
            marks.append((mark, so_far))
    return _Played(text, tuple(marks))


def _within(text: str, whole: str) -> bool:
    """Whether a text is a script's with stop strings and what was held back left out: its letters, in order."""
    letters = iter(whole)
    return all(letter in letters for letter in text)


def _spell(text: str) -> str:
    return repr("".join(_SPELLED.get(letter, letter) for letter in text[-400:]))
