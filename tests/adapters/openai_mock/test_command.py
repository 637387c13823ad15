"""`asynclm mock-openai` as it is typed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from openai import OpenAI
from typer.testing import CliRunner

from asynclm.cli.main import app

COMMAND = "from asynclm.cli.main import main; main()"


@pytest.mark.slow
def test_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"pieces": ["One", " two"]}))
    given = ["mock-openai", "--port", "0", "--script", f"a={script}", "--api-key", "k"]
    process = subprocess.Popen([sys.executable, "-u", "-c", COMMAND, *given], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with OpenAI(base_url=url, api_key="k", max_retries=0) as client:
            reply = client.chat.completions.create(model="script:a", messages=[{"role": "user", "content": "Hi"}])
        assert reply.choices[0].message.content == "One two"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read().endswith("stopped\n")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "port is 70000; allowed: 0 to 65535"),
        (["--ttft-ms", "-1"], "ttft_ms is -1.0; allowed: 0 or more"),
        (["--tokens-per-minute", "0"], "tokens_per_minute is 0; allowed: 1 or more"),
        (["--script", "a"], "--script 'a': give ID=FILE.json"),
        (["--script", "a=none.json"], "none.json: No such file"),
        (["--script", "a=/dev/null"], "--script a=/dev/null: We could not parse the JSON body"),
    ],
)
def test_expected_faults_are_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["mock-openai", *arguments])
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert message in result.output
