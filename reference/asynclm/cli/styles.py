"""One set of colours for everything that shows a session."""

from __future__ import annotations

from asynclm.cml.control import Status
from asynclm.demo.transcript import Landed, Landing, Span, SpanKind

CONTROL = "bold cyan"
BODY = "cyan"
WORD = "magenta"
RESULT = "green"
FAULT = "red"
QUIET = "bright_black"
NOTICE = "yellow"


def interrupt_style(landed: Landed) -> str:
    """The colour of an interrupt; one that landed in running text stands out."""
    if not landed.from_call and not landed.source.startswith("@runtime"):
        colour = WORD
    else:
        good = landed.status in (Status.OK, Status.PARTIAL, Status.PROGRESS)
        colour = RESULT if good else FAULT
    return f"{colour} reverse" if landed.landing is Landing.TEXT else colour


def span_style(span: Span) -> str:
    """The colour of a piece of the transcript."""
    if span.interrupt is not None:
        return interrupt_style(span.interrupt)
    return {SpanKind.CONTROL: CONTROL, SpanKind.BODY: BODY}.get(span.kind, "")
