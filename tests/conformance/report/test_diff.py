"""Two runs are compared case by case, and what held and does not hold any more is a regression."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.conformance.report import records
from tests.conformance.report.records import ERROR, FAIL, PASS, SKIP, STALE, WARN, XFAIL

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.report import Run, compare


def made(verdicts: Mapping[str, results_pb2.Verdict.ValueType], *, end: bool = True) -> Run:
    results = tuple(records.result(f"a/{name}", verdict) for name, verdict in verdicts.items())
    return Run(records.header(), results, records.footer(results) if end else None)


def test_every_kind_of_change_has_its_place() -> None:
    before = made({"breaks": PASS, "heals": FAIL, "stays": WARN, "goes": PASS, "hides": PASS, "same": PASS})
    after = made({"breaks": FAIL, "heals": PASS, "stays": XFAIL, "comes": FAIL, "hides": SKIP, "same": PASS})
    found = compare(before, after)
    assert str(found).splitlines() == [
        "newly failing: 1",
        "  a/breaks  PASS -> FAIL",
        "no longer run: 1",
        "  a/hides  PASS -> SKIP",
        "newly passing: 1",
        "  a/heals  FAIL -> PASS",
        "still failing: 1",
        "  a/stays  WARN -> XFAIL",
        "only in the first run: 1",
        "  a/goes  PASS -> absent",
        "only in the second run: 1",
        "  a/comes  absent -> FAIL",
        "regressions",
    ]


@pytest.mark.parametrize(
    ("before", "after", "regressions"),
    [
        (PASS, PASS, False),
        (PASS, FAIL, True),
        (PASS, WARN, True),
        (PASS, ERROR, True),
        (PASS, XFAIL, True),
        (PASS, STALE, False),
        (PASS, SKIP, True),
        (SKIP, FAIL, True),
        (SKIP, PASS, False),
        (FAIL, SKIP, False),
        (FAIL, ERROR, False),
        (XFAIL, STALE, False),
    ],
)
def test_a_regression_is_what_held_and_is_not_shown_to_hold(before: int, after: int, regressions: bool) -> None:
    first = made({"case": results_pb2.Verdict.ValueType(before)})
    second = made({"case": results_pb2.Verdict.ValueType(after)})
    assert compare(first, second).regressions is regressions


def test_equal_runs_have_no_difference() -> None:
    run = made({"a": PASS, "b": SKIP})
    assert str(compare(run, run)) == "no regressions"


def test_a_run_that_was_broken_off_is_named_first() -> None:
    told = str(compare(made({"a": PASS}), made({}, end=False))).splitlines()
    assert told[0] == "INTERRUPTED: the second run was broken off; cases that it lacks say nothing"
