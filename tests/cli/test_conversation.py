"""Whole sessions on a server with the scripted engine, with a terminal on a pty for the keyboard.

Nothing waits for time: each step waits until what it needs is on the screen.
"""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.cli.screen import Screen
from tests.cli.tools import client_tools

from asynclm.cli import keyboard as keyboard_module
from asynclm.cli.conversation import Conversation
from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.keyboard import Keyboard
from asynclm.cli.live import LiveView
from asynclm.cli.script_file import load_script
from asynclm.client import AsyncLM
from asynclm.engine.scripted import open_engine
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions

STORY = (
    "Once upon a time there was a fox who lived in a wood and had no name. [CALL] a [HEAD] add(a=1, b=2) [END] The end."
)
STUCK = "Wait for it. [CALL] a [HEAD] never() [END][TRAP] a [END] Never."


class Terminal(io.StringIO):
    """A person at a terminal: what they see, and what they type."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.fd = pty.openpty()
        self.screen = Screen()
        self.console = Console(file=self, force_terminal=True, width=90, height=24, highlight=False)
        self._seen = asyncio.Event()

    def write(self, output: str) -> int:
        self.screen.feed(output)
        self._seen.set()
        return len(output)

    async def shows(self, words: str) -> None:
        async with asyncio.timeout(20):
            while words not in self.screen.text:
                self._seen.clear()
                await self._seen.wait()

    def type(self, text: str) -> None:
        os.write(self.keys, text.encode())

    def hang_up(self) -> None:
        os.close(self.keys)
        os.close(self.fd)


@pytest.fixture
async def llm() -> AsyncIterator[AsyncLM]:
    async with (
        Server(open_engine(), ServerOptions(port=0, drain_seconds=0.0)) as server,
        AsyncLM(server.address) as client,
    ):
        yield client


@pytest.fixture
async def terminal(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Terminal]:
    # The pty is not this process's controlling terminal, so nobody can say that it is in its foreground.
    monkeypatch.setattr(keyboard_module, "_may_read", os.isatty)
    made = Terminal()
    yield made
    made.hang_up()


Start = Callable[..., Any]


@pytest.fixture
async def start(llm: AsyncLM, terminal: Terminal, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a conversation in the background; gives the task of its exit code."""
    tasks: list[asyncio.Task[ExitCode]] = []

    async def hold(script: str, step: int | None, options: dict[str, Any]) -> ExitCode:
        path = tmp_path / "script.cml"
        path.write_text(script)
        options["model"] = await load_script(llm, path, None)
        if step is not None:
            options["credit"] = step
        async with Keyboard(terminal.fd) as keyboard:
            view = LiveView(terminal.console, editor=keyboard.editor)
            try:
                async with llm.session("Tell me a story.", tools=client_tools, **options) as session:
                    return await Conversation(session, view, keyboard, step=step).run()
            finally:
                view.close()

    def begin(script: str, *, step: int | None = None, **options: Any) -> asyncio.Task[ExitCode]:
        tasks.append(asyncio.create_task(hold(script, step, options)))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_typed_while_decoding_lands_in_mid_text(start: Start, terminal: Terminal) -> None:
    running = start(STORY, step=20)
    await terminal.shows("Once upon a time the")
    await terminal.shows("held: out of credit, Enter grants 20 tokens")
    terminal.type("make it shor")
    await terminal.shows("› make it shor")
    terminal.type("t\n")
    terminal.type("\n")
    await terminal.shows("Once upon a time the [INTR] @user [HEAD] make it short [END] re was a fox")
    for _ in range(8):
        terminal.type("\n")
    assert await running is ExitCode.OK
    assert "[INTR] a [HEAD] 3 [END]" in " ".join(terminal.screen.text.split())
    assert "a     add       ok" in terminal.screen.text
    assert "stop · prompt" in terminal.screen.text


async def test_the_terminal_is_left_as_it_was(start: Start, terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.fd)
    running = start(STORY, step=5)
    await terminal.shows("out of credit")
    assert not termios.tcgetattr(terminal.fd)[3] & termios.ICANON
    os.kill(os.getpid(), signal.SIGINT)
    assert await running is ExitCode.INTERRUPTED
    assert termios.tcgetattr(terminal.fd) == before


async def test_ctrl_c_cancels_the_calls_and_prints_the_ledger(start: Start, terminal: Terminal) -> None:
    running = start(STUCK)
    await terminal.shows("waiting for a · ")
    os.kill(os.getpid(), signal.SIGINT)
    assert await running is ExitCode.INTERRUPTED
    rows = terminal.screen.text.splitlines()
    (row,) = [row for row in rows[rows.index("ledger") :] if row.startswith("a  ")]
    assert row.split()[:5] == ["a", "never", "cancelled", "undelivered", "(cancelled"]
    assert "finished by client" in rows[-1]


async def test_a_second_ctrl_c_breaks_off(start: Start, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    running = start(STUCK)
    await terminal.shows("waiting for a · ")
    monkeypatch.setattr("asynclm.client.session.Session.finish", never)  # a server that does not answer
    os.kill(os.getpid(), signal.SIGINT)
    await terminal.shows("Ctrl-C again breaks off")
    os.kill(os.getpid(), signal.SIGINT)
    assert await running is ExitCode.INTERRUPTED
    assert "ledger" not in terminal.screen.text


async def test_ctrl_p_pauses_and_goes_on(start: Start, terminal: Terminal) -> None:
    running = start(STORY, step=10)
    await terminal.shows("out of credit")
    terminal.type("\x10")
    await terminal.shows("held: paused")
    terminal.type("\n" * 20)
    terminal.type("still here\n")
    terminal.type("\x10")
    assert await running is ExitCode.OK
    assert "[INTR] @user [HEAD] still here [END]" in " ".join(terminal.screen.text.split())


async def test_ctrl_d_ends_a_kept_session_once_it_is_idle(start: Start, terminal: Terminal) -> None:
    running = start(STORY, on_end="keep")
    await terminal.shows("idle · ")
    terminal.type("\x04")
    assert await running is ExitCode.OK
    assert "finished by client" in terminal.screen.text


async def test_a_session_that_ends_badly_exits_with_one(start: Start, terminal: Terminal) -> None:
    running = start("[TRAP] [END][TRAP] [END][TRAP] [END]", constraints="static")
    assert await running is ExitCode.FAILED
    assert "stalled" in terminal.screen.text
