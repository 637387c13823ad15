"""The report as JUnit XML, for what shows test results: a suite for each run, a test case for each case."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.names import verdict_name
from asynclm_conformance.report.clean import BLOCK, visible
from asynclm_conformance.report.record import Run
from asynclm_conformance.report.text import failure_lines

_OUTCOMES = {"FAIL": "failure", "STALE": "failure", "ERROR": "error", "SKIP": "skipped", "XFAIL": "skipped"}
"""What a verdict is in JUnit; what breaks a SHOULD only passes there, and says so in its output."""


def to_xml(runs: Sequence[Run]) -> str:
    """The XML document.

    A run that was broken off, or whose status no single case shows (a capability is not declared, nothing was run), has
    a case more than were run, in error: it is never green.
    """
    root = ElementTree.Element("testsuites")
    for run in runs:
        _suite(root, run)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(root: ElementTree.Element, run: Run) -> None:
    outcomes = [_OUTCOMES.get(verdict_name(result.verdict)) for result in run.results]
    own = _own_case(run, outcomes)
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=f"{run.name}, {visible(run.header.profile, 40)}",
        tests=str(len(outcomes) + (own is not None)),
        failures=str(outcomes.count("failure")),
        errors=str(outcomes.count("error") + (own is not None)),
        skipped=str(outcomes.count("skipped")),
        time=f"{run.footer.seconds if run.footer else sum(result.seconds for result in run.results):.3f}",
        timestamp=visible(run.header.started, 40),
    )
    properties = ElementTree.SubElement(suite, "properties")
    header = run.header
    for name, value in (
        ("claim", run.claim),
        ("target", header.target),
        ("revision", header.revision),
        ("suite_version", header.suite_version),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=visible(value))
    for result in run.results:
        _case(suite, run, result)
    if own is not None:
        name, kind = own
        case = ElementTree.SubElement(suite, "testcase", classname="run", name=name, time="0.000")
        ElementTree.SubElement(case, "error", type=kind, message=visible(run.claim))


def _own_case(run: Run, outcomes: Sequence[str | None]) -> tuple[str, str] | None:
    """The name and the kind of error of what is wrong with a run as a whole and shows in none of its cases."""
    if run.footer is None:
        return "came-to-its-end", "INTERRUPTED"
    if run.footer.exit_code and not {"failure", "error"}.intersection(outcomes):
        return "ended-with-status-0", f"STATUS {run.footer.exit_code}"
    return None


def _case(suite: ElementTree.Element, run: Run, result: results_pb2.CaseResult) -> None:
    file, _, name = result.case.partition("/")
    case = ElementTree.SubElement(
        suite, "testcase", classname=visible(file, 120), name=visible(name, 120), time=f"{result.seconds:.3f}"
    )
    verdict = verdict_name(result.verdict)
    outcome = _OUTCOMES.get(verdict)
    lines = [line for failure in result.failures for line in failure_lines(failure)]
    if outcome is not None:
        first = result.failures[0].message if result.failures else ""
        element = ElementTree.SubElement(case, outcome, message=visible(result.reason or first))
        if outcome != "skipped":
            element.set("type", verdict)
            element.text = "\n".join([*lines, run.reproduce(result.case)])
    if verdict != "PASS":
        said = [
            f"{verdict} {visible(result.title)}",
            *([visible(result.reason, BLOCK)] if result.reason else []),
            *lines,
        ]
        ElementTree.SubElement(case, "system-out").text = "\n".join(said)
