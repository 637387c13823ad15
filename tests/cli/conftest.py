"""A server in a thread of its own, for commands that run an event loop of theirs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.cli.tools import own_tools
from typer.testing import CliRunner

from asynclm.cli import keyboard
from asynclm.engine.scripted import open_engine
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.tools.toolset import ToolSet


@pytest.fixture
def cli() -> CliRunner:
    return CliRunner(env={"COLUMNS": "120", "TERM": "dumb", "NO_COLOR": "1"})


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts words into a pipe that the next command takes for its standard input."""
    opened: list[int] = []

    def put(words: str) -> None:
        reader, writer = os.pipe()
        os.write(writer, words.encode())
        os.close(writer)
        opened.append(reader)
        monkeypatch.setattr(keyboard, "_stdin_fd", lambda: reader)

    yield put
    for reader in opened:
        os.close(reader)


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """The address of a server with the scripted engine and tools of its own."""
    loop = asyncio.new_event_loop()
    started: list[str] = []
    ready = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        async with Server(open_engine(), ServerOptions(port=0, drain_seconds=0.0), ToolSet(own_tools)) as server:
            started.append(server.address)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()
