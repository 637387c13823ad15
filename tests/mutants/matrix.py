"""Runs the suite against mutants: which case finds which fault, and whether for the reason that it declares.

python -m tests.mutants.matrix                  every mutant against the whole suite, an hour on two cores
python -m tests.mutants.matrix NAME --markdown  some of them, as a Markdown table
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.mutants.mutant import Served
from tests.mutants.registry import FILES, MUTANTS, Mutant, mutants_of, subject_of

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.cases.model import Case
from asynclm_conformance.cases.reading import read_suite
from asynclm_conformance.faults import TargetGoneError
from asynclm_conformance.play.target import TargetError, started
from asynclm_conformance.requirements import load as requirements
from asynclm_conformance.run import Runner, reset
from asynclm_conformance.selection import UNTESTABLE, choose, profile_called, select

PATIENCE_S = 3.0
"""For how long anything that has to come is waited for; a mutant that hangs costs no more."""

START_S = 60.0
CASES_AT_ONCE = 8
MUTANTS_AT_ONCE = 2
TRIES = 3
PROFILES = {Served.SCRIPTED: "full", Served.TORCH: "full", Served.HOSTED: "emulated"}
"""What a server would claim that had no fault."""

HEAD = """\
How many cases of each file of the suite find each [mutant](mutants.md), as printed by
`python -m tests.mutants.matrix --about --markdown`: of the cases about what a mutant breaks, and a few that are run
against all. Most faults break more than one rule, and many stand in the way of cases about something else; what each
may break is declared with it, and a case that fails for no declared reason is told of."""
"""What stands over the page."""

COMMON = frozenset({"session-basics", "ends", "safe-points"})
"""Files of cases that are run against every mutant: what is watched on all streams shows in them."""

Result = results_pb2.CaseResult


@dataclass(frozen=True)
class Finding:
    """What the suite found of a mutant.

    Attributes:
        mutant: the mutant.
        results: of every case that was run.
        gone: why not all could be run: the server ended, or did not answer any more; empty if they could.
        cut: whether the run ended with the first case that caught it; what had only come late by then says nothing.
    """

    mutant: Mutant
    results: tuple[Result, ...]
    gone: str = ""
    cut: bool = False

    @property
    def failed(self) -> list[Result]:
        """The cases that found something wrong."""
        return [result for result in self.results if result.failures]

    @property
    def caught(self) -> bool:
        """Whether a case catches it."""
        return any(_catches(result, self.mutant) for result in self.results)

    @property
    def unexpected(self) -> list[Result]:
        """The cases that failed for reasons that the mutant does not declare."""
        counted = [result for result in self.failed if not (self.cut and _late(result))]
        return [result for result in counted if not _declared(result, self.mutant)]

    def wrong(self) -> list[str]:
        """What is to be said against the mutant or the suite, a sentence each; empty if nothing is."""
        unknown = [name for name in self.mutant.violates if name not in requirements()]
        found = [f"breaks {name}, which is no requirement" for name in unknown]
        if not self.caught:
            only = ", ".join(result.case for result in self.failed)
            found.append(
                f"is found for nothing that it breaks, or by time-outs only ({only})" if only else "is found by no case"
            )
        for result in self.unexpected:
            cited = sorted({failure.requirement for failure in result.failures})
            found.append(f"{result.case} fails too, citing {', '.join(cited)}: {result.failures[0].message}")
        ran = {pattern: [r for r in self.results if _is(r, pattern)] for pattern in self.mutant.also}
        unused = [pattern for pattern, results in ran.items() if results and not any(r.failures for r in results)]
        found += [f"also: {pattern} fails in no case" for pattern in unused]
        if self.gone:
            found.append(f"the server is gone: {self.gone}")
        return found


def _catches(result: Result, mutant: Mutant) -> bool:
    """Whether a case fails for something that a mutant breaks, and that it has seen."""
    return result.verdict == results_pb2.VERDICT_FAIL and _sees(result) and _breaks(result, mutant)


def _sees(result: Result) -> bool:
    """Whether a case fails for more than what did not come in time, or could not be tested."""
    return any(not f.timed_out and not f.message.startswith(UNTESTABLE) for f in result.failures)


def _late(result: Result) -> bool:
    """Whether a case fails for nothing but what did not come in time."""
    return all(failure.timed_out for failure in result.failures)


def _declared(result: Result, mutant: Mutant) -> bool:
    return _breaks(result, mutant) or any(_is(result, pattern) for pattern in mutant.also)


def _breaks(result: Result, mutant: Mutant) -> bool:
    """Whether a case verifies, or its failures cite, a requirement that a mutant breaks."""
    violates = set(mutant.violates)
    return not violates.isdisjoint(result.verifies) or not violates.isdisjoint(
        failure.requirement for failure in result.failures
    )


def _is(result: Result, pattern: str) -> bool:
    return fnmatch.fnmatchcase(result.case, pattern)


def scripted_cases() -> list[Case]:
    """The cases that mutants are held to: all but those that the model itself plays, whose outcome is open."""
    return [case for case in read_suite() if not case.live]


def cases_about(mutant: Mutant, cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases that verify a requirement which a mutant breaks, and those of `COMMON`."""
    violates = set(mutant.violates)
    return tuple(
        case
        for case in cases
        if case.name.partition("/")[0] in COMMON or not violates.isdisjoint(case.message.verifies)
    )


