"""Processes that a benchmark talks to: started, waited for, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

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
    with announced([sys.executable, "-m", module, *arguments], READY) as (address, _):
        yield address


@contextlib.contextmanager
def announced(
    command: Sequence[str], begins: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """Runs a command until the block is left.

    Args:
        command: what to run.
        begins: how the line begins by which it says that it is ready.
        environment: variables beside this process's own.

    Yields:
        The next word of that line, and the process's id.

    Raises:
        ProcessError: it ended before it was ready.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | dict(environment or {}))
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith(begins)), "")
        if not line:
            raise ProcessError(f"{' '.join(command)} ended with {process.wait()}, not ready")
        yield line.removeprefix(begins).split()[0], process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
