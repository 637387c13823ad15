"""The conformance tool set: what cases of server-owned calls need of a server.

    asynclm serve --tools examples/tools_conformance.py

A server in another language offers the same tools under the same names; conformance/docs/target-requirements.md has
the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from asynclm.tools import Partial, Progress, Result, tool


@tool(name="conformance.echo", side_effects="none", idempotent=True)
def echo(value: Any) -> Any:
    """Returns its argument."""
    return value


@tool(name="conformance.fail", side_effects="none", idempotent=True)
def fail(message: str) -> None:
    """Fails with a message."""
    raise RuntimeError(message)


@tool(name="conformance.steps", side_effects="none", idempotent=True)
async def steps() -> AsyncIterator[Any]:
    """Tells of its progress, gives a part of its result, then all of it."""
    yield Progress("begun", 0.5)
    yield Partial([1])
    yield Result({"x": [1, 2]})


@tool(name="conformance.hang", side_effects="none", timeout_ms=60_000)
async def hang() -> None:
    """Never answers."""
    await asyncio.Event().wait()


@tool(name="conformance.gone", side_effects="local", timeout_ms=1_000, cancellable=False)
async def gone() -> None:
    """Never answers, and cannot be cancelled."""
    await asyncio.Event().wait()
