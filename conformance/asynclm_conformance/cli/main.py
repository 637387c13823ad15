"""The command `asynclm-conformance`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance import selection
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.reading import read_suite
from asynclm_conformance.cli.target_options import TargetOptions
from asynclm_conformance.exit_codes import ExitCode
from asynclm_conformance.play.faults import TargetGoneError
from asynclm_conformance.play.target import TargetError
from asynclm_conformance.run import Runner, reset

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Checks whether an engine does what the AsyncLM specification says.",
)

TargetArgument = Annotated[
    list[str],
    typer.Argument(metavar="TARGET", help="grpc://HOST:PORT, grpcs://HOST:PORT, or -- COMMAND, with {port} in it."),
]


@app.command()
def run(
    target: TargetArgument,
    profile: Annotated[str, typer.Option(help="What is to be claimed.")] = "full",
    run_patterns: Annotated[
        list[str] | None, typer.Option("--run", help="Only these cases: names, patterns, @FILE.")
    ] = None,
    skip_patterns: Annotated[list[str] | None, typer.Option("--skip", help="Not these cases.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cases at the same time.")] = 8,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Seconds that anything that has to come is waited for.")
    ] = 10,
    suite: Annotated[list[Path] | None, typer.Option(help="Files of cases in place of the suite's own.")] = None,
) -> None:
    """Run the suite against a target."""
    options = TargetOptions(tuple(target))
    chosen = selection.profile_called(profile)
    cases = selection.select(
        read_suite(tuple(suite or ())),
        chosen,
        run=selection.read_patterns(run_patterns or ()),
        skip=selection.read_patterns(skip_patterns or ()),
    )
    if not cases:
        raise SystemExit(ExitCode.NOTHING_SELECTED)

    def report(result: results_pb2.CaseResult) -> None:
        print(results_pb2.Verdict.Name(result.verdict).removeprefix("VERDICT_"), result.case, result.reason)
        for failure in result.failures:
            print(f"    [{failure.requirement}] {failure.message} (session {failure.session}, step {failure.step})")
            print(f"      want {failure.want}\n      got  {failure.got}")

    async def go() -> list[results_pb2.CaseResult]:
        async with options.opened() as there:
            await reset(there)
            runner = Runner(there, jobs=jobs, patience_s=patience, keep_wire=False, report=report)
            return await runner.run(selection.choose(cases, chosen, there.info))

    results = asyncio.run(go())
    bad = sum(result.verdict in (results_pb2.VERDICT_FAIL, results_pb2.VERDICT_ERROR) for result in results)
    print(f"{len(results)} cases, {bad} bad")
    raise SystemExit(ExitCode.NONCONFORMANT if bad else ExitCode.CONFORMANT)


@app.command(name="list")
def list_cases(
    profile: Annotated[str, typer.Option(help="The profile whose cases are listed.")] = "full",
    patterns: Annotated[list[str] | None, typer.Option("--run", help="Only these cases.")] = None,
) -> None:
    """List the cases of a profile."""
    chosen = selection.profile_called(profile)
    cases = selection.select(read_suite(), chosen, run=selection.read_patterns(patterns or ()))
    for case in cases:
        print(f"{case.name:60} {' '.join(case.message.verifies)}")
    if not cases:
        raise SystemExit(ExitCode.NOTHING_SELECTED)


def main() -> None:
    """Entry point."""
    try:
        app()
    except (CaseError, selection.SelectionError) as error:
        print(f"asynclm-conformance: {error}", file=sys.stderr)
        raise SystemExit(ExitCode.USAGE) from None
    except (TargetError, TargetGoneError) as error:
        print(f"asynclm-conformance: {error}", file=sys.stderr)
        raise SystemExit(ExitCode.TARGET) from None
