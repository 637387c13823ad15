"""Draws timelines as SVG: the model's lane above, one lane for each call below, results going back up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asynclm.demo.axis import axis_step, axis_ticks, duration, tick_label
from asynclm.demo.lanes import Activity, CallSpan, Segment, Timeline
from asynclm.demo.markup import Markup, element, join
from asynclm.demo.palette import drawing_css
from asynclm.demo.transcript import Landed, Landing
from asynclm.session.state import Delivery, Result

WIDTH = 1120
_LEFT = 18
_LABELS = 190
_RIGHT = 40
_TICKS = 8
_WORD_HEIGHT = 20
_MODEL_HEIGHT = 20
_LANE = 24
_BAR = 10
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"
_CHAR = 6.2
"""About the width of a character of the small labels, in pixels."""


@dataclass(frozen=True, slots=True)
class _Scale:
    span_ms: int
    width: int = WIDTH

    def x(self, ms: float) -> float:
        return _LABELS + (self.width - _LABELS - _RIGHT) * ms / self.span_ms


def render_svg(runs: Sequence[Timeline]) -> str:
    """A picture that stands alone: every run on one time axis, with a heading each; for README files."""
    span = max((run.duration_ms for run in runs), default=1) or 1
    y = 18.0
    parts: list[Markup] = []
    for number, run in enumerate(runs):
        parts.append(element("text", run.title, x=_LEFT, y=y + 12, class_="head"))
        parts.append(element("text", facts(run), x=_LABELS, y=y + 12, class_="fact"))
        drawing, height = _drawing(run, span, f"w{number}")
        parts.append(element("g", drawing, transform=f"translate(0 {y + 26:.0f})"))
        y += 26 + height + 26
    parts.append(element("g", *_legend("legend"), transform=f"translate(0 {y:.0f})"))
    height = y + 34
    title = "Timelines of " + ", ".join(run.title for run in runs)
    return element(
        "svg",
        element("title", title),
        element("desc", " ".join(description(run) for run in runs)),
        element("style", Markup(f"svg{{{_FONT}}}{drawing_css()}")),
        element("rect", width="100%", height="100%", rx=10, class_="ground"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height:.0f}",
        width=WIDTH,
        height=f"{height:.0f}",
        role="img",
    )


def run_svg(run: Timeline, span_ms: int, ident: str) -> Markup:
    """One run for a page that has the classes of `palette.page_css`; `ident` is unique on the page."""
    drawing, height = _drawing(run, span_ms, f"{ident}-wait")
    return element(
        "svg",
        element("title", f"Timeline of {run.title}", id=f"{ident}-title"),
        element("desc", description(run), id=f"{ident}-desc"),
        drawing,
        viewBox=f"{_LEFT} 0 {WIDTH - _LEFT} {height:.0f}",
        role="img",
        aria_labelledby=f"{ident}-title {ident}-desc",
    )


def legend_svg(ident: str) -> Markup:
    """What the shapes mean, for a page; `ident` is unique on it."""
    return element("svg", *_legend(ident), viewBox=f"{_LEFT} 0 {WIDTH - _LEFT} 24", aria_hidden="true")


def facts(run: Timeline) -> str:
    """A run in one line."""
    said = [f"{duration(run.latency_ms)} from first to last token", f"stood still {duration(run.waiting_ms)}"]
    if run.calls:
        said.append(f"decoded {duration(run.overlap_ms)} while calls ran")
    return " · ".join(said)


def description(run: Timeline) -> str:
    """A run in words, for those who do not see the drawing."""
    sentences = [f"{run.title}: {facts(run)}."]
    for call in run.calls:
        said = (
            f"Call {call.label} to {call.function or 'an unreadable function'}: written at {duration(call.emitted_ms)}"
        )
        said += ", never started" if call.dispatched_ms is None else f", started at {duration(call.dispatched_ms)}"
        if call.resolved_ms is not None and call.result is not None:
            said += f", resolved {call.result} at {duration(call.resolved_ms)}"
        if call.committed_ms is not None:
            said += f", in the context at {duration(call.committed_ms)}"
        sentences.append(said + ".")
    for landed in run.interrupts:
        if not landed.from_call:
            sentences.append(f"{landed.source} came into the context at {duration(landed.time_ms)}.")
    return " ".join(sentences)


def _drawing(run: Timeline, span_ms: int, pattern: str) -> tuple[Markup, float]:
    """The lanes of one run and their height in pixels."""
    scale = _Scale(max(span_ms, 1))
    words = [landed for landed in run.interrupts if not landed.from_call]
    model_y = 20.0 + (_WORD_HEIGHT if words else 0)
    calls_y = model_y + _MODEL_HEIGHT + 14
    height = calls_y + _LANE * len(run.calls)
    parts = [_pattern(pattern), *_axis(scale, height), *_words(words, scale, model_y)]
    parts.append(element("text", "model", x=_LEFT, y=model_y + 14, class_="name"))
    for number, call in enumerate(run.calls):
        parts += _links(call, scale, model_y + _MODEL_HEIGHT, calls_y + _LANE * number)
    for segment in run.segments:
        parts += _segment(segment, scale, model_y, pattern)
    parts += _notches(run, scale, model_y)
    for number, call in enumerate(run.calls):
        parts += _call(call, scale, calls_y + _LANE * number, run.duration_ms)
    return join(parts), height


def _pattern(ident: str) -> Markup:
    line = element("path", d="M0 6L6 0", class_="wait")
    shape = element("pattern", line, id=ident, width=6, height=6, patternUnits="userSpaceOnUse")
    return element("defs", shape)


def _axis(scale: _Scale, height: float) -> Iterator[Markup]:
    step = axis_step(scale.span_ms, _TICKS)
    for tick in axis_ticks(scale.span_ms, _TICKS):
        x = scale.x(tick)
        yield element("line", x1=x, x2=x, y1=16, y2=height, class_="grid")
        yield element("text", tick_label(tick, step), x=x, y=10, text_anchor="middle", class_="axis")


def _words(words: Sequence[Landed], scale: _Scale, model_y: float) -> Iterator[Markup]:
    """Flags above the model's lane: what a person or another agent said, where it landed."""
    free = 0.0
    for landed in words:
        x = scale.x(landed.time_ms)
        full = f"{landed.head}: {' '.join(landed.payload.split())}"
        room = int((WIDTH - x - 12) / _CHAR)
        said = full if len(full) <= min(44, room) else full[: max(min(44, room) - 1, 1)] + "…"
        mark = element("path", d=f"M{x - 5:.1f} {model_y - 7:.1f}h10l-5 7z", class_="word")
        pole = element("line", x1=x, x2=x, y1=model_y - _WORD_HEIGHT + 2, y2=model_y - 6, class_="wordline")
        parts = [element("title", f"{full}, in the context at {duration(landed.time_ms)}"), pole, mark]
        if x >= free:
            parts.append(element("text", said, x=x + 7, y=model_y - 9, class_="quote"))
            free = x + 14 + _CHAR * len(said)
        yield element("g", *parts)


