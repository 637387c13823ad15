"""Tools for the command line's tests: `--tools tests/cli/tools.py:client_tools`."""

from __future__ import annotations

import asyncio

from asynclm.tools import ToolError, tool


@tool(side_effects="none", expected_duration_ms=20)
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@tool
def refuse(why: str) -> str:
    """Always fails."""
    raise ToolError(why, type="refused")


@tool
async def never() -> None:
    """Runs until it is cancelled."""
    await asyncio.Event().wait()


@tool(cacheable=True, expected_duration_ms=5)
def shout(text: str) -> str:
    """Makes text loud."""
    return text.upper()


client_tools = [add, refuse, never]
own_tools = [shout]
