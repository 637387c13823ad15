"""The command `asynclm-conformance`."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from asynclm_conformance import coverage, report, selection
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.lint import lint as lint_cases
from asynclm_conformance.cases.reading import read_suite
from asynclm_conformance.cli import explaining
from asynclm_conformance.cli.run_command import RunSettings, run_suite
from asynclm_conformance.cli.starter import write_starter
from asynclm_conformance.cli.target_options import TargetOptions
from asynclm_conformance.configuration import Configuration, ConfigurationError, read_configuration
from asynclm_conformance.exit_codes import ExitCode
from asynclm_conformance.faults import TargetGoneError
from asynclm_conformance.play.target import TargetError
from asynclm_conformance.requirements import load


class _Group(TyperGroup):
    """Ends with our statuses where Typer has its own: its 1 says here that a target is not conformant."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _end("interrupted", ExitCode.HARNESS)
        except BrokenPipeError:  # the reader of our output has gone: nothing to say, and nobody to say it to
            _discard_output()
            raise SystemExit(ExitCode.HARNESS) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Checks whether an engine does what the AsyncLM specification says. Exit status: 0 conformant, 1 not "
    "conformant, 2 wrong usage, 3 the target cannot be used, 4 no verdict, 5 nothing selected.",
)

TargetWords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET",
        help="grpc://HOST:PORT, grpcs://HOST:PORT, or -- COMMAND with {port} in it. Absent: as "
        "asynclm-conformance.yaml says.",
    ),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings (default: asynclm-conformance.yaml).")]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Cases at the same time.")]
PatienceOption = Annotated[
    float | None, typer.Option(min=0.1, help="Seconds for which anything that has to come is waited for.")
]
StartOption = Annotated[float | None, typer.Option(min=0.1, help="Seconds that the target gets to be healthy.")]
TokenOption = Annotated[
    Path | None, typer.Option(help="File with the bearer token that the target wants (grpcs only).")
]
CaOption = Annotated[Path | None, typer.Option(help="Authority of the target's certificate, PEM.")]
OutOption = Annotated[Path | None, typer.Option(help="Where the record goes (default: results.jsonl).")]
RunOption = Annotated[
    list[str] | None, typer.Option("--run", help="Only these cases: names, patterns, or @FILE. Repeatable.")
]
SkipOption = Annotated[list[str] | None, typer.Option("--skip", help="Not these cases. Repeatable.")]
SuiteOption = Annotated[list[Path] | None, typer.Option("--suite", help="Files of cases in place of the suite's own.")]


@app.command()
def run(
    target: TargetWords = None,
    config: ConfigOption = None,
    profile: Annotated[str | None, typer.Option(help="What is to be claimed (default: full).")] = None,
    run_patterns: RunOption = None,
    skip: SkipOption = None,
    known_failing: Annotated[
        str | None, typer.Option(help="@FILE of cases that are known to fail, each with `# its reason`.")
    ] = None,
    known_flaky: Annotated[str | None, typer.Option(help="@FILE of cases that fail at times.")] = None,
    jobs: JobsOption = None,
    patience: PatienceOption = None,
    start: StartOption = None,
    token_file: TokenOption = None,
    ca_file: CaOption = None,
    out: OutOption = None,
    suite: SuiteOption = None,
    keep_wire: Annotated[bool, typer.Option("--keep-wire", help="Record the wire of cases that pass, too.")] = False,
) -> None:
    """Run the suite against a target, write the record, and say what can be claimed."""
    settings = read_configuration(config)
    raise SystemExit(
        run_suite(
            RunSettings(
                target=_target(target, settings, token_file, ca_file, start),
                profile=selection.profile_called(profile or settings.profile),
                run=selection.read_selection(run_patterns or ()),
                skip=selection.read_patterns((*settings.skip, *(skip or ()))),
                known_failing=_listed(known_failing, settings.known_failing),
                known_flaky=_listed(known_flaky, settings.known_flaky),
                jobs=jobs or settings.jobs,
                patience_s=patience or settings.patience,
                out=out or settings.out,
                suite=tuple(suite or ()),
                keep_wire=keep_wire,
            )
        )
    )


@app.command()
def smoke(
    target: TargetWords = None,
    config: ConfigOption = None,
    patience: PatienceOption = None,
    start: StartOption = None,
    token_file: TokenOption = None,
    ca_file: CaOption = None,
    out: OutOption = None,
) -> None:
    """Run a handful of cases: whether a whole run is worth it."""
    settings = read_configuration(config)
    raise SystemExit(
        run_suite(
            RunSettings(
                target=_target(target, settings, token_file, ca_file, start),
                profile=selection.profile_called("core"),
                run=selection.smoke_patterns(),
                skip=(),
                known_failing=(),
                known_flaky=(),
                jobs=settings.jobs,
                patience_s=patience or settings.patience,
                out=out or settings.out,
                keep_wire=True,
            )
        )
    )


