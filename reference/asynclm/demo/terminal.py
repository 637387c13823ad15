"""Draws a timeline in a terminal: the model's lane, one lane for each call, and where results came in.

The shapes alone tell everything; colours only help.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.text import Text

from asynclm.demo.axis import axis_step, axis_ticks, duration, tick_label
from asynclm.demo.lanes import Activity, CallSpan, Timeline
from asynclm.demo.transcript import Landed, Landing
from asynclm.session.state import Delivery, Result

_LABEL_WIDTH = 24
"""Cells for a lane's name."""
_NARROW_LABEL_WIDTH = 14
_NARROW = 90
"""Below this many cells, names get less of them."""

_ACTIVITY = {
    Activity.PREFILL: ("▒", "blue"),
    Activity.TEXT: ("█", "blue"),
    Activity.BLOCK: ("▓", "cyan"),
    Activity.TRAPPED: ("┄", "bright_black"),
    Activity.DRAINING: ("┄", "bright_black"),
    Activity.IDLE: (" ", ""),
}
_RESULT_STYLE = {Result.OK: "green", Result.CANCELLED: "yellow", Result.ERROR: "red", Result.TIMED_OUT: "red"}


def render_terminal(timeline: Timeline, width: int, *, span_ms: int | None = None) -> RenderableType:
    """Draws one session.

    Args:
        timeline: the session.
        width: cells, the lanes' names included.
        span_ms: end of the time axis, to compare several sessions on one; by default the session's own end.
    """
    span = max(span_ms or timeline.duration_ms, 1)
    labels = _NARROW_LABEL_WIDTH if width < _NARROW else _LABEL_WIDTH
    cells = max(width - labels, 10)
    rows: list[RenderableType] = [_heading(timeline), _row(labels, "", _axis(span, cells))]
    rows.append(_row(labels, "model", _model_lane(timeline, span, cells)))
    for call in timeline.calls:
        lane = call_lane(call, 0, span, cells, until_ms=timeline.duration_ms)
        rows.append(_row(labels, call.label, lane, call.function))
    spoken = [landed for landed in timeline.interrupts if not landed.from_call]
    for source in dict.fromkeys(landed.source for landed in spoken):
        marks = [landed for landed in spoken if landed.source == source]
        rows.append(_row(labels, source, _mark_lane(marks, span, cells)))
    return Group(*rows)


def legend() -> RenderableType:
    """What the shapes mean."""
    parts = [
        (_ACTIVITY[Activity.PREFILL], "reading the prompt"),
        (_ACTIVITY[Activity.TEXT], "text"),
        (_ACTIVITY[Activity.BLOCK], "writing a call or trap"),
        (_ACTIVITY[Activity.TRAPPED], "standing still for results"),
        (("╌", "bright_black"), "call held"),
        (("━", "yellow"), "call running"),
        (("─", "green"), "result waiting for a safe point"),
        (("◆", "green"), "result in the context"),
        (("▲", "magenta"), "a word from outside"),
    ]
    return Columns([Text.assemble((shape, style), " ", (meaning, "dim")) for (shape, style), meaning in parts])


