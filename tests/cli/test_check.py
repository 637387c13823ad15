from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from asynclm.cli.main import app

GOOD = (
    "Hello. [CALL] a [HEAD] f(x=1) [END] and [CALL] g(y=a.z) [END]\n"
    "[TRAP] a [END] [INTR] a [HEAD] {} [END] a literal \\[END].\n"
)


def check(cli: CliRunner, path: Path, text: str, *options: str) -> tuple[int, str]:
    path = path / "doc.cml"
    path.write_text(text, encoding="utf-8", newline="")
    result = cli.invoke(app, ["check", str(path), *options])
    return result.exit_code, result.output.replace(str(path), "doc.cml")


def test_counts_the_blocks_of_a_good_document(cli: CliRunner, tmp_path: Path) -> None:
    assert check(cli, tmp_path, GOOD) == (0, "doc.cml: 2 calls, 1 interrupt, 1 trap, 5 texts\n")


def test_reads_standard_input(cli: CliRunner) -> None:
    result = cli.invoke(app, ["check", "-"], input="[TRAP] [END]")
    assert (result.exit_code, result.output) == (0, "<stdin>: 0 calls, 0 interrupts, 1 trap, 0 texts\n")


def test_shows_an_error_with_its_line_and_a_caret(cli: CliRunner, tmp_path: Path) -> None:
    code, output = check(cli, tmp_path, "one\ntwo [CALL] a [HEAD] f(x=) [END] three\n")
    assert code == 1
    first, line, caret, last = output.splitlines()
    assert first.startswith("doc.cml:2:25: bad_body: ")
    assert line == "    two [CALL] a [HEAD] f(x=) [END] three"
    assert caret.index("^") == line.index(")")
    assert last == "doc.cml: 1 error"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x [END]", "doc.cml:1:3: stray:"),
        ("[CALL] a", "doc.cml:1:9: unterminated:"),
        ("[CALL] all [HEAD] f() [END]", "doc.cml:1:8: reserved_id:"),
        ("[CALL] 1a [HEAD] f() [END]", "doc.cml:1:8: bad_id:"),
        ("[CALL] f(x=1, x=2) [END]", "doc.cml:1:15: repeated_argument:"),
        ("[CALL] f( [TRAP] [END]", "doc.cml:1:11: open_in_block:"),
        ("[TRAP] any [END]", "doc.cml:1:"),
        ("one\r\ntwo [END]\r\n", "doc.cml:2:5: stray:"),
        ("\ufeffx [END]", "doc.cml:1:3: stray:"),
    ],
)
def test_names_the_place_and_the_class(cli: CliRunner, tmp_path: Path, text: str, place: str) -> None:
    code, output = check(cli, tmp_path, text)
    assert code == 1
    assert output.startswith(place)


def test_the_caret_stands_under_its_column_behind_wide_characters_and_tabs(cli: CliRunner, tmp_path: Path) -> None:
    _, output = check(cli, tmp_path, "漢字\t[END]")
    _, line, caret, _ = output.splitlines()
    assert line == "    漢字⇥[END]"
    assert caret == " " * (4 + 2 + 2 + 1) + "^"


def test_of_a_long_line_the_part_around_the_error_is_shown(cli: CliRunner, tmp_path: Path) -> None:
    _, output = check(cli, tmp_path, "x" * 5000 + "[END]" + "y" * 5000)
    place, line, caret, _ = output.splitlines()
    assert place.startswith("doc.cml:1:5001:")
    assert len(line) < 120
    assert line[caret.index("^") :].startswith("[END]")


@pytest.mark.parametrize(
    ("text", "code", "column"),
    [
        ("[CALL] a [HEAD] f() [END][CALL] a [HEAD] f() [END]", "duplicate_id", 26),
        ("[CALL] f(x=later) [END]", "unknown_reference", 1),
        ("[TRAP] a [END]", "unknown_id", 1),
        ("[INTR] a [HEAD] 1 [END]", "unknown_id", 1),
    ],
)
def test_finds_what_a_session_would_refuse(cli: CliRunner, tmp_path: Path, text: str, code: str, column: int) -> None:
    exit_code, output = check(cli, tmp_path, text)
    assert exit_code == 1
    assert output.startswith(f"doc.cml:1:{column}: {code}: ")
    assert check(cli, tmp_path, text, "--no-session")[0] == 0


def test_a_trap_on_any_of_several_needs_one_that_exists(cli: CliRunner, tmp_path: Path) -> None:
    assert check(cli, tmp_path, "[CALL] a [HEAD] f() [END][TRAP] any a,b [END]")[0] == 0
    assert check(cli, tmp_path, "[CALL] a [HEAD] f() [END][TRAP] all a,b [END]")[0] == 1


def test_takes_the_other_body_language(cli: CliRunner, tmp_path: Path) -> None:
    text = '[CALL] {"name": "f", "arguments": {}} [END]'
    assert check(cli, tmp_path, text)[0] == 1
    assert check(cli, tmp_path, text, "--body", "json_call")[0] == 0


def test_shows_fifty_errors_and_counts_the_rest(cli: CliRunner, tmp_path: Path) -> None:
    _, output = check(cli, tmp_path, "[END]\n" * 60)
    assert output.splitlines()[-2:] == ["doc.cml: 10 more errors", "doc.cml: 60 errors"]


def test_control_characters_of_the_document_do_not_reach_the_terminal(cli: CliRunner, tmp_path: Path) -> None:
    _, output = check(cli, tmp_path, "\x1b[2J [END]")
    assert "\x1b" not in output
    assert "␛[2J [END]" in output


def test_what_is_no_document_is_a_fault_of_the_asking(cli: CliRunner, tmp_path: Path) -> None:
    missing = cli.invoke(app, ["check", str(tmp_path / "none.cml")])
    assert missing.exit_code == 2
    assert missing.output == f"asynclm: {tmp_path / 'none.cml'}: No such file or directory\n"
    (tmp_path / "bytes").write_bytes(b"abc\xff")
    binary = cli.invoke(app, ["check", str(tmp_path / "bytes")])
    assert (binary.exit_code, binary.output) == (2, f"asynclm: {tmp_path / 'bytes'}: not UTF-8 at byte 3\n")
