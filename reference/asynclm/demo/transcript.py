"""From a session's reports to its transcript: what was sampled, what was injected, and where each interrupt landed.

The live view, the replay and the demonstration's page all draw these spans; none of them looks at raw reports for text.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from asynclm.cml.blocks import Trap
from asynclm.cml.control import Control, Status
from asynclm.session.effects import InterruptCommitted, StateChanged, Tokens, TrapEntered
from asynclm.session.state import State


class SpanKind(enum.StrEnum):
    """What a piece of the transcript is."""

    TEXT = "text"
    """Text outside blocks, sampled by the model."""
    BODY = "body"
    """The content of a block that the model writes: ids, call bodies, trap conditions."""
    CONTROL = "control"
    """A control token that the model sampled, with the spaces of the canonical text form."""
    INTERRUPT = "interrupt"
    """A whole interrupt block, injected by the runtime."""


class Landing(enum.StrEnum):
    """Where in the stream an interrupt was committed."""

    TEXT = "text"
    """In running text: the model was in the middle of it and went on."""
    BLOCK = "block"
    """While decoding, directly after a block or at the very beginning."""
    TRAP = "trap"
    """At a trap, implicit ones included."""
    END = "end"
    """After end of sequence: in DRAINING or IDLE."""

    @property
    def words(self) -> str:
        """The same for people."""
        return _PLACES[self]


_PLACES = {
    Landing.TEXT: "in running text",
    Landing.BLOCK: "while decoding",
    Landing.TRAP: "at a trap",
    Landing.END: "after the end of the text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """A committed interrupt: what it says, when it came and where it landed."""

    number: int
    source: str
    status: Status
    payload: str
    token_index: int
    time_ms: int
    landing: Landing

    @property
    def from_call(self) -> bool:
        """Whether it answers a call (rather than a person, the runtime or another agent)."""
        return not self.source.startswith("@")

    @property
    def head(self) -> str:
        """`source`, or `source:status` where the status is not ok."""
        return self.source if self.status is Status.OK else f"{self.source}:{self.status.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of the transcript.

    Attributes:
        kind: what it is.
        text: how it reads, in the text form; literal control words in text are not escaped.
        time_ms: when it was sampled or committed, milliseconds of the session clock.
        interrupt: the interrupt, for kind INTERRUPT, else None.
    """

    kind: SpanKind
    text: str
    time_ms: int
    interrupt: Landed | None = None


def trap_condition(trap: Trap) -> str:
    """What a trap waits for, in words: `the next interrupt`, `page`, `any of a, b`, `everything pending`."""
    if trap.bare:
        return "the next interrupt"
    if not trap.ids:
        return "everything pending"
    return trap.ids[0] if len(trap.ids) == 1 else f"{trap.quantifier} of {', '.join(trap.ids)}"


class TranscriptBuilder:
    """Turns one session's reports into spans, as they come. Spaces beside control tokens are for the eye."""

    def __init__(self) -> None:
        self._landing = Landing.BLOCK
        self._spaced = True
        self._after_block = False

    def feed(self, report: object, time_ms: int) -> tuple[Span, ...]:
        """Takes the next report; reports that change nothing in the transcript give no spans."""
        match report:
            case Tokens():
                return self._tokens(report, time_ms)
            case InterruptCommitted():
                return (self._interrupt(report, time_ms),)
            case TrapEntered():
                self._landing = Landing.TRAP
            case StateChanged(state=State.DRAINING | State.IDLE):
                self._landing = Landing.END
        return ()

    def _tokens(self, report: Tokens, time_ms: int) -> tuple[Span, ...]:
        spans = []
        if report.text:
            kind = SpanKind.TEXT if report.in_block is None else SpanKind.BODY
            text = self._spell(report.text, apart=self._after_block)
            spans.append(Span(kind=kind, text=text, time_ms=time_ms))
            self._after_block = False
        if report.control is not None:
            text = self._spell(report.control.value, apart=True)
            if report.control is not Control.END:
                text += " "
                self._spaced = True
            spans.append(Span(kind=SpanKind.CONTROL, text=text, time_ms=time_ms))
            self._after_block = report.control is Control.END
        if report.ids or report.text:
            in_text = report.control is None and report.in_block is None and not report.end_of_sequence
            self._landing = Landing.TEXT if in_text else Landing.BLOCK
        return tuple(spans)

    def _interrupt(self, report: InterruptCommitted, time_ms: int) -> Span:
        landed = Landed(
            number=report.number,
            source=report.source,
            status=report.status,
            payload=report.payload,
            token_index=report.token_index,
            time_ms=time_ms,
            landing=self._landing,
        )
        text = f"{Control.INTR.value} {landed.head} {Control.HEAD.value} {report.payload} {Control.END.value}"
        span = Span(kind=SpanKind.INTERRUPT, text=self._spell(text, apart=True), time_ms=time_ms, interrupt=landed)
        self._after_block = True
        return span

    def _spell(self, text: str, *, apart: bool) -> str:
        """The text with a space in front where it has to stand apart from what is there."""
        gap = " " if apart and not self._spaced and not text[:1].isspace() else ""
        self._spaced = text[-1:].isspace()
        return gap + text
