"""`asynclm bench hosted`: sessions on a chat API against ordinary tool calling on the same one.

The endpoint is `asynclm mock-openai` at the pace measured on GPT-4o, with a scripted model that reads its messages; the
sessions run through `asynclm serve --engine openai`. Tasks and function times are files. Every task is run in each
column in turn and held against its own bound, which a program that knows nothing of the columns computes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Console
from rich.progress import track

from asynclm.bench.hosted.bound import bound_ms, problem_of
from asynclm.bench.hosted.functions import Functions
from asynclm.bench.hosted.policy import Habit
from asynclm.bench.hosted.report import Measured, metrics, table
from asynclm.bench.hosted.running import Column
from asynclm.bench.hosted.stage import Run, Stage, stage
from asynclm.bench.hosted.workload import Task, Workload, load_all
from asynclm.bench.record import BenchRecord, start

WINDOW_MS = 1000
"""Results wait for each other this long at most: twice what the slowest function takes."""

GATHERED = {"delivery": "lazy", "coalesce_ms": WINDOW_MS}
COLUMNS = (
    Column("sync", "Sync", Habit.ONE),
    Column("sync_parallel", "Sync-Parallel", Habit.READY),
    Column("sync_parallel_bare", "Sync-Parallel, bare JSON", Habit.BARE),
    Column("naive", "naive eager", Habit.TRAPS, {"delivery": "eager"}),
    Column("coalesced", "coalesced", Habit.ENDS, GATHERED),
    Column("futures", "coalesced + futures", Habit.FUTURES, GATHERED),
)
QUICK_TASKS = 3
WIDTH = 150


def run(*, quick: bool = False) -> BenchRecord:
    """Measures every task in every column, and prints the columns beside what the literature has."""
    record = start("hosted")
    workloads = load_all()
    measured = asyncio.run(_measure(workloads, quick=quick))
    Console(width=WIDTH).print(table(COLUMNS, measured))
    return replace(record, metrics=tuple(metrics(COLUMNS, measured)))


async def _measure(workloads: Sequence[Workload], *, quick: bool) -> Mapping[str, Measured]:
    measured = {}
    async with stage(COLUMNS, Functions(workloads)) as on:
        await _column_by_column(on, workloads[0].tasks[0])  # the first of each process is slower
        for workload in workloads:
            tasks = workload.tasks[:QUICK_TASKS] if quick else workload.tasks
            bounds = [bound_ms(problem_of(workload.raw, raw)) for raw in workload.raw["tasks"][: len(tasks)]]
            runs = [
                await _column_by_column(on, task)
                for task in track(tasks, workload.name, console=Console(stderr=True), transient=True)
            ]
            measured[workload.name] = Measured(
                bounds, {column.name: [found[column.name] for found in runs] for column in COLUMNS}
            )
    return measured


async def _column_by_column(on: Stage, task: Task) -> dict[str, Run]:
    return {column.name: await on.run(column, task) for column in COLUMNS}
