"""The view for terminals: the transcript scrolls by in colour, and below it moves what is going on."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from asynclm.cli.bars import call_bars, edit_line
from asynclm.cli.ledger import ledger
from asynclm.cli.line_editor import LineEditor
from asynclm.cli.styles import FAULT, NOTICE, QUIET, span_style
from asynclm.demo.safe import one_line, visible
from asynclm.demo.terminal import legend, render_terminal
from asynclm.demo.timeline import TimelineBuilder
from asynclm.demo.transcript import Span, SpanKind, trap_condition
from asynclm.engine.script import SCRIPT_PREFIX, WEIGHTS_SUFFIX
from asynclm.session import effects
from asynclm.session.state import State
from asynclm.wire.values import ReceivedEvent, Started

_PAYLOAD_CHARS = 600
_RATE_WINDOW_MS = 2000
_MOST_BARS = 10
_OTHER_ROWS = 7
"""Rows that the bars leave to the transcript and the lines below."""


class LiveView:
    """Shows a session on a terminal. Rows of the transcript that can no longer change go to the scrollback.

    Args:
        console: the terminal.
        editor: the line under edit, drawn at the bottom; None for none.
        title: what the session is called in its timeline.
    """

    def __init__(self, console: Console, *, editor: LineEditor | None = None, title: str = "session") -> None:
        self._console = console
        self._editor = editor
        self._builder = TimelineBuilder(title)
        self._tail = Text()
        self._done: list[Text] = []
        self._at_start = True
        self._now_ms = 0.0
        self._offset_ms = 0.0
        self._manual_clock = False
        self._state = "connecting"
        self._held: str | None = None
        self._sampled = 0
        self._injected = 0
        self._recent: collections.deque[tuple[float, int]] = collections.deque()
        self._finished: effects.Finished | None = None
        self._live = Live(get_renderable=self._region, console=console, auto_refresh=False, transient=True)
        self._live.start()

    def event(self, event: ReceivedEvent, at_ms: float) -> None:
        """Takes an event in; it is drawn at the next tick."""
        report = event.report
        if isinstance(report, Started):
            script = report.model.startswith(SCRIPT_PREFIX)
            self._manual_clock = script and not report.model.endswith(WEIGHTS_SUFFIX)
        # Scripts without weights run on a clock that stands still: their calls are shown by when things arrived.
        time_ms = at_ms if self._manual_clock else event.time_ms
        self._offset_ms = at_ms - time_ms
        self._now_ms = time_ms
        for span in self._builder.feed(report, int(time_ms)):
            self._append(span)
        self._count(report, at_ms)
        self._follow(report)

    def tick(self, at_ms: float) -> None:
        """Draws what is new."""
        self._now_ms = max(self._now_ms, at_ms - self._offset_ms)
        while self._recent and self._recent[0][0] < at_ms - _RATE_WINDOW_MS:
            self._recent.popleft()
        self._settle_rows()
        if self._done:
            rows, self._done = self._done, []
            self._console.print(*rows, sep="\n", soft_wrap=True)
        self._live.refresh()

    def held(self, why: str | None) -> None:
        """Says in the state line that decoding is held."""
        self._held = why

    def note(self, text: str) -> None:
        """Says something on a line of its own."""
        self._end_line()
        self._done.append(Text(one_line(text), QUIET))

    def close(self) -> None:
        """Leaves the moving part, and prints how it went: the timeline and the ledger."""
        self._end_line()
        self._editor = None
        self.tick(self._now_ms + self._offset_ms)
        self._live.stop()
        if self._finished is None:
            return
        self._console.print()
        timeline = self._builder.timeline()
        if timeline.calls:
            self._console.print(render_terminal(timeline, self._console.width))
            self._console.print(legend())
            self._console.print()
        self._console.print(ledger(self._finished))

    def _append(self, span: Span) -> None:
        text = span.text
        if self._at_start:  # a line of its own needs no space to stand apart
            text, self._at_start = text.removeprefix(" "), False
        if span.interrupt is not None:
            gap = text[: len(text) - len(text.lstrip())]
            self._tail.append(gap)
            text = one_line(text.lstrip(), _PAYLOAD_CHARS)
        elif span.kind is not SpanKind.TEXT:
            text = one_line(text)
        self._tail.append(visible(text), span_style(span))

    def _count(self, report: object, at_ms: float) -> None:
        match report:
            case effects.Tokens(ids=ids):
                self._sampled += len(ids)
                self._recent.append((at_ms, len(ids)))
            case effects.InterruptCommitted(ids=ids):
                self._injected += len(ids)

    def _follow(self, report: object) -> None:
        """Keeps the state line, and says what the transcript does not show."""
        match report:
            case Started():
                self._state = "reading the prompt"
            case effects.Tokens(in_block=None) | effects.TrapExited():
                self._state = "decoding"
            case effects.Tokens():
                self._state = "writing a call or trap"
            case effects.TrapEntered(trap=trap):
                self._state = f"waiting for {trap_condition(trap)}"
            case effects.StateChanged(state=State.DRAINING):
                self._state = "waiting for pending calls"
            case effects.StateChanged(state=State.IDLE):
                self._end_line()
                self._state = "idle"
            case effects.StateChanged(state=state):
                self._state = str(state)
            case effects.Notice(code=code, message=message):
                self._say(f"notice: {code}: {message}", NOTICE)
            case effects.InterruptRejected(source=source, reason=reason, message=message):
                self._say(f"rejected: {source}: {reason}: {message}", FAULT)
            case effects.CancelAnswered(outcome=outcome):
                self._say(f"cancel {report.id or report.index}: {outcome}", NOTICE)
            case effects.Finished():
                self._state = "finished"
                self._finished = report

    def _say(self, text: str, style: str) -> None:
        self._end_line()
        self._done.append(Text(one_line(text), style))

    def _settle_rows(self) -> None:
        """Moves rows that can no longer change out of the tail."""
        *lines, rest = self._tail.split("\n", allow_blank=True)
        for line in lines:
            self._done += self._rows(line)
        *rows, last = self._rows(rest)
        self._done += rows
        # Wrapping drops spaces at the end of a full row; more text may be about to follow them.
        dropped = len(rest.plain) - len(rest.plain.rstrip()) - (len(last.plain) - len(last.plain.rstrip()))
        self._tail = last.append(" " * max(dropped, 0))

    def _rows(self, text: Text) -> list[Text]:
        return list(text.wrap(self._console, self._console.width - 1, overflow="fold")) or [Text()]

    def _end_line(self) -> None:
        if self._tail.plain.strip():
            self._tail.append("\n")
        self._settle_rows()
        self._tail = Text()
        self._at_start = True

    def _region(self) -> RenderableType:
        """The moving part; called whenever the terminal is drawn."""
        width = self._console.width
        if self._finished is not None:
            return Group(self._tail)
        rows: list[RenderableType] = [self._tail, Text("─" * (width - 1), QUIET)]
        most = min(_MOST_BARS, self._console.height - _OTHER_ROWS)
        rows += call_bars(self._builder.calls, self._now_ms, width, most)
        rows.append(self._state_line(width))
        if self._editor is not None:
            rows.append(edit_line(self._editor, width, "type to interrupt · Ctrl-P pauses · Ctrl-C stops"))
        return Group(*rows)

    def _state_line(self, width: int) -> Text:
        state = (self._state, "bold") if self._held is None else (f"held: {self._held}", "bold yellow")
        said = [state]
        said.append((f"{self._sampled} tokens, {self._injected} injected", QUIET))
        rate = sum(count for _, count in self._recent) * 1000 / _RATE_WINDOW_MS
        if rate and self._held is None and self._state == "decoding":
            said.append((f"{rate:.0f} tokens/s", QUIET))
        pending = sum(call.id is not None and call.delivery is None for call in self._builder.calls)
        if pending:
            said.append((f"{pending} pending", QUIET))
        line = _separated(said)
        line.truncate(width - 1, overflow="ellipsis")
        return line


def _separated(parts: Iterable[tuple[str, str]]) -> Text:
    return Text(" · ", QUIET).join(Text(text, style) for text, style in parts)
