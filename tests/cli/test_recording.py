from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.sessions import async_session
from typer.testing import CliRunner

from asynclm.cli.faults import CliError
from asynclm.cli.main import app
from asynclm.cli.recording import Recorder, read_recording
from asynclm.wire.values import ReceivedEvent, UnknownEvent


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "session.jsonl"
    with Recorder(path, target="localhost:1") as recorder:
        for event in async_session():
            recorder.event(event, event.time_ms + 0.25)
    return path


def test_what_is_read_is_what_was_written(recorded: Path) -> None:
    read = list(read_recording(recorded))
    assert [item.event for item in read] == async_session()
    assert read[10].at_ms == pytest.approx(read[10].event.time_ms + 0.25, abs=0.1)


def test_the_header_names_format_version_and_target(recorded: Path) -> None:
    header, event, *_ = recorded.read_text().splitlines()
    assert json.loads(header) == {
        "format": "asynclm-recording",
        "version": 1,
        "target": "localhost:1",
        "protocol": "asynclm.v1",
    }
    assert json.loads(event)["event"]["started"]["session_id"] == "s-1"


def test_events_of_later_revisions_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    with Recorder(path, target="t") as recorder:
        recorder.event(ReceivedEvent(1, 0, 0, UnknownEvent()), 0.0)
    assert list(read_recording(path)) == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "1: not a JSON object"),
        (["[]"], "1: not a JSON object"),
        (['{"format": "other"}'], "not a recording"),
        (['{"format": "asynclm-recording", "version": 2}'], "version is 2; this program reads version 1"),
        (['{"format": "asynclm-recording", "version": 1}', "{"], "2: not a JSON object: '{'"),
        (['{"format": "asynclm-recording", "version": 1}', '{"at_ms": "x"}'], "2: at_ms is 'x'"),
        (['{"format": "asynclm-recording", "version": 1}', '{"at_ms": 1}'], "2: event: not a server event"),
        (['{"format": "asynclm-recording", "version": 1}', '{"at_ms": 1, "event": {"notice": 1}}'], "2: event:"),
        (
            ['{"format": "asynclm-recording", "version": 1}', '{"at_ms":1,"event":{"state_changed":{"state":99}}}'],
            "2: event:",
        ),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "damaged.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(CliError) as caught:
        list(read_recording(path))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_replay_shows_what_the_session_showed(cli: CliRunner, recorded: Path) -> None:
    result = cli.invoke(app, ["replay", "--instant", str(recorded)])
    assert result.exit_code == 0
    assert "interrupt @user ok Keep it under thirty words, please. (in running text, token 57)" in result.output
    assert "ledger    call mail send_mail ok delivered at token" in result.output


def test_replay_at_speed_shows_the_same(cli: CliRunner, recorded: Path) -> None:
    instant = cli.invoke(app, ["replay", "--instant", str(recorded)]).output
    assert cli.invoke(app, ["replay", "--speed", "1000", str(recorded)]).output == instant


def test_replay_refuses_what_it_cannot_do(cli: CliRunner, tmp_path: Path, recorded: Path) -> None:
    slow = cli.invoke(app, ["replay", "--speed", "0", str(recorded)])
    assert (slow.exit_code, slow.output) == (2, "asynclm: --speed is 0; allowed: above 0, up to 1000\n")
    missing = cli.invoke(app, ["replay", str(tmp_path / "none")])
    assert missing.exit_code == 2
    assert "No such file" in missing.output
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"format": "asynclm-recording", "version": 1}\n')
    assert cli.invoke(app, ["replay", str(empty)]).output == f"asynclm: {empty}: holds no events\n"