def _segment(segment: Segment, scale: _Scale, y: float, pattern: str) -> Iterator[Markup]:
    x, width = scale.x(segment.start_ms), scale.x(segment.end_ms) - scale.x(segment.start_ms)
    names = {Activity.TEXT: "decoding text", Activity.BLOCK: "writing a call or a trap", Activity.PREFILL: "prefill"}
    what = names.get(segment.activity, segment.activity.value)
    span = f"{duration(segment.start_ms)} to {duration(segment.end_ms)}"
    title = element("title", f"{what}{f' ({segment.label})' if segment.label else ''}, {span}")
    if segment.activity.decoding:
        class_ = segment.activity.value
        yield element("rect", title, x=x, y=y, width=max(width, 0.8), height=_MODEL_HEIGHT, class_=class_)
    elif segment.activity.waiting:
        middle = y + 3
        box = {"x": x, "y": middle, "width": max(width, 1.0), "height": _MODEL_HEIGHT - 6}
        yield element("rect", title, **box, fill=f"url(#{pattern})", class_="waitbox")
    else:
        line = y + _MODEL_HEIGHT / 2
        yield element("line", title, x1=x, x2=x + width, y1=line, y2=line, class_="held")


def _notches(run: Timeline, scale: _Scale, y: float) -> Iterator[Markup]:
    """Where interrupts stand in the model's stream."""
    for landed in run.interrupts:
        if landed.landing in (Landing.TEXT, Landing.BLOCK):
            x = scale.x(landed.time_ms)
            yield element("line", x1=x, x2=x, y1=y, y2=y + _MODEL_HEIGHT, class_="notch")


def _links(call: CallSpan, scale: _Scale, top: float, y: float) -> Iterator[Markup]:
    """From the model's lane down to the call, and back up to where its result came in."""
    emitted = scale.x(call.emitted_ms)
    yield element("line", x1=emitted, x2=emitted, y1=top, y2=y + _LANE / 2, class_="link")
    if call.committed_ms is not None:
        x = scale.x(call.committed_ms)
        yield element("line", x1=x, x2=x, y1=top + 6, y2=y + _LANE / 2, class_=f"{_tone(call)}line")
        yield element("path", d=f"M{x - 4.5:.1f} {top + 8:.1f}h9l-4.5 -8z", class_=_tone(call))


