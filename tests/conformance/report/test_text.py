"""The report for a terminal says of each case that did not pass what, why, where and how to see it again."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from tests.conformance.report import records

from asynclm_conformance.report import Run, write
from asynclm_conformance.report.text import banner, write_run


def plain(*runs: Run) -> str:
    out = io.StringIO()
    write(runs, format="text", out=out)
    return out.getvalue()


def test_a_failure_has_all_that_is_needed_to_look_into_it(run: Run) -> None:
    told = plain(run)
    at = told.index("FAIL  alpha/fails  A result keeps its payload")
    block = told[at : told.index("\n\n", at)]
    for words in (
        "[INT-043] `InterruptCommitted` MUST carry",
        "spec/draft/interrupts.md, 5. Order and batches",
        'want: {"v": 2}',
        'got:  {"v": 1}',
        "session main, step 3, server event 6",
        "asynclm-conformance run --profile full --run alpha/fails -- './my engine' --port '{port}'",
    ):
        assert words in block


def test_it_ends_with_the_counts_and_the_claim(run: Run) -> None:
    assert plain(run).splitlines()[-2:] == [
        "10 cases: 2 PASS, 2 FAIL, 1 WARN, 2 SKIP, 1 ERROR, 1 XFAIL, 1 STALE",
        "not conformant to draft at full: 2 failed",
    ]


def test_cases_that_passed_are_only_counted_and_skipped_ones_share_their_reason(run: Run) -> None:
    told = plain(run)
    assert "alpha/passes" not in told
    assert told.count("Skipped: the target does not declare GRAMMAR") == 1
    assert "SKIP  beta/skipped" in told
    assert "SKIP  gamma/skipped" in told


@pytest.mark.parametrize("case", ["beta/warns", "gamma/error", "gamma/known", "gamma/stale"])
def test_every_other_verdict_is_told_with_its_case(run: Run, case: str) -> None:
    assert f"{case}  Something is so" in plain(run)


def test_what_came_too_late_and_was_judged_as_a_whole_is_said_so(run: Run) -> None:
    assert "session main, judged as a whole, nothing came in time" in plain(run)


def test_an_interrupted_run_says_so_first(broken_off: Run) -> None:
    told = plain(broken_off).splitlines()
    assert told[0] == "INTERRUPTED: this run was broken off after 2 of 9 cases; it has no verdict"
    assert told[-1] == "no claim: the run was broken off after 2 of 9 cases"


def test_text_of_a_target_cannot_steer_the_terminal(run: Run) -> None:
    for terminal in (False, True):
        out = io.StringIO()
        write_run(run, Console(file=out, force_terminal=terminal, color_system="standard" if terminal else None))
        told = out.getvalue()
        assert "\x1b[2J" not in told
        assert not {"\x07", "\x00", "\u202e", "\u2066", "\r"} & set(told)
        assert "␛[2J␇ ‹U+202E›evil" in told
        assert "… (200,000 characters)" in told
        assert records.FOREIGN in told


def test_markup_and_emoji_codes_of_a_target_are_left_as_they_are() -> None:
    made = records.result("a/b", records.FAIL, title="[bold]x[/bold] :smile:", failures=[records.failure()])
    assert "FAIL  a/b  [bold]x[/bold] :smile:" in plain(Run(records.header(), (made,), None))


def test_a_terminal_gets_colours_and_a_file_does_not(run: Run) -> None:
    out = io.StringIO()
    write_run(run, Console(file=out, force_terminal=True, color_system="standard"))
    assert "\x1b[1;31mFAIL" in out.getvalue()
    assert "\x1b" not in plain(run)


def test_several_runs_are_told_one_after_the_other(run: Run, broken_off: Run) -> None:
    assert "\n\nINTERRUPTED" in plain(run, broken_off)


def test_the_banner_says_what_is_about_to_be_run() -> None:
    told = banner(records.header(), {"the target does not declare KEEP": 2})
    assert "./my engine --port {port} (engine 1.2)" in told
    assert "capabilities  RESUME" in told
    assert "9 selected, 2 of them skipped" in told
    assert "2 skipped: the target does not declare KEEP" in told
