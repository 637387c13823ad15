"""The moving part of the live view: one bar for each call, the state of the session, the line under edit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from asynclm.cli.line_editor import LineEditor
from asynclm.cli.styles import FAULT, NOTICE, QUIET, RESULT
from asynclm.demo.axis import duration
from asynclm.demo.lanes import CallSpan
from asynclm.demo.safe import one_line
from asynclm.demo.terminal import call_lane
from asynclm.session.state import Delivery, Result

_LABEL_CELLS = 24
_STATUS_CELLS = 18
_LEAST_SPAN_MS = 1000
_STYLES = {Result.OK: RESULT, Result.CANCELLED: NOTICE, Result.ERROR: FAULT, Result.TIMED_OUT: FAULT}


def call_bars(calls: Sequence[CallSpan], now_ms: float, width: int, rows: int) -> list[Text]:
    """The latest calls on one time axis: from when the first of them was written until now, or the last one's end."""
    if not calls or rows <= 0:
        return []
    shown = _latest(calls, rows)
    start = min(call.emitted_ms for call in shown)
    going = any(_open(call) for call in shown)
    end = now_ms if going else max(_end(call) for call in shown)
    cells = max(width - _LABEL_CELLS - _STATUS_CELLS - 1, 10)
    lines = []
    for call in shown:
        label = Text.assemble((one_line(call.label, 20), "bold"), f" {one_line(call.function, 40)}", no_wrap=True)
        label.truncate(_LABEL_CELLS - 1, overflow="ellipsis", pad=True)
        lane = call_lane(call, start, max(end, start + _LEAST_SPAN_MS), cells)
        lines.append(Text.assemble(label, " ", lane, " ", _status(call, now_ms), no_wrap=True, overflow="ellipsis"))
    hidden = len(calls) - len(shown)
    if hidden:
        lines.insert(0, Text(f"{hidden} earlier calls", QUIET))
    return lines


def edit_line(editor: LineEditor, width: int, hint: str) -> Text:
    """The line under edit with its cursor; a hint while it is empty."""
    room = max(width - 4, 8)
    text = one_line(editor.text)
    # The text that is shown ends at the cursor if it does not fit; one cell is the cursor's own.
    before = _fitting(text[: editor.cursor], room - 1)
    after = text[editor.cursor :]
    cursor = after[:1] or " "
    line = Text.assemble(("› ", "bold magenta"), before, (cursor, "reverse"), after[1:], no_wrap=True)
    if not text:
        line.append(f" {hint}", QUIET)
    line.truncate(width - 1, overflow="ellipsis")
    return line


def _fitting(text: str, cells: int) -> str:
    """The end of a text, as much of it as fits."""
    start = max(0, len(text) - cells)
    while Text(text[start:]).cell_len > cells:
        start += 1
    return text[start:]


def _latest(calls: Sequence[CallSpan], rows: int) -> list[CallSpan]:
    """The calls to show: those that are not settled before those that are, later ones before earlier ones."""
    ranked = sorted(calls, key=lambda call: (call.delivery is None, call.index), reverse=True)[:rows]
    return sorted(ranked, key=lambda call: call.index)


def _open(call: CallSpan) -> bool:
    return call.delivery is None and call.committed_ms is None


def _end(call: CallSpan) -> int:
    moments = (call.committed_ms, call.resolved_ms, call.dispatched_ms, call.emitted_ms)
    return max(ms for ms in moments if ms is not None)


def _status(call: CallSpan, now_ms: float) -> Text:
    if call.dispatched_ms is None and call.resolved_ms is None:
        return Text("held" if _open(call) else "never started", QUIET)
    if call.resolved_ms is None:
        if call.delivery is Delivery.NOT_AWAITED:
            return Text("not awaited", QUIET)
        started = call.dispatched_ms if call.dispatched_ms is not None else call.emitted_ms
        return Text(f"running {duration(max(now_ms - started, 0))}" if _open(call) else "left running", "yellow")
    ran = f"{duration(call.run_ms)}" if call.run_ms is not None else ""
    result = "" if call.result is Result.OK else str(call.result or "").replace("_", " ")
    queued = "queued" if _open(call) else ""
    return Text(" ".join(filter(None, (ran, result, queued))), _STYLES.get(call.result or Result.NONE, QUIET))
