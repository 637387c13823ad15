"""`asynclm-conformance run` and `smoke`: from a command line to a record and a verdict."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from asynclm.conformance.v1 import results_pb2
from asynclm.v1 import control_pb2, session_pb2
from asynclm_conformance import selection, verdict
from asynclm_conformance.cases.model import Case
from asynclm_conformance.cases.reading import read_suite
from asynclm_conformance.cli.target_options import TargetOptions
from asynclm_conformance.configuration import Configuration
from asynclm_conformance.exit_codes import ExitCode
from asynclm_conformance.faults import TargetGoneError
from asynclm_conformance.play.target import REVISION, Target
from asynclm_conformance.report import record, text
from asynclm_conformance.run import Runner, reset


@dataclass(frozen=True)
class RunSettings:
    """One run.

    Attributes:
        target: what to run against.
        profile: what is to be claimed.
        run: patterns of the cases to run; empty: all.
        skip: patterns of cases that are not run.
        known_failing: patterns of cases that are known to fail, with reasons.
        known_flaky: patterns of cases that fail at times, with reasons.
        jobs: cases at the same time.
        patience_s: for how long anything that has to come is waited for.
        out: where the record goes.
        suite: files of cases in place of the package's own.
        keep_wire: whether the record has the wire of cases that passed, too.
    """

    target: TargetOptions
    profile: selection.Profile
    run: tuple[selection.Pattern, ...]
    skip: tuple[selection.Pattern, ...]
    known_failing: tuple[selection.Pattern, ...]
    known_flaky: tuple[selection.Pattern, ...]
    jobs: int
    patience_s: float
    out: Path
    suite: tuple[Path, ...] = ()
    keep_wire: bool = False


def run_suite(settings: RunSettings) -> ExitCode:
    """Runs the suite, writes the record, prints the report and gives the exit status.

    Raises:
        CaseError: a file of cases cannot be used.
        SelectionError: a pattern cannot be used.
        TargetError: the target cannot be used.
        TargetGoneError: it ended, or does not answer any more.
    """
    cases = read_suite(settings.suite)
    chosen = selection.select(
        cases,
        settings.profile,
        run=settings.run,
        skip=settings.skip,
        known_failing=settings.known_failing,
        known_flaky=settings.known_flaky,
    )
    if not chosen:
        name = settings.profile.name
        print(
            f"no case of the profile {name} is selected; see `asynclm-conformance list --profile {name}`",
            file=sys.stderr,
        )
        return ExitCode.NOTHING_SELECTED
    whole = len(chosen) == len(selection.select(cases, settings.profile)) and not settings.suite
    writer = record.RecordWriter(settings.out)
    try:
        return asyncio.run(_run(settings, chosen, writer, whole=whole))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"interrupted: no verdict; {_left(settings.out, writer)}", file=sys.stderr)
        return ExitCode.HARNESS


def _left(out: Path, writer: record.RecordWriter) -> str:
    """What there is of a record whose run was broken off."""
    return f"{out} has what there is, without a footer" if writer.begun else f"{out} was not written"


def _end_like_ctrl_c() -> None:
    """Lets SIGTERM and SIGHUP break off the run as Ctrl-C does, so that a started target is not left behind."""
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` has SIGHUP ignored
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _run(settings: RunSettings, cases: Sequence[Case], writer: record.RecordWriter, *, whole: bool) -> ExitCode:
    _end_like_ctrl_c()
    console = text.console()
    async with settings.target.opened() as target:
        choices = selection.choose(
            cases,
            settings.profile,
            target.info,
            known_failing=settings.known_failing,
            known_flaky=settings.known_flaky,
        )
        header = _header(settings, target, len(cases))
        console.print(text.banner(header, _skipped(choices)), markup=False)
        began = time.monotonic()
        with writer:
            writer.header(header)
            try:
                results = await _results(settings, target, choices, writer, console)
            except TargetGoneError as error:
                raise TargetGoneError(f"{error}\nno verdict: {_left(settings.out, writer)}") from None
            counts = verdict.count(results)
            missing = selection.undeclared(settings.profile, target.info)
            code = verdict.exit_code(counts, missing)
            claim = verdict.claim(
                counts, revision=REVISION, profile=settings.profile.name, whole=whole, missing=missing
            )
            seconds = round(time.monotonic() - began, 2)
            footer = results_pb2.Footer(counts=counts, claim=claim, exit_code=code, seconds=seconds)
            writer.footer(footer)
    text.write_run(record.Run(header, tuple(results), footer), console)
    return code


async def _results(
    settings: RunSettings,
    target: Target,
    choices: Sequence[selection.Choice],
    writer: record.RecordWriter,
    console: Console,
) -> list[results_pb2.CaseResult]:
    """Plays the cases; each result is written down as it is there."""
    await reset(target)
    with _progress(console, len(choices)) as tick:

        def report(result: results_pb2.CaseResult) -> None:
            writer.result(result)
            tick()

        runner = Runner(
            target, jobs=settings.jobs, patience_s=settings.patience_s, keep_wire=settings.keep_wire, report=report
        )
        return await runner.run(choices)


def _skipped(choices: Sequence[selection.Choice]) -> dict[str, int]:
    """How many cases are skipped, by reason."""
    found: dict[str, int] = {}
    for choice in choices:
        if choice.skip:
            found[choice.skip] = found.get(choice.skip, 0) + 1
    return found


def _header(settings: RunSettings, target: Target, selected: int) -> results_pb2.Header:
    server = control_pb2.GetServerInfoResponse()
    server.CopyFrom(target.info)
    server.metrics.clear()
    known = session_pb2.Capability.values()
    del server.capabilities[:]
    server.capabilities.extend(capability for capability in target.info.capabilities if capability in known)
    return results_pb2.Header(
        suite_version=metadata.version("asynclm-protocol"),
        revision=REVISION,
        profile=settings.profile.name,
        target=settings.target.spelled,
        server=server,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=_command(settings),
        selected=selected,
    )


def _command(settings: RunSettings) -> list[str]:
    """The command line that runs a case again with `--run CASE`: all that reaches the target and changes a verdict."""
    words = ["asynclm-conformance", "run", "--profile", settings.profile.name]
    for path in settings.suite:
        words += ["--suite", str(path)]
    if settings.patience_s != Configuration().patience:
        words += ["--patience", f"{settings.patience_s:g}"]
    target = settings.target
    for option, file in (("--token-file", target.token_file), ("--ca-file", target.ca_file)):
        if file is not None:
            words += [option, str(file)]
    return [*words, *(target.target if target.address is not None else ("--", *target.target))]


@contextlib.contextmanager
def _progress(console: Console, cases: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, and nothing elsewhere; gives what is called for each case."""
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("cases", total=cases)
        yield lambda: bar.advance(task)
