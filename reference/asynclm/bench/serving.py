"""`asynclm serve` as a process of its own, and what the system says of its memory."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asynclm.bench.processes import STOP_S, ProcessError

_ASYNCLM = "from asynclm.cli.main import main; main()"
_LISTENING = "listening on "


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A server that is up.

    Attributes:
        address: where it listens.
        pid: its process.
    """

    address: str
    pid: int

    @property
    def rss_bytes(self) -> int:
        """Memory that it has in RAM now."""
        return self._status("VmRSS")

    @property
    def peak_rss_bytes(self) -> int:
        """The most that it ever had."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[ServedModel]:
    """Runs `asynclm serve --port 0 arguments…` until the block is left.

    Raises:
        ProcessError: it ended before it listened; what it wrote is in the terminal.
    """
    command = [sys.executable, "-c", _ASYNCLM, "serve", "--port", "0", "--drain-seconds", "1", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith(_LISTENING)), "")
        if not line:
            raise ProcessError(f"asynclm serve {' '.join(arguments)} ended with {process.wait()}, not listening")
        yield ServedModel(line.removeprefix(_LISTENING).split()[0], process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
