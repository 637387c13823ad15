"""What the ambient checks share: what is known of a session beforehand, and what they found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asynclm.cml.toolspec import ToolSpec
from asynclm.wire.client_events import ClientInput
from asynclm.wire.start import StartRequest
from asynclm.wire.values import Started


@dataclass(frozen=True, slots=True)
class Violation:
    """A requirement that a stream does not keep: its id, the event's sequence number, and what was seen."""

    rule: str
    sequence: int
    message: str

    def __str__(self) -> str:
        return f"[{self.rule}] event {self.sequence}: {self.message}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a session was asked for and started with; `sent` is None where the client's events are not known."""

    start: StartRequest
    started: Started
    sent: Mapping[int, ClientInput] | None

    def client_tool(self, name: str) -> ToolSpec | None:
        """What the client declared of a tool of its own."""
        return next((tool for tool in self.start.tools if tool.name == name), None)

    def client_owned(self, name: str) -> bool | None:
        """Who runs a tool; None if the session has none of that name."""
        return next((tool.client_owned for tool in self.started.tools if tool.name == name), None)


class Violations:
    """Collects violations, each with the event that is looked at."""

    def __init__(self) -> None:
        self.all: list[Violation] = []
        self._sequence = 0

    def at(self, sequence: int) -> None:
        """The event that is looked at from now on."""
        self._sequence = sequence

    def add(self, rule: str, sequence: int, message: str) -> None:
        self.all.append(Violation(rule, sequence, message))

    def require(self, condition: object, rule: str, message: str) -> None:
        """Notes a violation of a rule unless the condition holds."""
        if not condition:
            self.add(rule, self._sequence, message)
