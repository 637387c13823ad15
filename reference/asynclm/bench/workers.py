"""Processes that answer jobs: a line of JSON in, a line `RESULT {...}` out; what else they write is kept for errors."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asynclm.bench.peers import PeerError, end_process_group

RESULT = "RESULT "
KEPT_LINES = 20


class WorkerProcess:
    """A process that answers jobs, one at a time, and is stopped in between: idle threads of OpenMP would spin on."""

    def __init__(self, name: str, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        """Starts it; `ready` waits until it can work.

        Args:
            name: for messages.
            command: the program and its arguments.
            variables: further environment variables.
        """
        self.name = name
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
        )

    def ready(self, timeout_s: float) -> None:
        """Waits for its first result, which says that it is ready.

        Raises:
            PeerError: it ended, or was not ready in time.
        """
        self._result(timeout_s)
        self._signal(signal.SIGSTOP)

    def ask(self, job: Mapping[str, Any], timeout_s: float = 300.0) -> dict[str, Any]:
        """Gives it a job and waits for the result.

        Raises:
            PeerError: it ended, or did not answer in time.
        """
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise PeerError(self._told("ended")) from None
        result = self._result(timeout_s)
        self._signal(signal.SIGSTOP)
        return result

    def end(self) -> None:
        """Ends it and its children."""
        self._signal(signal.SIGCONT)
        end_process_group(self._process)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was not read any more
                    stream.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _result(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(timeout_s, give_up)
        timer.start()
        try:
            for line in self._process.stdout:
                text = line.decode(errors="replace").rstrip()
                if text.startswith(RESULT):
                    result: dict[str, Any] = json.loads(text.removeprefix(RESULT))
                    return result
                self._lines.append(text)
        finally:
            timer.cancel()
        raise PeerError(self._told(f"gave no result in {timeout_s:.0f} s" if late.is_set() else "ended"))

    def _told(self, what: str) -> str:
        self._errors.seek(0)
        lines = [*self._lines, *self._errors.read().decode(errors="replace").splitlines()]
        return f"{self.name} {what}; the last that it wrote:\n" + "\n".join(lines[-KEPT_LINES:])


def iomp_of(environment: Path) -> dict[str, str]:
    """`LD_PRELOAD` of Intel's OpenMP in a peer's environment, which vLLM recommends; nothing where it has none."""
    library = environment / "lib" / "libiomp5.so"
    return {"LD_PRELOAD": str(library)} if library.is_file() else {}
