"""The commands as they are typed: what they print, and what they exit with."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from asynclm.cli import main
from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.faults import CliError, explain
from asynclm.cli.main import app
from asynclm.cli.recording import read_recording
from asynclm.cli.script_file import read_script
from asynclm.cml.control import Control
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptText
from asynclm.session.effects import Tokens

TOOLS = str(Path(__file__).parent / "tools.py")
STORY = (
    'I add, [CALL] a [HEAD] add(a=1, b=2) [END] and shout. [CALL] b [HEAD] shout(text="hi") [END] '
    '[CALL] c [HEAD] refuse(why="no") [END] [TRAP] all [END] Done.'
)


Piped = Callable[[str], None]


def words(text: str) -> str:
    return " ".join(text.split())


def test_help_names_every_command(cli: CliRunner) -> None:
    text = cli.invoke(app, ["--help"]).output
    for command in ("serve", "run", "chat", "check", "info", "replay", "bench", "demo"):
        assert f" {command} " in text
        assert cli.invoke(app, [command, "--help"]).exit_code == 0


def test_help_loads_nothing_heavy() -> None:
    heavy = {"grpc", "torch", "transformers", "llguidance", "numpy", "google.protobuf", "lark", "pydantic"}
    code = (
        "import sys; from asynclm.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    )
    shown = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


def test_version(cli: CliRunner) -> None:
    assert cli.invoke(app, ["--version"]).output.startswith("asynclm ")


# --- faults ------------------------------------------------------------------------------------------------------


def test_a_wrong_option_is_a_usage_error(cli: CliRunner) -> None:
    result = cli.invoke(app, ["run", "hi", "--mode", "both"])
    assert result.exit_code == 2
    assert "--mode" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", " "], 2, "PROMPT: is empty"),
        (["run", "hi", "--tools", "no.such.module"], 2, "there is no module 'no"),
        (["run", "hi", "--tools", "none.py"], 2, "there is no file none.py"),
        (["run", "hi", "--tools", TOOLS, "--tools", f"{TOOLS}:add"], 2, "'add' is declared twice"),
        (["run", "hi", "--temperature", "9"], 2, "--temperature is 9.0; allowed: 0 to 5"),
        (["run", "hi", "--top-p", "0"], 2, "--top-p is 0.0; allowed: above 0, up to 1"),
        (["run", "hi", "--repetition-penalty", "0"], 2, "--repetition-penalty is 0.0; allowed: above 0, up to 10"),
        (["run", "hi", "--engine", "warp"], 2, "--engine is 'warp'; allowed: openai, scripted, torch"),
        (["run", "hi", "--target", "nowhere"], 2, "target 'nowhere': give host:port"),
        (["run", "hi", "--target", "127.0.0.1:1"], 3, "127.0.0.1:1: "),
        (["info", "127.0.0.1:1"], 3, "127.0.0.1:1: "),
        (["info", "127.0.0.1:1", "--token-file", "none"], 2, "--token-file none: No such file"),
        (["serve", "--engine", "warp", "--port", "0"], 2, "--engine is 'warp'"),
        (["serve", "--port", "70000"], 2, "port is 70000; allowed: 0"),
        (["serve", "--host", "0.0.0.0"], 2, "--insecure-allow-remote"),
        (["serve", "--tls-cert", "cert.pem"], 2, "--tls-cert and --tls-key: give both or neither"),
        (["serve", "--tls-ca", "ca.pem"], 2, "--tls-ca needs --tls-cert and --tls-key"),
        (["serve", "--tls-cert", "cert.pem", "--tls-key", "key.pem"], 2, "--tls-cert: there is no file cert.pem"),
        (["serve", "--tools", "no.such.module"], 2, "there is no module 'no"),
        pytest.param(
            ["serve", "--model", "./nowhere", "--port", "0"],
            2,
            "model './nowhere': there is no such folder",
            marks=pytest.mark.slow,
        ),
        (["bench", "nothing"], 2, "benchmark 'nothing': there are"),
        (["demo", "--output", "/dev/null/x"], 2, "--output /dev/null/x: "),
    ],
)
def test_expected_faults_are_one_line(cli: CliRunner, arguments: list[str], code: int, message: str) -> None:
    result = cli.invoke(app, arguments)
    assert result.exit_code == code
    assert len(result.output.splitlines()) == 1
    assert result.output.startswith("asynclm: ")
    assert message in result.output


@pytest.mark.parametrize("option", ["--port", "--metrics-port"])
def test_a_port_in_use_is_named_before_a_model_is_loaded(cli: CliRunner, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        given = ["--port", "0", option, str(port)]
        result = cli.invoke(app, ["serve", *given, "--model", "./nowhere"])
    assert result.exit_code == 2
    assert f"{option} {port}: cannot listen on 127.0.0.1:{port}" in result.output


def test_a_token_file_holds_one_token(cli: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "token"
    for content in ("", "two words", "caf\u00e9"):
        path.write_text(content)
        result = cli.invoke(app, ["info", "127.0.0.1:1", "--token-file", str(path)])
        assert (result.exit_code, "has to hold one token" in result.output) == (2, True)


def test_verbose_shows_the_traceback_of_a_fault(cli: CliRunner) -> None:
    result = cli.invoke(app, ["--verbose", "run", "hi", "--engine", "warp"])
    assert result.exit_code == 2
    assert "Traceback" in result.output
    assert result.output.splitlines()[-1].startswith("asynclm: --engine is 'warp'")


def test_a_fault_of_the_program_is_said_to_be_one(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("something\nodd")

    monkeypatch.setattr("asynclm.cli.script_file.read_script", broken)
    monkeypatch.setattr("asynclm.cli.talk.load_all", broken)
    result = cli.invoke(app, ["run", "hi", "--engine", "scripted"])
    assert result.exit_code == ExitCode.INTERNAL
    assert result.output == (
        "asynclm: fault of this program: RuntimeError: something odd (`asynclm --verbose …` shows where)\n"
    )


def test_of_several_faults_the_expected_one_is_told_only_if_all_are() -> None:
    group = ExceptionGroup("both", [CliError("one"), OSError(2, "No such file", "x")])
    told = explain(group)
    assert told is not None
    assert str(told) == "one"
    assert explain(ExceptionGroup("both", [CliError("one"), ValueError()])) is None
    assert explain(ValueError()) is None


def test_a_reader_that_goes_away_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(main, "app", broken)
    monkeypatch.setattr("sys.stderr", type("Closed", (), {"close": lambda self: None})())
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == ExitCode.FAILED


def test_every_command_is_a_typer_command() -> None:
    assert isinstance(app, typer.Typer)
    assert {command.callback.__name__ for command in app.registered_commands if command.callback} == {
        "serve",
        "run",
        "chat",
        "check",
        "info",
        "replay",
        "bench",
        "demo",
    }


# --- against a server --------------------------------------------------------------------------------------------


def test_info_says_what_a_server_is(cli: CliRunner, served: str) -> None:
    result = cli.invoke(app, ["info", served])
    assert result.exit_code == 0
    text = words(result.output)
    for said in (
        "implementation asynclm-reference",
        "model scripted",
        "[CALL] = <|call|>",
        "shout text 5 ms cacheable",
    ):
        assert said in text
    assert "measured" in text


def test_info_for_programs(cli: CliRunner, served: str) -> None:
    found = json.loads(cli.invoke(app, ["info", served, "--json"]).output)
    assert found["models"][0]["name"] == "scripted"
    assert found["tools"][0]["name"] == "shout"
    assert "grammar" in found["capabilities"]


def test_run_in_a_pipe(cli: CliRunner, served: str, tmp_path: Path) -> None:
    script, record = tmp_path / "story.cml", tmp_path / "story.jsonl"
    script.write_text(STORY)
    arguments = ["run", "hi", "--target", served, "--script", str(script), "--record", str(record)]
    arguments += ["--tools", f"{TOOLS}:client_tools", "--constraints", "static"]
    result = cli.invoke(app, arguments)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert "tools add, refuse, never, shout" in lines[0]
    assert "call      a add(a=1, b=2)" in lines
    assert 'start     b shout {"text": "hi"}' in lines
    assert [line.split(" (")[0] for line in lines if line.startswith("interrupt a")] == ["interrupt a ok 3"]
    assert [line.split(" (")[0] for line in lines if line.startswith("interrupt b")] == ['interrupt b ok "HI"']
    assert any(line.startswith('interrupt c error {"type": "refused", "message": "no"') for line in lines)
    assert "text      Done." in lines
    replayed = cli.invoke(app, ["replay", "--instant", str(record)])
    assert replayed.output == result.output


def test_run_ends_at_a_stop_string(cli: CliRunner, served: str, tmp_path: Path) -> None:
    script, record = tmp_path / "story.cml", tmp_path / "story.jsonl"
    script.write_text("One, two, three, four.")
    arguments = ["run", "hi", "--target", served, "--script", str(script), "--record", str(record)]
    result = cli.invoke(app, [*arguments, "--stop", "five", "--stop", ", th", "--logprobs", "2"])
    assert result.exit_code == 0
    assert "text      One, two" in result.output.splitlines()
    assert "finished  stop string (the stop string ', th' was written)" in result.output
    reports = [recorded.event.report for recorded in read_recording(record)]
    tokens = [report for report in reports if isinstance(report, Tokens)]
    assert sum(len(report.ranks) for report in tokens) == len("One, two, th")
    assert all(len(report.top_logprobs) == len(report.ids) for report in tokens)


def stepping(script: Path, served: str) -> list[str]:
    script.write_text("One two three four.")
    return ["run", "hi", "--target", served, "--script", str(script), "--step", "7"]


def test_piped_lines_are_sent_as_they_come(cli: CliRunner, served: str, tmp_path: Path, piped: Piped) -> None:
    piped("and five\n\n\n\n\n")
    result = cli.invoke(app, stepping(tmp_path / "story.cml", served))
    assert result.exit_code == 0
    assert "interrupt @user ok and five (" in result.output
    assert "finished  stop" in result.output


def test_a_session_that_nobody_can_carry_on_ends(cli: CliRunner, served: str, tmp_path: Path, piped: Piped) -> None:
    piped("")
    result = cli.invoke(app, stepping(tmp_path / "story.cml", served))
    assert "note      decoding is held: out of credit, Enter grants 7 tokens" in result.output
    assert "finished  finished by client" in result.output


def test_without_input_nothing_is_read(cli: CliRunner, served: str, tmp_path: Path, piped: Piped) -> None:
    piped("never sent\n")
    script = tmp_path / "story.cml"
    script.write_text("One.")
    result = cli.invoke(app, ["run", "hi", "--target", served, "--script", str(script), "--no-input"])
    assert result.exit_code == 0
    assert "never sent" not in result.output


def test_a_prompt_from_standard_input(cli: CliRunner, served: str, tmp_path: Path) -> None:
    script = tmp_path / "story.cml"
    script.write_text("Yes.")
    arguments = ["run", "-", "--target", served, "--script", str(script), "--view", "plain"]
    result = cli.invoke(app, arguments, input="is it?\n")
    assert result.exit_code == 0
    assert "text      Yes." in result.output


def test_a_refusal_names_the_field(cli: CliRunner, served: str) -> None:
    result = cli.invoke(app, ["run", "hi", "--target", served, "--model", "nothing"])
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert "model" in result.output
    assert "nothing" in result.output


def test_chat_out_of_a_pipe_goes_turn_by_turn(cli: CliRunner, served: str, tmp_path: Path, piped: Piped) -> None:
    script = tmp_path / "story.cml"
    script.write_text("First answer.")
    piped("\nhello\nmore\r\nand more")
    result = cli.invoke(app, ["chat", "--target", served, "--script", str(script)])
    lines = result.output.splitlines()
    assert lines[0] == "note      › hello"
    assert "text      First answer." in lines
    said = [line.partition(" (")[0] for line in lines if line.startswith("interrupt")]
    assert said == ["interrupt @user ok more", "interrupt @user ok and more"]
    assert lines.index("text      First answer.") < lines.index(f"{said[0]} (after the end of the text, token 14)")
    assert any(line.startswith("finished  ") for line in lines)


def test_chat_without_a_word_does_nothing(cli: CliRunner, served: str, piped: Piped) -> None:
    piped("\n\n")
    result = cli.invoke(app, ["chat", "--target", served])
    assert (result.exit_code, result.output) == (0, "")


def test_a_recording_that_cannot_be_written_is_named(cli: CliRunner, served: str) -> None:
    result = cli.invoke(app, ["run", "hi", "--target", served, "--record", "/nowhere/x.jsonl"])
    assert (result.exit_code, result.output) == (2, "asynclm: /nowhere/x.jsonl: No such file or directory\n")


# --- scripts -----------------------------------------------------------------------------------------------------


def test_a_script_is_cml_text(tmp_path: Path) -> None:
    path = tmp_path / "story.cml"
    path.write_text("Say \\[END]. [CALL] a [HEAD] f(x=1) [END] [TRAP] [END]\n")
    assert read_script(path) == [
        ScriptText("Say [END]. "),
        ScriptControl(Control.CALL),
        ScriptText("a"),
        ScriptControl(Control.HEAD),
        ScriptText("f(x=1)"),
        ScriptControl(Control.END),
        ScriptText(" "),
        ScriptControl(Control.TRAP),
        ScriptControl(Control.END),
        ScriptEnd(),
    ]


@pytest.mark.parametrize("content", [b"", b"\xff"])
def test_what_is_no_script_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "story.cml"
    path.write_bytes(content)
    with pytest.raises(CliError, match=f"--script {path}: "):
        read_script(path)


def test_recordings_of_this_version_are_read(tmp_path: Path) -> None:
    # A line as the first version wrote it: it has to be read for ever.
    path = tmp_path / "old.jsonl"
    path.write_text(
        '{"format":"asynclm-recording","version":1,"target":"t","protocol":"asynclm.v1"}\n'
        '{"at_ms":12.5,"event":{"sequence":"2","token_index":"3","time_ms":"12","tokens":{"ids":[7],"text":"I"}}}\n'
    )
    (item,) = read_recording(path)
    assert (item.at_ms, item.event.sequence, item.event.token_index, item.event.time_ms) == (12.5, 2, 3, 12)
    assert item.event.report == Tokens(token_index=3, ids=(7,), text="I")
