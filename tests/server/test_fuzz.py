"""Random sessions against one server over a real socket: every stream keeps every rule, and the server serves on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.server.actor import Actor
from tests.server.harness import Harness
from tests.server.stories import SERVER_TOOLS, STORIES, Story

from asynclm.engine.script import ScriptEnd, ScriptText
from asynclm.engine.scripted import open_engine
from asynclm.server.app import Server
from asynclm.server.options import ServerLimits, ServerOptions
from asynclm.session.config import Limits
from asynclm.session.effects import Finished
from asynclm.session.state import FinishReason
from asynclm.tools.toolset import ToolSet

TOGETHER = 3
"""Sessions that run beside each other in one example."""

FUZZ = settings(
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # over a socket no example is quite the same twice: nothing to shrink
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


class World:
    """One server, one client and one event loop for all examples."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.names = itertools.count()
        self.harness: Harness = self.runner.run(self._open())

    async def _open(self) -> Harness:
        options = ServerOptions(
            port=0,
            limits=ServerLimits(keep_finished=50),
            session_limits=Limits(max_empty_traps=8),
            drain_seconds=0.0,
        )
        server = Server(open_engine(), options, ToolSet(SERVER_TOOLS))
        await server.start()
        return Harness(server, grpc.aio.insecure_channel(server.address))

    def close(self) -> None:
        self.runner.run(self._close())
        self.runner.close()

    async def _close(self) -> None:
        await self.harness.channel.close()
        await self.harness.server.stop()

    def play(self, stories: list[Story]) -> None:
        self.runner.run(self._play(stories))

    async def _play(self, stories: list[Story]) -> None:
        actors = [Actor(self.harness, story) for story in stories]
        await asyncio.gather(*(actor.play(f"s{next(self.names) % 100}") for actor in actors))
        assert not self.harness.server.hub.registry.open_sessions

    def serves_on(self) -> None:
        self.runner.run(self._serves_on())

    async def _serves_on(self) -> None:
        await self.harness.load("after", ScriptText("fine"), ScriptEnd())
        session = await self.harness.session(model="script:after")
        assert (await session.until(Finished)).reason is FinishReason.STOP


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    opened = World()
    yield opened
    opened.serves_on()
    opened.close()


@settings(FUZZ, max_examples=100)
@given(stories=st.lists(STORIES, min_size=TOGETHER, max_size=TOGETHER))
def test_random_sessions_keep_the_rules(world: World, stories: list[Story]) -> None:
    world.play(stories)


@pytest.mark.slow
@pytest.mark.timeout(1_800)  # 2,000 sessions take minutes, and more beside other work
@settings(FUZZ, max_examples=2_000, derandomize=False)
@given(stories=st.lists(STORIES, min_size=TOGETHER, max_size=TOGETHER))
def test_many_random_sessions_keep_the_rules(world: World, stories: list[Story]) -> None:
    world.play(stories)