def call_lane(call: CallSpan, start_ms: float, end_ms: float, cells: int, *, until_ms: float | None = None) -> Text:
    """One call between two times: held, running until its result, waiting, committed.

    Args:
        call: the call.
        start_ms, end_ms: where the lane starts and ends.
        cells: its width.
        until_ms: where a call ends that has no result yet; the lane's end by default.
    """
    scale = cells / max(end_ms - start_ms, 1)
    until = end_ms if until_ms is None else until_ms

    def cell(ms: float) -> int:
        return min(cells, max(0, int((ms - start_ms) * scale)))

    style = _RESULT_STYLE.get(call.result, "yellow") if call.result is not None else "yellow"
    dispatched = until if call.dispatched_ms is None else call.dispatched_ms
    resolved = until if call.resolved_ms is None else call.resolved_ms
    if call.delivery is Delivery.NOT_AWAITED and call.resolved_ms is None:
        resolved = dispatched
    committed = call.committed_ms
    held_until = min(dispatched, resolved)
    waited_until = resolved if committed is None and call.delivery is not None else (committed or until)
    lane = [(" ", "")] * cells
    lane[cell(call.emitted_ms) : cell(held_until)] = [("╌", "bright_black")] * (
        cell(held_until) - cell(call.emitted_ms)
    )
    if call.resolved_ms is not None and waited_until > resolved:
        length = cell(waited_until) - cell(resolved)
        lane[cell(resolved) : cell(resolved) + length] = [("─", style)] * length
    if call.dispatched_ms is not None:
        length = max(cell(resolved) - cell(dispatched), 1)
        lane[cell(dispatched) : cell(dispatched) + length] = [("━", style)] * length
    end = _ending(call)
    if end is not None:
        at = min(cell(committed if committed is not None else resolved), cells - 1)
        lane[at] = (end, style)
    return _assemble(lane[:cells])


def _ending(call: CallSpan) -> str | None:
    if call.committed_ms is not None:
        return "◆"
    return {Delivery.UNDELIVERED: "╳", Delivery.NOT_AWAITED: "◇"}.get(call.delivery) if call.delivery else None


def _model_lane(timeline: Timeline, span: int, cells: int) -> Text:
    lane = [(" ", "")] * cells
    for index in range(cells):
        start, end = span * index / cells, span * (index + 1) / cells
        busy = _most(timeline, start, end)
        if busy is not None:
            lane[index] = _ACTIVITY[busy]
    return _assemble(lane)


def _most(timeline: Timeline, start: float, end: float) -> Activity | None:
    """What the model did for most of an interval."""
    spent: dict[Activity, float] = {}
    for segment in timeline.segments:
        shared = min(end, segment.end_ms) - max(start, segment.start_ms)
        if shared > 0:
            spent[segment.activity] = spent.get(segment.activity, 0) + shared
    return max(spent, key=lambda activity: spent[activity], default=None)


def _mark_lane(marks: Sequence[Landed], span: int, cells: int) -> Text:
    lane = [(" ", "")] * cells
    for landed in marks:
        style = "bold magenta" if landed.landing is Landing.TEXT else "magenta"
        lane[min(int(landed.time_ms * cells / span), cells - 1)] = ("▲", style)
    return _assemble(lane)


def _heading(timeline: Timeline) -> Text:
    facts = [f"{duration(timeline.latency_ms)} from first to last token", f"waited {duration(timeline.waiting_ms)}"]
    if timeline.calls:
        facts.append(f"overlap {duration(timeline.overlap_ms)}")
    return Text.assemble((timeline.title, "bold"), "  ", (" · ".join(facts), "dim"))


def _axis(span: int, cells: int) -> Text:
    count = max(cells // 12, 1)
    step = axis_step(span, count)
    line = [" "] * cells
    for tick in axis_ticks(span, count):
        label = tick_label(tick, step)
        at = int(tick * cells / span)
        if at + len(label) <= cells:
            line[at : at + len(label)] = label
    return Text("".join(line), "dim", no_wrap=True)


def _row(width: int, name: str, lane: Text, function: str = "") -> Text:
    label = Text.assemble((name, "bold"), (f" {function}" if function else "", "dim"), no_wrap=True)
    label.truncate(width - 1, overflow="ellipsis", pad=True)
    return Text.assemble(label, " ", lane, no_wrap=True)


def _assemble(lane: Sequence[tuple[str, str]]) -> Text:
    return Text.assemble(*_runs(lane), no_wrap=True)


def _runs(lane: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    run = ""
    style = ""
    for shape, shape_style in lane:
        if run and shape_style != style:
            yield run, style
            run = ""
        run, style = run + shape, shape_style
    if run:
        yield run, style
