"""The report for a terminal: what was run, what did not pass and why, and what can be claimed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.names import capability_name, verdict_name
from asynclm_conformance.report.clean import BLOCK, visible
from asynclm_conformance.report.record import Run
from asynclm_conformance.requirements import load

STYLES: Mapping[str, str] = {
    "PASS": "green",
    "FAIL": "bold red",
    "WARN": "yellow",
    "SKIP": "dim",
    "ERROR": "bold magenta",
    "XFAIL": "yellow",
    "STALE": "bold red",
}
"""How each verdict is shown on a terminal."""

WORST_FIRST = ("FAIL", "STALE", "ERROR", "WARN", "XFAIL")
"""The verdicts of cases that did not pass, in the order in which they are shown."""


def banner(header: results_pb2.Header, skipped: Mapping[str, int]) -> str:
    """What is about to be run: target, capabilities, cases, and how many are skipped and why.

    Args:
        header: of the run.
        skipped: numbers of cases that are skipped, by reason.
    """
    server = header.server
    said = visible(f"{server.server} {server.server_version}".strip(), 80)
    declared = (capability_name(number) for number in server.capabilities)
    lines = [
        f"target        {visible(header.target)}" + (f" ({said})" if said else ""),
        f"profile       {header.profile}, revision {header.revision}, suite {header.suite_version}",
        f"capabilities  {', '.join(declared) or 'none'}",
        f"cases         {header.selected} selected, {sum(skipped.values())} of them skipped",
    ]
    lines += [f"              {number} skipped: {visible(reason)}" for reason, number in skipped.items()]
    return "\n".join(lines)


class _Console(Console):
    """Leaves it to its caller what it means that nobody reads on; rich's own would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        raise


def console(out: TextIO | None = None) -> Console:
    """A console on which a report is printed as it stands; on standard output unless a stream is given."""
    return _Console(file=out, highlight=False, soft_wrap=True)


def write_run(run: Run, console: Console) -> None:
    """Prints the report of a run."""
    for line in _report(run):
        console.print(line, highlight=False, soft_wrap=True)


def summary(run: Run) -> str:
    """How many cases there are, by verdict."""
    counts = ", ".join(f"{number} {name}" for name, number in run.counts.items())
    return f"{len(run.results)} cases" + (f": {counts}" if counts else "")


def failure_lines(failure: results_pb2.Failure) -> Iterator[str]:
    """A failure in plain lines: the requirement, what is wrong, want and got, where it was seen."""
    requirement = load().get(failure.requirement)
    if requirement is not None:
        yield f"[{requirement.id}] {requirement.sentence}"
        yield f"    {requirement.path}, {requirement.section}"
    elif failure.requirement:
        yield f"[{visible(failure.requirement, 40)}] is not in this version of the specification"
    yield f"    {visible(failure.message, BLOCK)}"
    for name, value in (("want", failure.want), ("got", failure.got)):
        if value:
            first, *others = visible(value, BLOCK, lines=True).split("\n")
            yield f"    {name + ':':6}{first}"
            yield from (f"          {line}" for line in others)
    yield f"    {place(failure)}"


def place(failure: results_pb2.Failure) -> str:
    """Where a failure was seen."""
    parts = [f"session {visible(failure.session, 40)}"] if failure.session else []
    parts.append(f"step {failure.step}" if failure.step else "judged as a whole")
    if failure.sequence:
        parts.append(f"server event {failure.sequence}")
    if failure.timed_out:
        parts.append("nothing came in time")
    return ", ".join(parts)


def _report(run: Run) -> Iterator[Text]:
    if run.interrupted:
        yield Text(
            f"INTERRUPTED: this run was broken off after {len(run.results)} of {run.header.selected} cases; "
            "it has no verdict",
            style="bold red",
        )
    yield Text(f"{run.name}: profile {run.header.profile}, revision {run.header.revision}, {run.header.started}")
    for verdict in WORST_FIRST:
        for result in run.results:
            if verdict_name(result.verdict) == verdict:
                yield from _case(run, result)
    yield from _skipped([result for result in run.results if verdict_name(result.verdict) == "SKIP"])
    yield Text()
    yield Text(summary(run))
    style = {"conformant": "bold green", "not conformant": "bold red"}.get(run.standing, "bold yellow")
    yield Text(visible(run.claim), style=style)


def _case(run: Run, result: results_pb2.CaseResult) -> Iterator[Text]:
    yield Text()
    yield _line(result)
    if result.reason:
        yield Text(f"    {visible(result.reason, BLOCK)}")
    for failure in result.failures:
        yield from (Text(f"    {line}") for line in failure_lines(failure))
    yield Text(f"    {run.reproduce(result.case)}", style="cyan")


def _line(result: results_pb2.CaseResult) -> Text:
    verdict = verdict_name(result.verdict)
    return Text.assemble(
        (f"{verdict:6}", STYLES.get(verdict, "")),
        (visible(result.case, 120), "bold"),
        f"  {visible(result.title)}",
    )


def _skipped(results: Sequence[results_pb2.CaseResult]) -> Iterator[Text]:
    """The cases that were skipped, under the reason that they share."""
    for reason in dict.fromkeys(result.reason for result in results):
        yield Text()
        yield Text(f"Skipped: {visible(reason)}")
        yield from (_line(result) for result in results if result.reason == reason)
