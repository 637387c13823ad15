"""Reads what is typed while a session runs: character by character from a terminal, line by line from a pipe."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
import sys
import threading
from types import TracebackType

from asynclm.cli.line_editor import Command, Input, LineEditor, Submitted

_PASTE_ON, _PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"
_CHUNK = 4096


class Keyboard:
    """Standard input as a queue of inputs; the terminal is as it was when the block is left.

    Attributes:
        interactive: whether standard input is a terminal that this process may read.
        editor: the line under edit; only an interactive one changes.
        inputs: what was typed.
        changed: set whenever the line under edit has changed; the one who draws it clears it.
    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = _stdin_fd() if fd is None else fd
        self.interactive = _may_read(self._fd)
        self.editor = LineEditor()
        self.inputs: asyncio.Queue[Input] = asyncio.Queue()
        self.changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._saved: list[object] | None = None

    async def __aenter__(self) -> Keyboard:
        self._loop = asyncio.get_running_loop()
        if self.interactive:
            self._enter_cbreak()
            self._loop.add_reader(self._fd, self._read_keys)
            self._loop.add_signal_handler(signal.SIGCONT, self._enter_cbreak)
        elif self._fd >= 0:
            # A file cannot be polled and a pipe may never end: a thread that dies with the process reads both.
            threading.Thread(target=self._read_lines, name="asynclm-stdin", daemon=True).start()
        else:
            self.inputs.put_nowait(Command.END_OF_INPUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, self._loop = self._loop, None
        if self.interactive and loop is not None:
            loop.remove_reader(self._fd)
            loop.remove_signal_handler(signal.SIGCONT)
            self._leave_cbreak()

    def _enter_cbreak(self) -> None:
        import termios
        import tty

        if self._saved is None:
            self._saved = list(termios.tcgetattr(self._fd))
        tty.setcbreak(self._fd, termios.TCSADRAIN)
        if os.isatty(1):
            os.write(1, _PASTE_ON)

    def _leave_cbreak(self) -> None:
        import termios

        if self._saved is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
            self._saved = None
        if os.isatty(1):
            os.write(1, _PASTE_OFF)

    def _read_keys(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except OSError:
            data = b""
        if not data:  # the terminal is gone
            if self._loop is not None:
                self._loop.remove_reader(self._fd)
            self.inputs.put_nowait(Command.END_OF_INPUT)
            return
        for item in self.editor.feed(data):
            self.inputs.put_nowait(item)
        self.changed.set()

    def _read_lines(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        held = ""
        while True:
            try:
                data = os.read(self._fd, _CHUNK)
            except OSError:
                data = b""
            held += decoder.decode(data, final=not data)
            *lines, held = held.split("\n")
            if not data and held:
                lines.append(held)
            for line in lines:
                self._post(Submitted(line.removesuffix("\r")))
            if not data:
                self._post(Command.END_OF_INPUT)
                return

    def _post(self, item: Input) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed this very moment: nobody is left to tell
                loop.call_soon_threadsafe(self.inputs.put_nowait, item)


def _stdin_fd() -> int:
    try:
        return sys.stdin.fileno()
    except (AttributeError, ValueError, OSError):
        return -1


def _may_read(fd: int) -> bool:
    """Whether this is a terminal, and this process is in its foreground: a background one would be stopped."""
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except (OSError, AttributeError):
        return False
