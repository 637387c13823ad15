"""The ledger and the figures of a finished session, as tables and as lines."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from asynclm.cli.styles import FAULT, NOTICE, QUIET, RESULT
from asynclm.demo.axis import duration
from asynclm.demo.safe import one_line
from asynclm.session.effects import CallRow, Finished, HostedUsage, InterruptRow
from asynclm.session.state import Delivery, FinishReason, Result

ENDED_WELL = frozenset(
    {FinishReason.STOP, FinishReason.STOP_STRING, FinishReason.LENGTH, FinishReason.FINISHED_BY_CLIENT}
)
"""Reasons of a session that ended by itself, by its limit of tokens, or because its person was done."""

_PAYLOAD_CHARS = 200
_RESULT_STYLE = {Result.OK: RESULT, Result.CANCELLED: NOTICE, Result.NONE: QUIET}


def ledger(finished: Finished) -> RenderableType:
    """The ledger as tables: a row for each call, and one for each interrupt that never came into the context."""
    parts: list[RenderableType] = []
    if finished.calls:
        parts.append(_calls(finished))
    lost = [row for row in finished.interrupts if row.delivery is Delivery.UNDELIVERED]
    if lost:
        parts.append(_undelivered(lost))
    parts.append(Text(summary(finished), "" if finished.reason in ENDED_WELL else FAULT))
    if finished.hosted is not None:
        parts.append(Text(f"hosted: {bill(finished.hosted)}"))
    return Group(*parts)


def summary(finished: Finished) -> str:
    """How the session ended and what it used, in one line."""
    usage = finished.usage
    said = finished.reason.value.replace("_", " ")
    if finished.message:
        said += f" ({one_line(finished.message, 300)})"
    cached = f" ({usage.cached_tokens} of them cached)" if usage.cached_tokens else ""
    return (
        f"{said} · prompt {usage.prompt_tokens} tokens{cached} · sampled {usage.sampled_tokens} · "
        f"injected {usage.injected_tokens}"
    )


def bill(hosted: HostedUsage) -> str:
    """What a hosted model charges for, in one line."""
    times = ", ".join(f"{ms} ms" for ms in hosted.first_token_ms[:8]) or "none"
    more = " …" if len(hosted.first_token_ms) > 8 else ""
    estimated = f" ({hosted.estimated_requests} estimated)" if hosted.estimated_requests else ""
    return (
        f"requests {hosted.requests}{estimated} · prompt {hosted.prompt_tokens} tokens "
        f"({hosted.cached_tokens} of them cached) · completion {hosted.completion_tokens} "
        f"({hosted.discarded_tokens} of them discarded) · "
        f"first tokens after {times}{more}"
    )


def ledger_lines(finished: Finished) -> Iterator[str]:
    """The ledger as plain lines, one for each row."""
    for row in finished.calls:
        said = f"call {_name(row)} {row.function} {row.result} {_delivery(row)}"
        yield f"{said} {_handed_back(row)}".rstrip()
    for interrupt in finished.interrupts:
        said = f"interrupt {interrupt.number} {interrupt.source} {interrupt.status} {_delivery(interrupt)}"
        if interrupt.payload:
            said += f" {one_line(interrupt.payload, _PAYLOAD_CHARS)}"
        yield said


def _calls(finished: Finished) -> Table:
    table = Table(
        title="ledger", title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for heading in ("call", "function", "result", "delivery"):
        table.add_column(heading, header_style=QUIET)
    for heading in ("started", "ran", "delivered"):
        table.add_column(heading, justify="right", header_style=QUIET)
    table.add_column("handed back", header_style=QUIET, overflow="fold")
    for row in finished.calls:
        times = row.timings
        ran = None
        if times.dispatched_ms is not None and times.resolved_ms is not None:
            ran = times.resolved_ms - times.dispatched_ms
        delivered = times.settled_ms if row.delivery is Delivery.DELIVERED else None
        table.add_row(
            Text(_name(row), "bold"),
            Text(one_line(row.function, 60)),
            Text(row.result.value.replace("_", " "), _RESULT_STYLE.get(row.result, FAULT)),
            Text(_delivery(row)),
            *(Text("–" if ms is None else duration(ms)) for ms in (times.dispatched_ms, ran, delivered)),
            Text(_handed_back(row)),
        )
    return table


def _undelivered(rows: list[InterruptRow]) -> Table:
    table = Table(
        title="handed back", title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for heading in ("interrupt", "status", "why", "payload"):
        table.add_column(heading, header_style=QUIET, overflow="fold")
    for row in rows:
        why = row.reason.value.replace("_", " ") if row.reason else ""
        table.add_row(Text(row.source, "bold"), row.status.value, why, Text(one_line(row.payload, _PAYLOAD_CHARS)))
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.pad_edge = False
    return table


def _name(row: CallRow) -> str:
    return row.id if row.id is not None else f"#{row.index}"


def _handed_back(row: CallRow) -> str:
    """A result that was lost to the model; not what the runtime itself says of a call that it cancelled."""
    return "" if row.result is Result.CANCELLED else one_line(row.payload, _PAYLOAD_CHARS)


def _delivery(row: CallRow | InterruptRow) -> str:
    if row.delivery is Delivery.DELIVERED:
        return f"delivered at token {row.token_index}"
    said = row.delivery.value.replace("_", " ")
    return f"{said} ({row.reason.value.replace('_', ' ')})" if row.reason else said
