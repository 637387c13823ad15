"""The endpoint as a process of its own: `asynclm mock-openai`'s server with the scripted models in it."""

from __future__ import annotations

import asyncio
import signal

from asynclm.bench.hosted.policy import Habit, ScriptedModel
from asynclm.bench.hosted.workload import load_all
from asynclm.bench.processes import READY
from asynclm_adapters.openai_mock.server import MockOpenAI, MockOptions


async def serve() -> None:
    """Serves until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    workloads = load_all()
    pace = MockOptions(ttft_ms=workloads[0].first_token_ms, tpot_ms=workloads[0].token_ms)
    async with MockOpenAI(pace, models={habit.value: ScriptedModel(workloads, habit) for habit in Habit}) as mock:
        print(f"{READY}{mock.url}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve())