def _call(call: CallSpan, scale: _Scale, y: float, until_ms: int) -> Iterator[Markup]:
    middle = y + _LANE / 2
    label = element("tspan", call.label, class_="name")
    function = element("tspan", call.function, class_="fn", dx=7)
    yield element("text", label, function, x=_LEFT, y=middle + 4)
    end = _end_ms(call, until_ms)
    parts = [element("title", _call_title(call))]
    started = call.dispatched_ms if call.dispatched_ms is not None else (call.resolved_ms or end)
    if started > call.emitted_ms:
        parts.append(_line(scale, call.emitted_ms, started, middle, "held"))
    if call.dispatched_ms is not None:
        resolved = end if call.resolved_ms is None else call.resolved_ms
        x = scale.x(call.dispatched_ms)
        width = max(scale.x(resolved) - x, 1.5)
        box = {"x": x, "y": middle - _BAR / 2, "width": width, "height": _BAR}
        parts.append(element("rect", **box, rx=2, class_="run"))
    if call.resolved_ms is not None and end > call.resolved_ms:
        parts.append(_line(scale, call.resolved_ms, end, middle, "queue"))
    parts += _ending(call, scale.x(end), middle)
    yield element("g", *parts)


def _line(scale: _Scale, start: float, end: float, y: float, class_: str) -> Markup:
    return element("line", x1=scale.x(start), x2=scale.x(end), y1=y, y2=y, class_=class_)


def _ending(call: CallSpan, x: float, y: float) -> Iterator[Markup]:
    """A dot where a result is in the context, a cross where it never came there, a ring where nobody waits for it."""
    if call.committed_ms is not None:
        yield element("circle", cx=x, cy=y, r=4.5, class_=_tone(call))
    elif call.delivery is Delivery.UNDELIVERED:
        yield element("path", d=f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8", class_=f"{_tone(call)}line")
    elif call.delivery is Delivery.NOT_AWAITED:
        yield element("circle", cx=x, cy=y, r=4, class_="ring")
    said = duration(call.run_ms) if call.run_ms is not None else ""
    if call.delivery is Delivery.NOT_AWAITED:
        said = "not awaited"
    if call.result not in (None, Result.OK, Result.NONE):
        said = f"{said} {str(call.result).replace('_', ' ')}".strip()
    if said:
        after = x + 9 + _CHAR * len(said) < WIDTH
        at, anchor = (x + 9, "start") if after else (x - 9, "end")
        height = y + 4 if after else y - 8
        yield element("text", said, x=at, y=height, text_anchor=anchor, class_="axis halo")


def _end_ms(call: CallSpan, until_ms: int) -> int:
    if call.committed_ms is not None:
        return call.committed_ms
    if call.resolved_ms is not None:
        return call.resolved_ms
    if call.delivery is Delivery.NOT_AWAITED and call.dispatched_ms is not None:
        return call.dispatched_ms
    return until_ms


def _call_title(call: CallSpan) -> str:
    moments = (
        ("written", call.emitted_ms),
        ("started", call.dispatched_ms),
        (f"resolved {call.result}" if call.result else "resolved", call.resolved_ms),
        ("in the context", call.committed_ms),
    )
    said = [f"{name} at {duration(ms)}" for name, ms in moments if ms is not None]
    return f"{call.label} {call.raw}: {', '.join(said)}"


def _tone(call: CallSpan) -> str:
    if call.result is Result.OK:
        return "ok"
    return "none" if call.result in (None, Result.NONE, Result.CANCELLED) else "bad"


def _legend(ident: str) -> Iterator[Markup]:
    entries = (
        (element("rect", x=0, y=3, width=16, height=12, class_="prefill"), "prompt", 16),
        (element("rect", x=0, y=3, width=16, height=12, class_="text"), "text", 16),
        (element("rect", x=0, y=3, width=16, height=12, class_="block"), "writing a call or trap", 16),
        (_hatched(ident), "standing still for results", 16),
        (element("line", x1=0, x2=16, y1=9, y2=9, class_="held"), "call held", 16),
        (element("rect", x=0, y=4, width=16, height=10, rx=2, class_="run"), "call running", 16),
        (element("line", x1=0, x2=16, y1=9, y2=9, class_="queue"), "result queued", 16),
        (element("circle", cx=5, cy=9, r=4.5, class_="ok"), "result in the context", 10),
        (element("path", d="M0 5h10l-5 7z", class_="word"), "a word from outside", 10),
    )
    x = float(_LEFT)
    for shape, meaning, width in entries:
        label = element("text", meaning, x=width + 6, y=13, class_="axis")
        yield element("g", shape, label, transform=f"translate({x:.0f} 0)")
        x += width + 6 + 5.6 * len(meaning) + 14


def _hatched(ident: str) -> Markup:
    box = element("rect", x=0, y=3, width=16, height=12, fill=f"url(#{ident})", class_="waitbox")
    return join((_pattern(ident), box))
