"""The JUnit report is well-formed whatever a target says, and red whatever is not verified."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import pytest
from tests.conformance.report import records

from asynclm_conformance.report import Run, write


def suites(*runs: Run) -> list[ElementTree.Element]:
    out = io.StringIO()
    write(runs, format="junit", out=out)
    return ElementTree.fromstring(out.getvalue().encode()).findall("testsuite")


def case(suite: ElementTree.Element, name: str) -> ElementTree.Element:
    file, _, name = name.partition("/")
    found = suite.find(f"testcase[@classname='{file}'][@name='{name}']")
    assert found is not None
    return found


def test_a_run_is_a_suite_with_its_numbers(run: Run) -> None:
    (suite,) = suites(run)
    assert suite.attrib == {
        "name": "engine 1.2, full",
        "tests": "10",
        "failures": "3",
        "errors": "1",
        "skipped": "3",
        "time": "3.500",
        "timestamp": "2026-01-02T03:04:05+00:00",
    }
    assert len(suite.findall("testcase")) == 10


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("alpha/passes", None),
        ("alpha/fails", "failure"),
        ("beta/warns", None),
        ("beta/skipped", "skipped"),
        ("gamma/error", "error"),
        ("gamma/known", "skipped"),
        ("gamma/stale", "failure"),
    ],
)
def test_each_verdict_has_its_outcome(run: Run, name: str, outcome: str | None) -> None:
    found = case(suites(run)[0], name)
    assert [child.tag for child in found if child.tag != "system-out"] == ([outcome] if outcome else [])


def test_a_failure_has_the_sentence_want_and_got_and_the_command(run: Run) -> None:
    found = case(suites(run)[0], "alpha/fails")
    failure = found.find("failure")
    assert failure is not None
    assert failure.attrib == {"message": "interrupt_committed.payload", "type": "FAIL"}
    for words in ("[INT-043]", "spec/draft/interrupts.md", 'want: {"v": 2}', 'got:  {"v": 1}', "--run alpha/fails"):
        assert words in (failure.text or "")
    assert 'want: {"v": 2}' in (found.findtext("system-out") or "")


def test_what_breaks_a_should_is_told_in_its_output(run: Run) -> None:
    assert (case(suites(run)[0], "beta/warns").findtext("system-out") or "").startswith("WARN Something is so")


def test_what_xml_cannot_hold_is_made_visible(run: Run) -> None:
    told = case(suites(run)[0], "beta/evil").findtext("failure") or ""
    assert records.SCRIPT_TAG in told
    assert "␛[2J␇" in told
    assert "‹U+FFFE›" in told
    assert records.FOREIGN in told


def test_a_run_that_fails_as_a_whole_is_not_green() -> None:
    """A capability that the profile asks for and no case needs is not declared; or every case was skipped."""
    results = (records.result("a/b"),)
    footer = records.footer(results, claim="not conformant to draft at full: the target does not declare KEEP")
    assert suites(Run(records.header(), results, footer))[0].get("errors") == "0"
    footer.exit_code = 1
    (suite,) = suites(Run(records.header(), results, footer))
    assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
    error = case(suite, "run/ended-with-status-0").find("error")
    assert error is not None
    assert error.attrib == {"type": "STATUS 1", "message": footer.claim}


def test_an_interrupted_run_is_not_green(run: Run, broken_off: Run) -> None:
    _, suite = suites(run, broken_off)
    assert (suite.get("tests"), suite.get("errors")) == ("3", "1")
    error = case(suite, "run/came-to-its-end").find("error")
    assert error is not None
    assert "broken off after 2 of 9 cases" in error.get("message", "")