async def run_cases(
    name: str,
    cases: Sequence[Case],
    enough: Callable[[Result], bool] = lambda _: False,
    *,
    served: Served = Served.SCRIPTED,
) -> tuple[tuple[Result, ...], str]:
    """Runs cases against a mutant, or the server as it is, and tells why not all could be run.

    Args:
        name: the mutant's.
        cases: the cases.
        enough: whether the run can end with a result; none begins after it.
        served: what it is served on.
    """
    results: list[Result] = []

    def take(result: Result) -> None:
        results.append(result)
        if enough(result):
            raise _EnoughError

    command = (sys.executable, "-m", "tests.mutants.serve", name, "--port", "{port}")
    try:
        async with started(command, start_s=START_S) as target:
            await reset(target)
            runner = Runner(target, jobs=CASES_AT_ONCE, patience_s=PATIENCE_S, keep_wire=False, report=take)
            profile = profile_called(PROFILES[served])
            await runner.run(choose(select(cases, profile), profile, target.info))
    except _EnoughError:
        pass
    except (TargetError, TargetGoneError) as error:
        return tuple(results), str(error)
    return tuple(results), ""


class _EnoughError(Exception):
    """What was to be found is found."""


async def examine(mutant: Mutant, cases: Sequence[Case], *, until_caught: bool = False) -> Finding:
    """Runs cases against a mutant.

    Args:
        mutant: the mutant.
        cases: the cases.
        until_caught: the first that catches it is enough; a mutant that only a race shows has some tries.
    """
    if not until_caught:
        return Finding(mutant, *await run_cases(mutant.name, cases, served=mutant.served))
    for _ in range(TRIES):
        results, gone = await run_cases(
            mutant.name, cases, lambda result: _catches(result, mutant), served=mutant.served
        )
        finding = Finding(mutant, results, gone, cut=True)
        if finding.caught:
            break
    return finding


async def examine_all(
    mutants: Sequence[Mutant],
    cases_of: Callable[[Mutant], Sequence[Case]],
    *,
    at_once: int = MUTANTS_AT_ONCE,
    until_caught: bool = False,
    report: Callable[[Finding], None] = lambda _: None,
) -> list[Finding]:
    """Runs each mutant against its cases, some mutants at a time."""
    slots = asyncio.Semaphore(at_once)

    async def one(mutant: Mutant) -> Finding:
        async with slots:
            finding = await examine(mutant, cases_of(mutant), until_caught=until_caught)
            report(finding)
            return finding

    return list(await asyncio.gather(*map(one, mutants)))


def unmoved(findings: Sequence[Finding], cases: Sequence[Case]) -> list[str]:
    """The cases that no mutant makes fail by what they see: nothing shows that they can."""
    moved = {result.case for finding in findings for result in finding.failed if _sees(result)}
    return [case.name for case in cases if case.name not in moved]


# --- as a command ------------------------------------------------------------------------------------------------


def table(findings: Sequence[Finding]) -> str:
    """A row for each mutant: how many cases of each file of the suite have found it."""
    return "\n".join(
        f"{finding.mutant.name:50} {'caught' if finding.caught else 'NOT CAUGHT':10} {_finders(finding)}"
        for finding in findings
    )


def page(findings: Sequence[Finding]) -> str:
    """The same in Markdown, the mutants of each file under a heading."""
    found = {finding.mutant.name: finding for finding in findings}
    lines = ["# The matrix of mutants and cases", "", HEAD]
    for file in FILES:
        rows = [found[mutant.name] for mutant in mutants_of(file) if mutant.name in found]
        if rows:
            lines += ["", f"## {subject_of(file)}", "", "| mutant | found by | cases of each file |", "|---|---|---|"]
        for finding in rows:
            count = len(finding.failed) if finding.caught else "nothing"
            lines.append(f"| `{finding.mutant.name}` | {count} | {_finders(finding)} |")
    return "\n".join(lines)


def _finders(finding: Finding) -> str:
    files = Counter(result.case.partition("/")[0] for result in finding.failed)
    return ", ".join(f"{file} {count}" for file, count in sorted(files.items()))


def main(arguments: Sequence[str]) -> int:
    """Runs the matrix; 1 if something is wrong with a mutant, or a whole run has cases that none makes fail."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.matrix", description="Run the suite on mutants.")
    parser.add_argument("names", nargs="*", help="mutants, or patterns of their names; all if none is given")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--about", action="store_true", help="only the cases that verify what a mutant breaks")
    parser.add_argument(
        "--until-caught", action="store_true", help="end a mutant's run with the first case that catches it"
    )
    parser.add_argument("--at-once", type=int, default=MUTANTS_AT_ONCE, help="mutants at the same time")
    given = parser.parse_args(arguments)
    patterns = given.names or ["*"]
    chosen = [m for m in MUTANTS.values() if any(fnmatch.fnmatchcase(m.name, pattern) for pattern in patterns)]
    if not chosen:
        parser.error(f"no mutant is called {' or '.join(patterns)}")
    cases = scripted_cases()

    def told(finding: Finding) -> None:
        for sentence in finding.wrong():
            print(f"{finding.mutant.name}: {sentence}", file=sys.stderr, flush=True)

    findings = asyncio.run(
        examine_all(
            chosen,
            (lambda mutant: cases_about(mutant, cases)) if given.about else (lambda _: cases),
            at_once=given.at_once,
            until_caught=given.until_caught,
            report=told,
        )
    )
    print(page(findings) if given.markdown else table(findings))
    wrong = sum(bool(finding.wrong()) for finding in findings)
    print(f"{len(findings)} mutants, {wrong} with something to be said against them", file=sys.stderr)
    whole = not (given.names or given.about or given.until_caught)
    idle = unmoved(findings, cases) if whole else []
    for name in idle:
        print(f"{name}: no mutant makes it fail", file=sys.stderr)
    return 1 if wrong or idle else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
