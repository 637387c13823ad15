"""`asynclm run` as a person meets it: a process of its own on a controlling terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOLS = f"{Path(__file__).parent / 'tools.py'}:client_tools"
COMMAND = [sys.executable, "-c", "from asynclm.cli.main import main; main()"]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process on a terminal of its own: what it wrote, and a keyboard."""

    def __init__(self, arguments: list[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.modes = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm"},
        )
        self._slave = slave
        self.output = ""
        self._raw = b""

    def shows(self, words: str) -> None:
        while words not in self.output:
            self._raw += os.read(self._master, 1 << 16)
            self.output = CONTROL.sub("", self._raw.decode(errors="replace"))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    @property
    def now(self) -> list[object]:
        return list(termios.tcgetattr(self._slave))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self._master)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.cml"
    path.write_text(
        "Once upon a time there was a fox. [CALL] a [HEAD] never() [END] It had no name. [TRAP] a [END] The end."
    )
    return path


@pytest.fixture
def terminal(script: Path) -> Iterator[Terminal]:
    arguments = ["run", "hi", "--engine", "scripted", "--script", str(script), "--tools", TOOLS, "--step", "20"]
    made = Terminal(arguments)
    yield made
    made.close()


@pytest.mark.slow
def test_a_person_interrupts_and_then_gives_up(terminal: Terminal) -> None:
    terminal.shows("held: out of credit, Enter grants 20 tokens")
    assert not terminal.now[3] & termios.ICANON  # type: ignore[operator]
    terminal.type("shorter!\n\n")
    terminal.shows("[INTR] @user [HEAD] shorter! [END]")
    terminal.type("\n" * 6)
    terminal.shows("waiting for a · ")
    terminal.type("\x03")
    terminal.shows("finished by client")
    assert terminal.process.wait(30) == 130
    assert terminal.now == terminal.modes
    rows = [line for line in terminal.output.splitlines() if line.startswith("a  ")]
    assert "cancelled" in rows[-1]


@pytest.mark.slow
def test_a_terminal_that_hangs_up_ends_the_session(terminal: Terminal) -> None:
    terminal.shows("held: out of credit")
    terminal.process.send_signal(1)
    assert terminal.process.wait(30) == 130
    assert terminal.now == terminal.modes
