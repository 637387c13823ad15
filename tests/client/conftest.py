"""A real server with scripted models, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asynclm.client import AsyncLM
from asynclm.engine.scripted import open_engine
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.tools import ToolSet, tool


@tool(cacheable=True)
def double(n: int) -> int:
    """Doubles a number; the server's own."""
    return 2 * n


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(open_engine(), ServerOptions(port=0, drain_seconds=0.0), ToolSet([double])) as running:
        yield running


@pytest.fixture
async def llm(server: Server) -> AsyncIterator[AsyncLM]:
    async with AsyncLM(server.address) as client:
        yield client
