"""What went over the wire in one case, in the order in which the runner saw it."""

from __future__ import annotations

import time

from asynclm.conformance.v1 import results_pb2
from asynclm.v1 import session_pb2


class WireLog:
    """Collects exchanges; one for each case."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.exchanges: list[results_pb2.Exchange] = []

    def client(self, session: str, event: session_pb2.ClientEvent) -> None:
        """The runner sent a client event."""
        self._add(results_pb2.Exchange(session=session, client=event))

    def server(self, session: str, event: session_pb2.ServerEvent) -> None:
        """The target sent a server event."""
        self._add(results_pb2.Exchange(session=session, server=event))

    def note(self, session: str, text: str) -> None:
        """Anything else happened."""
        self._add(results_pb2.Exchange(session=session, note=text))

    def _add(self, exchange: results_pb2.Exchange) -> None:
        exchange.at_ms = round((time.monotonic() - self._began) * 1000, 3)
        self.exchanges.append(exchange)