@app.command(name="list")
def list_cases(
    profile: Annotated[str, typer.Option(help="The profile whose cases are listed.")] = "full",
    run_patterns: RunOption = None,
    skip: SkipOption = None,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="The requirements of the specification, and what verifies each.")
    ] = False,
    profiles: Annotated[bool, typer.Option("--profiles", help="The profiles.")] = False,
    suite: SuiteOption = None,
) -> None:
    """List cases, requirements or profiles."""
    if profiles:
        for entry in selection.profiles().values():
            print(f"{entry.name:13} {entry.about}")
        return
    cases = read_suite(tuple(suite or ()))
    if requirements:
        print("\n".join(explaining.requirement_listing(cases)))
        return
    chosen = selection.select(
        cases,
        selection.profile_called(profile),
        run=selection.read_selection(run_patterns or ()),
        skip=selection.read_patterns(skip or ()),
    )
    if not chosen:
        print(
            f"no case of the profile {profile} is selected; see `asynclm-conformance list --profile {profile}`",
            file=sys.stderr,
        )
        raise SystemExit(ExitCode.NOTHING_SELECTED)
    print("\n".join(explaining.listing(chosen)))


@app.command()
def explain(
    names: Annotated[list[str], typer.Argument(metavar="CASE...", help="Names or patterns of cases.")],
    suite: SuiteOption = None,
) -> None:
    """Say what a case shows: its requirements, its script, what is done and what has to come."""
    patterns = selection.read_patterns(names)
    cases = read_suite(tuple(suite or ()))
    unknown = [pattern.text for pattern in patterns if not any(pattern.matches(case.name) for case in cases)]
    if unknown or not patterns:
        called = " or ".join(unknown or names)
        raise selection.SelectionError(f"no case is called {called}; see `asynclm-conformance list`")
    chosen = [case for case in cases if any(pattern.matches(case.name) for pattern in patterns)]
    print("\n\n".join("\n".join(explaining.explanation(case)) for case in chosen))


@app.command()
def lint(
    suite: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="Files (default: the suite's)")] = None,
) -> None:
    """Check files of cases, and that every requirement of the specification has its case or its reason."""
    cases = read_suite(tuple(suite or ()))
    found = lint_cases(cases, load().keys())
    if not suite:
        found += coverage.problems(coverage.table(cases))
    for problem in found:
        print(problem)
    print(f"{len(cases)} cases, {len(found)} problems")
    if found:
        raise SystemExit(ExitCode.USAGE)


@app.command(name="report")
def write_report(
    records: Annotated[list[Path], typer.Argument(metavar="RECORD...", help="Records: one column each.")],
    format: Annotated[report.Format, typer.Option(help="The form of the report.")] = "text",
    out: Annotated[Path | None, typer.Option(help="A file; a folder for html. (default: standard output)")] = None,
) -> None:
    """Turn records into a report."""
    runs = [report.read(path) for path in records]
    try:
        report.write(runs, format=format, out=out if out is not None else sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise report.ReportError(f"{out}: cannot be written: {error.strerror or error}") from None
    if any(run.interrupted for run in runs):
        print("a record has no footer: its run was broken off, and says nothing of what is missing", file=sys.stderr)
        raise SystemExit(ExitCode.HARNESS)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="The record of the earlier run.")],
    after: Annotated[Path, typer.Argument(help="The record of the later run.")],
) -> None:
    """Compare two records; status 1 if something has become worse, 4 if one was broken off and nothing shows it."""
    found = report.compare(report.read(before), report.read(after))
    print(found)
    if found.regressions:
        raise SystemExit(ExitCode.NONCONFORMANT)
    raise SystemExit(ExitCode.HARNESS if found.interrupted else ExitCode.CONFORMANT)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Write a starter configuration: settings, a list of known failures, a workflow for CI."""
    try:
        written = write_starter(folder, force=force)
    except OSError as error:
        raise ConfigurationError(str(error)) from None
    for path in written:
        print(f"wrote {path}")
    print("Next: put your engine's command into asynclm-conformance.yaml, then `asynclm-conformance smoke`.")


def _target(
    words: list[str] | None,
    settings: Configuration,
    token_file: Path | None,
    ca_file: Path | None,
    start: float | None,
) -> TargetOptions:
    return TargetOptions(
        tuple(words or settings.words), token_file=token_file, ca_file=ca_file, start_s=start or settings.start
    )


def _listed(option: str | None, configured: Path | None) -> tuple[selection.Pattern, ...]:
    given = [option] if option is not None else [f"@{configured}"] if configured is not None else []
    return selection.read_patterns(given, reasons=True)


def main() -> None:
    """Entry point; every fault that is not the runner's own is told in a line or two."""
    try:
        app()
    except (CaseError, selection.SelectionError, ConfigurationError, report.RecordError, report.ReportError) as error:
        _end(str(error), ExitCode.USAGE)
    except (TargetError, TargetGoneError) as error:
        _end(str(error), ExitCode.TARGET)
    except Exception:
        _end(f"a fault of the runner itself:\n{traceback.format_exc()}", ExitCode.HARNESS)


def _discard_output() -> None:
    """What is left in the buffers goes nowhere, so that the interpreter does not fail on it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(message: str, code: ExitCode) -> NoReturn:
    print(f"asynclm-conformance: {message}", file=sys.stderr)
    raise SystemExit(code) from None
