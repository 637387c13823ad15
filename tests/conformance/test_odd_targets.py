"""Targets that cannot be judged, or that break everything: each ends with its status and says what to do."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.cli.main import main
from asynclm_conformance.exit_codes import ExitCode
from asynclm_conformance.play.target import free_port
from asynclm_conformance.report import record
from asynclm_conformance.run import MOST_EXCHANGES, MOST_FAILURES

CASE = """\
about: Something.
cases:
- id: ends
  title: A session ends
  feature: CORE
  verifies: [SES-044]
  main:
    script: [{cml: Hi}, {end: true}]
    trace: [{finished: {reason: STOP}}]
  steps:
  - grant: {rest: true}
"""

ROOT = Path(__file__).parents[2]

Command = Callable[..., ExitCode]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs `asynclm-conformance` in an empty folder and gives its status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "one.yaml").write_text(CASE, encoding="utf-8")

    def run(*arguments: str) -> ExitCode:
        monkeypatch.setattr(sys, "argv", ["asynclm-conformance", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return ExitCode(caught.value.code or 0)

    return run


def odd(kind: str) -> tuple[str, ...]:
    return ("--", sys.executable, "-m", "tests.conformance.odd_target", kind, "--port", "{port}")


@pytest.mark.parametrize(
    ("kind", "start", "said"),
    [
        ("no-health", "60", "no grpc.health.v1.Health"),
        ("never-serving", "4", "not healthy within 4 s: health is NOT_SERVING"),
        ("other-revision", "60", "revision '2099-01-01'"),
        ("ends", "60", "exit code 7; its last output:\nno weights found"),
    ],
)
@pytest.mark.slow
def test_a_target_that_cannot_be_used_is_told_why(
    kind: str, start: str, said: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("run", "--suite", "one.yaml", "--start", start, *odd(kind)) is ExitCode.TARGET
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("grpc://127.0.0.1:1",), ExitCode.TARGET, "is the server running?"),
        (("--", "no-such-program", "{port}"), ExitCode.TARGET, "cannot be started"),
        (("--", sys.executable), ExitCode.TARGET, "no {port}"),
        ((), ExitCode.TARGET, "no target is given"),
        (("grpc://127.0.0.1:1", "more"), ExitCode.TARGET, "nothing can follow an address"),
        (("--token-file", "t", "grpc://127.0.0.1:1"), ExitCode.TARGET, "use grpcs://"),
        (("--ca-file", "c", "--", "engine", "{port}"), ExitCode.TARGET, "use grpcs://"),
        (("--token-file", "none", "grpcs://127.0.0.1:1"), ExitCode.TARGET, "--token-file none: cannot be read"),
        (("--ca-file", "none", "grpcs://127.0.0.1:1"), ExitCode.TARGET, "--ca-file none: cannot be read"),
        (("127.0.0.1:50151",), ExitCode.TARGET, "begins with grpc://"),
        (("grpc://",), ExitCode.TARGET, "grpc://HOST:PORT is expected"),
        (("grpc://127.0.0.1",), ExitCode.TARGET, "grpc://HOST:PORT is expected"),
        (("grpc://127.0.0.1:99999",), ExitCode.TARGET, "grpc://HOST:PORT is expected"),
        (("--profile", "fool", "grpc://127.0.0.1:1"), ExitCode.USAGE, "no profile is called 'fool'"),
        (("--run", "none/*", "grpc://127.0.0.1:1"), ExitCode.USAGE, "matches no case"),
        (("--run", "@empty.txt", "grpc://127.0.0.1:1"), ExitCode.USAGE, "--run @empty.txt: names no case"),
        (("--run", "one/ends", "--skip", "one/*", "grpc://127.0.0.1:1"), ExitCode.NOTHING_SELECTED, "no case"),
        (("--config", "none.yaml", "grpc://127.0.0.1:1"), ExitCode.USAGE, "none.yaml: cannot be read"),
        (("--known-failing", "one/ends", "grpc://127.0.0.1:1"), ExitCode.USAGE, "stand in a file"),
    ],
)
def test_wrong_usage_is_told_in_a_line(
    arguments: tuple[str, ...], code: ExitCode, said: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.txt").write_text("# nothing\n", encoding="utf-8")
    assert command("run", "--suite", "one.yaml", *arguments) is code
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("silent", "did not come within 1 s"),
        ("babbling", ""),
        ("garbage", ""),
        ("undecodable", "what the target sent cannot be decoded"),
        ("miscounting", "a number for each step"),
    ],
)
def test_a_target_that_breaks_everything_fails(kind: str, said: str, command: Command) -> None:
    assert command("run", "--suite", "one.yaml", "--patience", "1", *odd(kind)) is ExitCode.NONCONFORMANT
    run = record.read(Path("results.jsonl"))
    (result,) = run.results
    assert result.verdict == results_pb2.VERDICT_FAIL
    assert result.failures
    assert len(result.failures) <= MOST_FAILURES + 1
    assert len(result.wire) <= MOST_EXCHANGES + 1
    assert said in f"{result.failures[0].message} {result.failures[0].got}"
    assert kind != "silent" or all(failure.timed_out for failure in result.failures)


@pytest.mark.slow
def test_a_target_that_reads_nothing_is_not_waited_for_without_bound(command: Command) -> None:
    """It is sent more than the transport holds."""
    start = "    start: {messages: [{role: USER, parts: [{text: " + "x" * 10_000_000 + "}]}]}\n    script:"
    Path("one.yaml").write_text(CASE.replace("    script:", start), encoding="utf-8")
    assert command("run", "--suite", "one.yaml", "--patience", "1", *odd("silent")) is ExitCode.NONCONFORMANT
    (failure,) = record.read(Path("results.jsonl")).results[0].failures
    assert failure.message == "the client's start was not taken within 1 s"
    assert failure.timed_out


def test_no_two_targets_are_given_one_port() -> None:
    ports = [free_port() for _ in range(500)]
    assert len(set(ports)) == len(ports)
    with socket.create_server(("127.0.0.1", ports[-1])):  # which sets SO_REUSEADDR
        pass


@pytest.mark.slow
def test_a_target_that_dies_ends_the_run_without_a_footer(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("run", "--suite", "one.yaml", *odd("dying")) is ExitCode.TARGET
    error = capsys.readouterr().err
    assert "the target ended by itself, exit code 9" in error
    assert "without a footer" in error
    assert record.read(Path("results.jsonl")).interrupted
    assert command("report", "results.jsonl") is ExitCode.HARNESS


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_has_no_verdict(number: signal.Signals, command: Command, tmp_path: Path) -> None:
    """`command` has put the suite there; the run is a process of its own, since it is the process that is told."""
    os.mkfifo("record")  # to open it is to wait until the runner writes its record
    options = ("--suite", "one.yaml", "--out", "record")
    words = [sys.executable, "-m", "asynclm_conformance", "run", *options, *odd("silent")]
    folders = os.pathsep.join(str(ROOT / name) for name in (".", "reference", "conformance"))
    environment = {**os.environ, "PYTHONPATH": folders}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        with Path("record").open(encoding="utf-8") as lines:
            assert "header" in lines.readline()
            process.send_signal(number)
            assert lines.read() == ""
        _, error = process.communicate()
    assert process.returncode == ExitCode.HARNESS
    assert "interrupted: no verdict" in error
    assert "record has what there is, without a footer" in error


@pytest.mark.parametrize("fault", [ZeroDivisionError, KeyboardInterrupt, BrokenPipeError])
def test_what_breaks_a_command_off_says_nothing_of_a_target(
    fault: type[BaseException], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise fault

    monkeypatch.setattr("asynclm_conformance.cli.main.read_suite", broken)
    monkeypatch.setattr("asynclm_conformance.cli.main._discard_output", lambda: None)
    assert command("list") is ExitCode.HARNESS


@pytest.mark.slow
def test_a_fault_of_the_runner_in_a_case_is_an_error_of_that_case(
    monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("asynclm_conformance.run.judge", broken)
    assert (
        command("run", "--suite", "one.yaml", "--profile", "core", "--patience", "0.1", *odd("silent"))
        is ExitCode.HARNESS
    )
    (result,) = record.read(Path("results.jsonl")).results
    assert result.verdict == results_pb2.VERDICT_ERROR
    assert "ZeroDivisionError" in result.reason


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_broken_off_ends_its_target(number: signal.Signals, command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lives")  # the target holds it open for writing, so that it ends with the target
    target = shlex.join((sys.executable, "-m", "tests.conformance.odd_target", "silent", "--port", "{port}"))
    words = ("run", "--suite", "one.yaml", "--patience", "600", "--", "sh", "-c", f"exec 3> lives; exec {target}")
    with (
        subprocess.Popen(
            (sys.executable, "-u", "-m", "asynclm_conformance", *words),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as runner,
        (tmp_path / "lives").open(encoding="utf-8") as lives,
    ):
        assert runner.stdout is not None
        for line in runner.stdout:
            if line.startswith("cases"):
                break
        runner.send_signal(number)
        _, error = runner.communicate(timeout=60)
        assert lives.read() == ""  # its end: nobody has it open any more
    if number is signal.SIGTERM:
        assert runner.returncode == ExitCode.HARNESS
        assert "interrupted: no verdict" in error


def test_a_record_that_cannot_be_written_is_told_before_the_run(
    command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for out in (tmp_path, tmp_path / "none" / "results.jsonl"):
        assert command("run", "--suite", "one.yaml", "--out", str(out), "--", "no-such-program", "{port}") == 2
        assert "cannot be written" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_told(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with record.RecordWriter(Path("half.jsonl")) as writer:
        writer.header(results_pb2.Header(target="grpc://127.0.0.1:1"))
    assert command("report", "half.jsonl", "--format", "junit", "--out", "none/report.xml") is ExitCode.USAGE
    assert "none/report.xml: cannot be written" in capsys.readouterr().err
    assert command("diff", "half.jsonl", "half.jsonl") is ExitCode.HARNESS
    assert "INTERRUPTED" in capsys.readouterr().out


def test_the_examples_of_the_documentation_can_be_used(command: Command, tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "conformance" / "docs"
    known = f"@{docs / 'known-failing.txt'}"
    gone = ("--", "no-such-program", "{port}")
    assert command("run", "--known-failing", known, *gone) is ExitCode.TARGET
    text = (docs / "authoring-cases.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    assert command("lint", "mine.yaml") is ExitCode.CONFORMANT


def test_files_of_cases_that_are_wrong_are_told_with_their_place(
    command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text("about: x\ncases: [\n", encoding="utf-8")
    assert command("lint", "bad.yaml") is ExitCode.USAGE
    assert "bad: line " in capsys.readouterr().err
    unknown = "-".join(("SES", "999"))  # spelled so that no search takes it for a citation
    (tmp_path / "odd.yaml").write_text(CASE.replace("SES-044", unknown), encoding="utf-8")
    assert command("lint", "odd.yaml") is ExitCode.USAGE
    assert f"odd/ends: verifies: the specification has no {unknown}" in capsys.readouterr().out


def test_every_case_that_is_to_be_explained_has_to_be_there(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("explain", "one/ends", "one/none", "--suite", "one.yaml") is ExitCode.USAGE
    assert "no case is called one/none;" in capsys.readouterr().err


def test_a_record_without_its_end_is_no_success_in_a_comparison(command: Command) -> None:
    Path("whole.jsonl").write_text('{"header": {}}\n{"footer": {}}\n', encoding="utf-8")
    Path("broken-off.jsonl").write_text('{"header": {}}\n', encoding="utf-8")
    assert command("diff", "whole.jsonl", "whole.jsonl") is ExitCode.CONFORMANT
    assert command("diff", "whole.jsonl", "broken-off.jsonl") is ExitCode.HARNESS


def test_init_writes_what_run_reads(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("init") is ExitCode.CONFORMANT
    assert command("init") is ExitCode.USAGE
    assert "is there already" in capsys.readouterr().err
    assert command("run") is ExitCode.TARGET
    assert "./my-engine cannot be started" in capsys.readouterr().err
    Path("asynclm-conformance.yaml").write_text("profle: core\n", encoding="utf-8")
    assert command("run") is ExitCode.USAGE
    assert "profle" in capsys.readouterr().err
