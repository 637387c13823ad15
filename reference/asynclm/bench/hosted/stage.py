"""What the columns run on: the endpoint, and `asynclm serve --engine openai` before it for each model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from openai import AsyncOpenAI

from asynclm.bench.hosted.functions import Functions
from asynclm.bench.hosted.policy import Habit
from asynclm.bench.hosted.running import Column, Times, check, ordinary, session
from asynclm.bench.hosted.workload import Task
from asynclm.bench.processes import server_process
from asynclm.bench.serving import serving
from asynclm.client import AsyncLM

ENDPOINT = "asynclm.bench.hosted.endpoint"
TOOLS = "asynclm.bench.hosted.functions:TOOLS"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one task in one column.

    Attributes:
        times: when its tokens came.
        requests: that it took.
        discarded: tokens that the endpoint sent and the session never took.
    """

    times: Times
    requests: int
    discarded: int


class Stage:
    """Runs tasks, and counts at the endpoint what they cost."""

    def __init__(
        self, http: httpx2.AsyncClient, client: AsyncOpenAI, llms: Mapping[Habit, AsyncLM], functions: Functions
    ) -> None:
        self._http = http
        self._client = client
        self._llms = llms
        self._functions = functions

    async def run(self, column: Column, task: Task) -> Run:
        """Runs a task in a column.

        Raises:
            WrongRunError: the run was not the task's.
        """
        await self._http.post("/admin/reset")
        if column.options is None:
            times = await ordinary(self._client, task, column.habit, self._functions)
        else:
            times = await session(self._llms[column.habit], task, column.options)
        check(task, times)
        records = await self._records()
        sent = sum(record["tokens"] for record in records)
        kept = sent if column.options is None else _tokens(task, times)
        return Run(times, len(records), sent - kept)

    async def _records(self) -> list[dict[str, Any]]:
        """The endpoint's records, once no request is open."""
        while True:
            records: list[dict[str, Any]] = (await self._http.get("/admin/requests")).json()["requests"]
            if not any(record["open"] for record in records):
                return records
            await asyncio.sleep(0.01)


def _tokens(task: Task, times: Times) -> int:
    """How many tokens of the endpoint a session has taken."""
    kept = times.trap_tokens - times.side_by_side + sum(len(answer.tokens) for answer in task.answers)
    for call in task.calls:
        future = call.cml_future if call.cml_future is not None and _body(call.cml_future) in times.bodies else None
        kept += len(future or call.cml)
    return kept


def _body(tokens: Iterable[str]) -> str:
    return "".join(tokens).partition("[HEAD]")[2].removesuffix("[END]").strip()


@contextlib.asynccontextmanager
async def stage(columns: Iterable[Column], functions: Functions) -> AsyncIterator[Stage]:
    """Starts everything, and ends it whatever happens.

    Raises:
        ProcessError: a server did not start.
    """
    async with contextlib.AsyncExitStack() as ends:
        url = ends.enter_context(server_process(ENDPOINT))
        http = await ends.enter_async_context(httpx2.AsyncClient(base_url=url))
        client = await ends.enter_async_context(AsyncOpenAI(base_url=f"{url}/v1", api_key="any"))
        llms = {}
        for habit in dict.fromkeys(column.habit for column in columns if column.options is not None):
            address = ends.enter_context(_served(f"{url}/v1", habit))
            llms[habit] = await ends.enter_async_context(AsyncLM(address))
        yield Stage(http, client, llms, functions)


@contextlib.contextmanager
def _served(base_url: str, habit: Habit) -> Iterator[str]:
    """`asynclm serve --engine openai` on the endpoint, and its address."""
    arguments = ("--engine", "openai", "--base-url", base_url, "--model", habit.value, "--tools", TOOLS)
    with serving(*arguments, environment={"OPENAI_API_KEY": "any"}) as served:
        yield served.address
