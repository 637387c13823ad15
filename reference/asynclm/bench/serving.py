"""`asynclm serve` as a process of its own, and what the system says of its memory."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from asynclm.bench.processes import announced

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
def serving(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[ServedModel]:
    """Runs `asynclm serve --port 0 arguments…` until the block is left.

    Raises:
        ProcessError: it ended before it listened; what it wrote is in the terminal.
    """
    command = [sys.executable, "-c", _ASYNCLM, "serve", "--port", "0", "--drain-seconds", "1", *arguments]
    with announced(command, _LISTENING, environment) as (address, pid):
        yield ServedModel(address, pid)
