"""A server of our own, in this process on a free port, for commands that are given no target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asynclm.cli.engines import EngineChoice, open_engine


@asynccontextmanager
async def local_server(choice: EngineChoice) -> AsyncIterator[str]:
    """Serves on loopback while the block runs; gives the address.

    Raises:
        CliError: the engine cannot be opened.
    """
    from asynclm.server.app import Server
    from asynclm.server.options import ServerOptions

    engine = await asyncio.to_thread(open_engine, choice)
    async with Server(engine, ServerOptions(port=0)) as server:
        yield server.address
