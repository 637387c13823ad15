"""What has changed from one run to another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from asynclm_conformance.names import verdict_name
from asynclm_conformance.report.clean import visible
from asynclm_conformance.report.record import Run

FAILING = frozenset({"FAIL", "WARN", "ERROR", "XFAIL"})
"""Verdicts of cases that do not do what they should, known or not."""
PASSING = frozenset({"PASS", "STALE"})
"""Verdicts of cases that do."""


@dataclass(frozen=True, slots=True)
class Change:
    """A case in two runs: its name and its verdicts; None where it is not part of the run."""

    case: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{visible(self.case, 120)}  {self.before or 'absent'} -> {self.after or 'absent'}"


@dataclass(frozen=True, slots=True)
class Diff:
    """The difference of two runs.

    Attributes:
        newly_failing: cases that fail, and did not.
        no_longer_run: cases that were run, and are skipped now.
        newly_passing: cases that pass, and failed.
        still_failing: cases that fail in both.
        only_before: cases that the second run does not have.
        only_after: cases that the first run does not have.
        interrupted: which of the two runs were broken off.
    """

    newly_failing: tuple[Change, ...]
    no_longer_run: tuple[Change, ...]
    newly_passing: tuple[Change, ...]
    still_failing: tuple[Change, ...]
    only_before: tuple[Change, ...]
    only_after: tuple[Change, ...]
    interrupted: tuple[str, ...]

    @property
    def regressions(self) -> bool:
        """Whether something that held does not hold any more, or is not looked at any more."""
        return bool(self.newly_failing or any(change.before in PASSING for change in self.no_longer_run))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for which in self.interrupted:
            yield f"INTERRUPTED: the {which} run was broken off; cases that it lacks say nothing"
        for title, changes in (
            ("newly failing", self.newly_failing),
            ("no longer run", self.no_longer_run),
            ("newly passing", self.newly_passing),
            ("still failing", self.still_failing),
            ("only in the first run", self.only_before),
            ("only in the second run", self.only_after),
        ):
            if changes:
                yield f"{title}: {len(changes)}"
                yield from (f"  {change}" for change in changes)
        yield "regressions" if self.regressions else "no regressions"


def compare(before: Run, after: Run) -> Diff:
    """Compares two runs, case by case, in the order of their names."""
    names = sorted(before.by_case.keys() | after.by_case.keys())
    changes = [Change(name, _verdict(before, name), _verdict(after, name)) for name in names]
    both = [change for change in changes if change.before is not None and change.after is not None]
    return Diff(
        newly_failing=tuple(c for c in both if c.after in FAILING and c.before not in FAILING),
        no_longer_run=tuple(c for c in both if c.before != "SKIP" and c.after == "SKIP"),
        newly_passing=tuple(c for c in both if c.before in FAILING and c.after in PASSING),
        still_failing=tuple(c for c in both if c.before in FAILING and c.after in FAILING),
        only_before=tuple(c for c in changes if c.after is None),
        only_after=tuple(c for c in changes if c.before is None),
        interrupted=tuple(which for which, run in (("first", before), ("second", after)) if run.interrupted),
    )


def _verdict(run: Run, case: str) -> str | None:
    result = run.by_case.get(case)
    return None if result is None else verdict_name(result.verdict)
