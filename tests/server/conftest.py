"""Servers for the tests, each stopped at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from tests.server.harness import Harness, Serve

from asynclm.engine.scripted import open_engine
from asynclm.server.app import Server
from asynclm.server.options import ServerLimits, ServerOptions
from asynclm.tools.toolset import ToolSet


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers with given tools and options; each is stopped at the end."""
    opened: list[tuple[Server, grpc.aio.Channel]] = []

    async def start(
        tools: Sequence[Any] = (), *, limits: ServerLimits | None = None, engine: Any = None, **options: Any
    ) -> Harness:
        server = Server(
            engine or open_engine(),
            ServerOptions(port=0, limits=limits or ServerLimits(), drain_seconds=0.0, **options),
            ToolSet(tools),
        )
        await server.start()
        channel = grpc.aio.insecure_channel(
            server.address,
            options=[("grpc.max_send_message_length", 64 << 20), ("grpc.max_receive_message_length", 64 << 20)],
        )
        opened.append((server, channel))
        return Harness(server, channel)

    yield start
    for server, channel in opened:
        await channel.close()
        await server.stop()
