"""Time axes: round steps and how times are written, the same in every drawing."""

from __future__ import annotations

_STEPS = (1, 2, 5)


def axis_step(span_ms: float, ticks: int) -> int:
    """The smallest step of 1, 2 or 5 times a power of ten, in milliseconds, that needs at most `ticks` steps."""
    decade = 1
    while True:
        for step in _STEPS:
            if step * decade * ticks >= span_ms:
                return step * decade
        decade *= 10


def axis_ticks(span_ms: float, ticks: int) -> tuple[int, ...]:
    """The round times from 0 up to `span_ms`, about `ticks` of them."""
    step = axis_step(max(span_ms, 1), max(ticks, 1))
    return tuple(range(0, int(span_ms) + 1, step))


def tick_label(ms: int, step_ms: int) -> str:
    """A tick's label, as precise as the steps are."""
    if step_ms < 1 or (ms and step_ms < 100):
        return f"{ms} ms"
    digits = 1 if step_ms < 1000 else 0
    return f"{ms / 1000:.{digits}f} s"


def duration(ms: float) -> str:
    """A duration for people: `87 ms`, `1.42 s`, `2 min 5 s`."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 10_000:
        return f"{ms / 1000:.2f} s"
    if ms < 120_000:
        return f"{ms / 1000:.1f} s"
    return f"{int(ms // 60_000)} min {int(ms % 60_000 // 1000)} s"
