"""Stop strings of a stream: found where they are complete, left out of the text, named, and nothing after them."""

from __future__ import annotations

from asynclm.v1 import types_pb2
from asynclm_conformance.ambient.report import Event, Facts, Violations


class Stops:
    """Reads the ids of the byte vocabulary itself, run by run; elsewhere it looks at the texts alone."""

    def __init__(self, facts: Facts, found: Violations) -> None:
        self._require = found.require
        self._stops = [stop for stop in facts.start.stop if stop]
        self._bytes = facts.bytes
        self._run = b""
        self._text = ""
        self._written: str | None = None

    def see(self, event: Event) -> None:
        """Takes one event."""
        if event.kind == "tokens":
            self._tokens(event)
        elif event.kind == "interrupt_committed":
            self._nothing_after(event)
            self._all_sent()
        elif event.kind in ("state_changed", "finished"):
            self._told(event)

    def _tokens(self, event: Event) -> None:
        body = event.body
        if event.units:
            self._nothing_after(event)
        if body.in_block:
            return
        self._text += body.text
        self._run += bytes(i for i in body.ids if i < 256)
        broken = body.control or body.end_of_sequence or not event.units
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

    def _nothing_after(self, event: Event) -> None:
        told = self._written is None
        self._require(told, "SES-103", f"{event.name} after {self._written!r} and before it was told")

    def _told(self, event: Event) -> None:
        named = event.body.stop_string if event.body.HasField("stop_string") else None
        self._require(named is None or named in self._stops, "SES-103", f"{named!r} is no stop string")
        if self._bytes:
            self._require(named == self._written, "SES-103", f"{named!r} is named, {self._written!r} was written")
        if event.kind == "finished":
            stopped = event.body.reason == types_pb2.FINISH_REASON_STOP_STRING
            self._require(not stopped or named is not None, "SES-103", "STOP_STRING names none")
        self._written = None
