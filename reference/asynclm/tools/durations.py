"""What tools took lately, for those that do not declare it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from asynclm.cml.toolspec import ToolSpec

WEIGHT = 0.25
"""The share of the latest call in the average: about the last ten count."""


class UsualDurations:
    """Moving averages by tool. May be read and fed from any threads; an average fed by two at once may miss one."""

    def __init__(self) -> None:
        self._averages: dict[str, float] = {}
        self._filled: dict[str, ToolSpec] = {}

    def observe(self, tool: str, ms: float) -> None:
        """A call of this tool took so long."""
        average = self._averages.get(tool, ms)
        self._averages[tool] = average + WEIGHT * (ms - average)

    def usual_ms(self, tool: str) -> int | None:
        """What the tool usually takes, at least 1, to two figures; None if it has not been called yet."""
        average = self._averages.get(tool)
        return None if average is None else max(1, int(float(f"{average:.2g}")))

    def fill_in(self, specs: Iterable[ToolSpec]) -> list[ToolSpec]:
        """The same specs, with what is known of those that declare no duration."""
        return [self._fill_in(spec) for spec in specs]

    def _fill_in(self, spec: ToolSpec) -> ToolSpec:
        usual = self.usual_ms(spec.name)
        if spec.expected_duration_ms is not None or usual is None:
            return spec
        filled = self._filled.get(spec.name)
        if filled is None or filled.expected_duration_ms != usual:  # making a spec checks its schema, which takes long
            filled = self._filled[spec.name] = replace(spec, expected_duration_ms=usual)
        return filled
