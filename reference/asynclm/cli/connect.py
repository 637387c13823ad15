"""Where a session runs: a target, or a server of our own in this process on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from asynclm.cli.engines import EngineChoice, open_engine
from asynclm.cli.faults import CliError
from asynclm.cli.token import read_token

if TYPE_CHECKING:
    from asynclm.client import AsyncLM


@dataclass(frozen=True, kw_only=True)
class TargetChoice:
    """What the command line says of where to connect; without `address`, to a server of our own."""

    address: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    local: EngineChoice = field(default_factory=EngineChoice)


@asynccontextmanager
async def connected(target: TargetChoice) -> AsyncIterator[AsyncLM]:
    """A client; it connects with its first rpc.

    Raises:
        CliError: the target is not one, or the engine cannot be opened.
    """
    from asynclm.client import AsyncLM

    if target.address is None:
        async with _local_server(target.local) as address, AsyncLM(address) as llm:
            yield llm
        return
    try:
        llm = AsyncLM(target.address, token=read_token(target.token_file), ca_file=target.ca_file)
    except ValueError as error:
        raise CliError(str(error)) from None
    async with llm:
        yield llm


@asynccontextmanager
async def _local_server(choice: EngineChoice) -> AsyncIterator[str]:
    from asynclm.server.app import Server
    from asynclm.server.options import ServerOptions

    engine = await asyncio.to_thread(open_engine, choice)
    async with Server(engine, ServerOptions(port=0)) as server:
        yield server.address
