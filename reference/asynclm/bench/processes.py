"""Processes that a benchmark talks to: started, waited for, and ended whatever happens."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

READY = "ready "
"""What a server process writes before its address, on a line of its own, once it can be connected to."""

STOP_S = 10.0


class ProcessError(RuntimeError):
    """A server process did not start; what it wrote is in the terminal."""


@contextlib.contextmanager
def server_process(module: str, *arguments: str) -> Iterator[str]:
    """Runs `python -m module arguments…` and gives the address that it says it is ready at.

    Raises:
        ProcessError: it ended before it was ready.
    """
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = next((line[len(READY) :].strip() for line in process.stdout if line.startswith(READY)), "")
        if not address:
            raise ProcessError(f"python -m {' '.join((module, *arguments))} ended with {process.wait()}, not ready")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
