"""The view for pipes and logs: one line for each thing that happens, no control sequences.

A line is a keyword, then what it is about. The model's text has the keyword `text`, and a line for each of its lines.
"""

from __future__ import annotations

from typing import TextIO

from asynclm.cli.ledger import bill, ledger_lines, summary
from asynclm.demo.axis import duration
from asynclm.demo.safe import one_line
from asynclm.demo.transcript import Span, SpanKind, TranscriptBuilder, trap_condition
from asynclm.session import effects
from asynclm.wire.values import ReceivedEvent, Started

_PAYLOAD_CHARS = 1000
_KEYWORD_CELLS = 9


class PlainView:
    """Writes a session as lines to `out`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._transcript = TranscriptBuilder()
        self._text = ""

    def event(self, event: ReceivedEvent, at_ms: float) -> None:
        """Writes what an event says."""
        report = event.report
        for span in self._transcript.feed(report, event.time_ms):
            self._span(span, event)
        line = _line(report)
        if line is not None:
            self._end_text()
            self._write(*line)
        if isinstance(report, effects.Finished):
            self._finished(report, event)

    def tick(self, at_ms: float) -> None:
        """Nothing moves by itself."""

    def held(self, why: str | None) -> None:
        """Writes why decoding is held."""
        self.note(f"decoding is held: {why}" if why else "decoding goes on")

    def note(self, text: str) -> None:
        """Writes a remark."""
        self._end_text()
        self._write("note", text)

    def close(self) -> None:
        """Ends the last line."""
        self._end_text()

    def _span(self, span: Span, event: ReceivedEvent) -> None:
        if span.kind is SpanKind.TEXT:
            self._text += span.text
            *lines, self._text = self._text.split("\n")
            for line in lines:
                self._write("text", line)
        elif span.interrupt is not None:
            self._end_text()
            landed = span.interrupt
            said = f"{landed.source} {landed.status} {one_line(landed.payload, _PAYLOAD_CHARS)}"
            self._write("interrupt", f"{said} ({landed.landing.words}, token {landed.token_index})")

    def _end_text(self) -> None:
        if self._text.strip():
            self._write("text", self._text)
        self._text = ""

    def _finished(self, report: effects.Finished, event: ReceivedEvent) -> None:
        self._end_text()
        self._write("finished", f"{summary(report)} · {duration(event.time_ms)}")
        if report.hosted is not None:
            self._write("hosted", bill(report.hosted))
        for line in ledger_lines(report):
            self._write("ledger", line)

    def _write(self, keyword: str, text: str) -> None:
        print(f"{keyword:<{_KEYWORD_CELLS}} {one_line(text.strip())}".rstrip(), file=self._out, flush=True)


def _line(report: object) -> tuple[str, str] | None:
    """The line of a report that has one of its own."""
    match report:
        case Started():
            tools = ", ".join(tool.name for tool in report.tools) or "none"
            said = f"{report.session_id} model {report.model}, mode {report.mode}, prompt {report.prompt_tokens} tokens"
            return "session", f"{said}, tools {tools}"
        case effects.CallEmitted(raw=raw):
            return "call", f"{_name(report)} {one_line(raw, _PAYLOAD_CHARS)}"
        case effects.CallDispatched(arguments=arguments):
            return "start", f"{_name(report)} {report.function} {one_line(arguments, _PAYLOAD_CHARS)}"
        case effects.TrapEntered(trap=trap):
            within = f" within {duration(trap.within_ms)}" if trap.within_ms is not None else ""
            return "trap", f"waits for {trap_condition(trap)}{within}{' (the mode)' if report.implicit else ''}"
        case effects.TrapExited():
            why = "timed out" if report.timed_out else "nothing to wait for" if report.empty else "ends"
            return "trap", why
        case effects.StateChanged(state=state):
            return "state", f"{state}: {report.reason}" if report.reason else str(state)
        case effects.CancelAnswered(outcome=outcome):
            return "cancel", f"{report.id or report.index} {outcome} (asked by {report.origin})"
        case effects.InterruptRejected():
            said = f"{report.source} {report.reason}: {report.message}"
            return "rejected", f"{said} {one_line(report.payload, _PAYLOAD_CHARS)}"
        case effects.Notice(code=code, message=message):
            return "notice", f"{code}: {message}"
    return None


def _name(report: effects.CallEmitted | effects.CallDispatched) -> str:
    return report.id if report.id is not None else f"#{report.index}"
