"""A way to a server that breaks when it is told to: what lies between a client and a server, in one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Way:
    """Passes bytes on, between any number of connections and one server.

    Attributes:
        port: where clients connect to.
        clear: set while new connections get through; they wait for it.
        refuses: whether new connections are refused.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._links: set[asyncio.Task[None]] = set()
        self.port = 0
        self.clear = asyncio.Event()
        self.clear.set()
        self.refuses = False

    def cut(self) -> None:
        """Breaks every connection that there is."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        self._writers.add(writer)
        await self.clear.wait()
        up, down = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, down}
        for ends in ((reader, down), (up, writer)):
            link = asyncio.create_task(self._pass_on(*ends))
            self._links.add(link)
            link.add_done_callback(self._links.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def close(self) -> None:
        self.cut()
        if self._links:
            await asyncio.wait(self._links)


@contextlib.asynccontextmanager
async def way_to(server_port: int) -> AsyncIterator[Way]:
    """A way to a server on this machine."""
    way = Way(server_port)
    listening = await asyncio.start_server(way.connected, "127.0.0.1", 0)
    way.port = listening.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        listening.close()
        await way.close()
