"""Stop strings of a stream: found where they are complete, left out of the text, named, and nothing after them."""

from __future__ import annotations

from tests.server.ambient_report import Facts, Violations

from asynclm.session import effects as fx
from asynclm.session.state import FinishReason
from asynclm.wire.values import ReceivedEvent


class Stops:
    """Reads the ids of the byte vocabulary itself, run by run; elsewhere it looks at the texts alone."""

    def __init__(self, facts: Facts, found: Violations) -> None:
        self._require = found.require
        self._stops = facts.start.stop
        self._bytes = facts.started.binding.name == "bytes"
        self._run = b""
        self._text = ""
        self._written: str | None = None

    def see(self, event: ReceivedEvent) -> None:
        report = event.report
        if isinstance(report, fx.Tokens):
            self._tokens(report)
        elif isinstance(report, fx.InterruptCommitted):
            self._nothing_after(report)
            self._all_sent()
        elif isinstance(report, fx.StateChanged | fx.Finished):
            self._told(report)

    def _tokens(self, report: fx.Tokens) -> None:
        if report.ids:
            self._nothing_after(report)
        if report.in_block is not None:
            return
        self._text += report.text
        self._run += bytes(i for i in report.ids if i < 256)
        broken = report.control is not None or report.end_of_sequence or not report.ids
        if not broken:
            self._look()
        else:
            self._all_sent()

    def _all_sent(self) -> None:
        """Nothing is held back beyond a control token, an interrupt or an end [WIRE-057]."""
        if self._bytes:
            run = self._run.decode(errors="replace")
            self._require(self._text == run, "WIRE-057", f"the text is {self._text!r}, the ids say {run!r}")
        self._break()

    def _look(self) -> None:
        """[SES-100], [SES-102]."""
        inside = [stop for stop in self._stops if stop in self._text]
        self._require(not inside, "SES-102", f"the text contains {inside}")
        if not self._bytes:
            return
        run = self._run.decode(errors="replace")
        ends = {stop: run.find(stop) + len(stop) for stop in self._stops if stop in run}
        if not ends:
            return
        first = min(ends.values())
        self._written = max((stop for stop, end in ends.items() if end == first), key=len)
        self._require(first == len(run), "SES-100", f"{self._written!r} was written, and then {run[first:]!r}")
        before = run[: first - len(self._written)]
        self._require(self._text == before, "SES-102", f"the text before a stop string is {self._text!r}")
        self._break()

    def _break(self) -> None:
        self._run, self._text = b"", ""

    def _nothing_after(self, report: fx.Tokens | fx.InterruptCommitted) -> None:
        kind = type(report).__name__
        self._require(self._written is None, "SES-103", f"{kind} after {self._written!r} and before it was told")

    def _told(self, report: fx.StateChanged | fx.Finished) -> None:
        named = report.stop_string
        self._require(named is None or named in self._stops, "SES-103", f"{named!r} is no stop string")
        if self._bytes:
            self._require(named == self._written, "SES-103", f"{named!r} is named, {self._written!r} was written")
        if isinstance(report, fx.Finished) and report.reason is FinishReason.STOP_STRING:
            self._require(named is not None, "SES-103", "STOP_STRING names none")
        self._written = None
