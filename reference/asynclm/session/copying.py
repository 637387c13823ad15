"""What arguments may be copied from: the texts of the request and of delivered results, as they come (spec: calls)."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace

from asynclm.cml.control import Status
from asynclm.cml.copying import CopyFrom, texts_of
from asynclm.cml.toolspec import ToolSpec
from asynclm.session.calls import CallRecord
from asynclm.session.config import SessionConfig

_NAMES = {
    CopyFrom.REQUEST: "the request",
    CopyFrom.RESULTS: "the results so far",
    CopyFrom.ANY: "the request or the results so far",
}
_CARRIES_RESULTS = (Status.OK, Status.PARTIAL)
"""What an error says may be the model's own words."""


@dataclass(frozen=True, slots=True)
class CopySources:
    """Texts that a span may stand in, by origin; a new value for each change.

    Attributes:
        request: what the user wrote.
        results: what hosts answered.
    """

    request: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    def texts(self, origin: CopyFrom) -> tuple[str, ...]:
        """The texts of an origin."""
        if origin is CopyFrom.REQUEST:
            return self.request
        return self.results if origin is CopyFrom.RESULTS else self.request + self.results


class Copying:
    """Keeps the sources of one session.

    Attributes:
        sources: what may be copied now; None if no tool asks.
    """

    def __init__(self, config: SessionConfig) -> None:
        asked = any(tool.copies for tool in config.tools)
        self.sources = CopySources(request=config.request_texts) if asked else None

    def delivered(self, source: str, status: Status, payload: str, call: CallRecord | None) -> None:
        """An interrupt enters the context [CALL-101]."""
        if self.sources is None or status not in _CARRIES_RESULTS:
            return
        if source == "@user" and payload:  # plain text [INT-015]
            self.sources = replace(self.sources, request=(*self.sources.request, payload))
        elif call is not None and not call.builtin:
            self.sources = replace(self.sources, results=self.sources.results + tuple(texts_of(payload)))

    def violation(self, tool: ToolSpec, arguments: str, carried: Collection[str]) -> str | None:
        """Checks the copied arguments of a call [CALL-102].

        Args:
            tool: the tool that is called.
            arguments: final arguments that fit its schema, as JSON text.
            carried: the arguments that are references to results of hosts: spans of results by themselves.

        Returns:
            None if they are spans, else one sentence for the model.
        """
        if not tool.copies:
            return None
        assert self.sources is not None
        values = json.loads(arguments)
        for name, origin in tool.copies.items():
            value = values.get(name)
            if value is None or (value and name in carried and origin is not CopyFrom.REQUEST):
                continue
            if not value or not any(value in text for text in self.sources.texts(origin)):
                return (
                    f"{name}: {value[:80]!r} does not stand in {_NAMES[origin]}; copy it from there, letter by letter"
                )
        return None
