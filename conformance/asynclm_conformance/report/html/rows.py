"""From the wire of a case to the rows of its sequence diagram: tokens drawn together, failures at their events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.report.clean import visible
from asynclm_conformance.report.labels import Span, kind_of, label, tokens_label

MOST_ROWS = 240
"""Rows that are drawn; of a longer wire, the beginning, the end, and what is near a failure."""
_AROUND = 12
"""Rows that are drawn before and behind a failure."""

Shape = Literal["client", "server", "tokens", "note", "gap"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a diagram.

    Attributes:
        shape: what is drawn.
        session: the session's name.
        spans: what stands at it.
        numbers: what stands in the margin: sequence number and token index.
        clock: the session's clock, or the runner's for what has none.
        failures: numbers and words of the failures that it shows.
        first, last: the messages that it stands for, from 0.
    """

    shape: Shape
    session: str
    spans: tuple[Span, ...]
    numbers: str = ""
    clock: str = ""
    failures: tuple[tuple[int, str], ...] = ()
    first: int = 0
    last: int = 0

    @property
    def quiet(self) -> bool:
        """Whether it is drawn so that the eye can pass over it: the runner probes after every step."""
        return self.spans[0].text in ("probe", "probed") and not self.failures


@dataclass(slots=True)
class _Tokens:
    """Tokens that are drawn as one row."""

    session: str
    first: int
    last: int
    event: int
    last_event: int
    index: int
    clock: int
    spans: list[Span] = field(default_factory=list)

    def row(self) -> Row:
        numbers = f"#{self.event}" if self.event == self.last_event else f"#{self.event}–{self.last_event}"
        return Row(
            "tokens",
            self.session,
            (Span("tokens", "kind"), Span(" "), *self.spans),
            f"{numbers} @{self.index}",
            f"{self.clock} ms",
            first=self.first,
            last=self.last,
        )


def rows(result: results_pb2.CaseResult) -> list[Row]:
    """The rows of a case's diagram, in the order in which the runner saw the messages."""
    return _shortened(list(_all_rows(result)))


def sessions(result: results_pb2.CaseResult) -> list[str]:
    """The sessions of a case, in the order in which they come up."""
    return list(dict.fromkeys(exchange.session for exchange in result.wire if exchange.session))


def _all_rows(result: results_pb2.CaseResult) -> Iterator[Row]:
    marked = _marked(result.failures)
    tokens: _Tokens | None = None
    for number, exchange in enumerate(result.wire):
        failures = marked.get((exchange.session, exchange.server.sequence), ())
        if kind_of(exchange) == "tokens" and not failures:
            if tokens is not None and tokens.session != exchange.session:
                yield tokens.row()
                tokens = None
            tokens = _joined(tokens, number, exchange)
            continue
        if tokens is not None:
            yield tokens.row()
            tokens = None
        yield _row(number, exchange, failures)
    if tokens is not None:
        yield tokens.row()


def _marked(failures: Sequence[results_pb2.Failure]) -> dict[tuple[str, int], tuple[tuple[int, str], ...]]:
    """Failures by the session and the number of the event that shows them."""
    found: dict[tuple[str, int], tuple[tuple[int, str], ...]] = {}
    for number, failure in enumerate(failures, 1):
        if failure.sequence:
            key = failure.session, failure.sequence
            words = f"[{visible(failure.requirement, 40)}] {visible(failure.message, 200)}"
            found[key] = (*found.get(key, ()), (number, words))
    return found


def _joined(tokens: _Tokens | None, number: int, exchange: results_pb2.Exchange) -> _Tokens:
    event = exchange.server
    if tokens is None:
        tokens = _Tokens(
            exchange.session, number, number, event.sequence, event.sequence, event.token_index, event.time_ms
        )
    tokens.last, tokens.last_event = number, event.sequence
    tokens.spans += tokens_label(event.tokens)
    return tokens


def _row(number: int, exchange: results_pb2.Exchange, failures: tuple[tuple[int, str], ...]) -> Row:
    spans = tuple(label(exchange))
    match exchange.WhichOneof("message"):
        case "client":
            sent = exchange.client.client_seq
            return Row("client", exchange.session, spans, f"client {sent}" if sent else "", first=number, last=number)
        case "server":
            event = exchange.server
            if event.WhichOneof("event") == "tokens":
                spans = (Span("tokens", "kind"), Span(" "), *tokens_label(event.tokens))
            numbers, clock = f"#{event.sequence} @{event.token_index}", f"{event.time_ms} ms"
            return Row("server", exchange.session, spans, numbers, clock, failures, number, number)
        case _:
            return Row("note", exchange.session, spans, first=number, last=number)


def _shortened(all_rows: list[Row]) -> list[Row]:
    """At most so many rows, with gaps that say how much is left out."""
    if len(all_rows) <= MOST_ROWS:
        return all_rows
    kept = set(range(MOST_ROWS // 3)) | set(range(len(all_rows) - MOST_ROWS // 3, len(all_rows)))
    for at, row in enumerate(all_rows):
        if row.failures and len(kept) < MOST_ROWS:
            kept |= set(range(max(0, at - _AROUND), min(len(all_rows), at + _AROUND + 1)))
    shown: list[Row] = []
    for at, row in enumerate(all_rows):
        if at in kept:
            shown.append(row)
        elif shown and shown[-1].shape == "gap":
            shown[-1] = replace(shown[-1], last=row.last)
        else:
            shown.append(Row("gap", "", (), first=row.first, last=row.last))
    return [_told(row) if row.shape == "gap" else row for row in shown]


def _told(row: Row) -> Row:
    return replace(row, spans=(Span(f"… {row.last - row.first + 1:,} messages are not drawn"),))
