"""How long the demonstration's tools take to answer over a network: seeded, printed, the same for every mode."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

TYPICAL_MS: Mapping[str, int] = {"read_page": 900, "read_attendees": 600, "find_chair": 350, "send_mail": 700}
"""Typical round trips: a page from a far server, a file from a shared drive, a directory query, a mail relay."""

_SPREAD = 0.25
"""Standard deviation of the logarithm: most delays are within a quarter of the typical one, a few are much longer."""


@dataclass(frozen=True)
class Network:
    """The delay of each tool in one run.

    Attributes:
        delays_ms: milliseconds by tool name; a tool that is not named has none.
        sleep: waits so many seconds.
    """

    delays_ms: Mapping[str, int]
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, compare=False)

    @classmethod
    def seeded(cls, seed: int, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> Network:
        """Delays that are spread as on a network, the same for the same seed."""
        generator = random.Random(f"network {seed}")
        delays = {
            name: round(typical * math.exp(generator.gauss(0.0, _SPREAD))) for name, typical in TYPICAL_MS.items()
        }
        return cls(delays, sleep)

    @classmethod
    def none(cls) -> Network:
        """No delays at all: tools answer as fast as they can."""
        return cls({})

    async def wait(self, tool: str) -> None:
        """Waits as long as the network takes for this tool."""
        milliseconds = self.delays_ms.get(tool, 0)
        if milliseconds:
            await self.sleep(milliseconds / 1000.0)

    def describe(self) -> str:
        """One line for people: `read_page 812 ms, find_chair 95 ms`."""
        named = [f"{name} {delay} ms" for name, delay in self.delays_ms.items() if delay]
        return ", ".join(named) or "none"
