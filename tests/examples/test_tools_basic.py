"""The example tools do what they say."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from asynclm.cml.control import Status
from asynclm.tools import ToolCall, ToolExecutor, ToolSet, ToolUpdate, load_tools

FILE = Path(__file__).parents[2] / "examples" / "tools_basic.py"


@pytest.fixture(scope="module")
def tools() -> ToolSet:
    return load_tools(str(FILE))


async def run(tools: ToolSet, function: str, **arguments: Any) -> list[ToolUpdate]:
    updates: list[ToolUpdate] = []
    over = asyncio.Event()

    def listen(update: ToolUpdate) -> None:
        updates.append(update)
        if update.final:
            over.set()

    executor = ToolExecutor(tools, on_update=listen)
    executor.submit(
        ToolCall(session_id="s", index=0, function=function, arguments_json=json.dumps(arguments, default=str))
    )
    await over.wait()
    await executor.aclose()
    return updates


async def result(tools: ToolSet, function: str, **arguments: Any) -> Any:
    update = (await run(tools, function, **arguments))[-1]
    assert update.status is Status.OK, update.payload
    return json.loads(update.payload)


async def error(tools: ToolSet, function: str, **arguments: Any) -> str:
    update = (await run(tools, function, **arguments))[-1]
    assert update.status is Status.ERROR, update.payload
    return str(json.loads(update.payload)["type"])


def test_they_load(tools: ToolSet) -> None:
    assert tools.names == ("clock", "calculate", "count_words", "query_sqlite")


async def test_clock(tools: ToolSet) -> None:
    assert datetime.fromisoformat(await result(tools, "clock", zone="Europe/Zurich")).utcoffset() is not None
    assert await error(tools, "clock", zone="Moon/Base") == "unknown_zone"
    assert await error(tools, "clock", zone="../etc/passwd") == "unknown_zone"


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2 * (3 + 4) ** 2", 98), ("-7 // 2 + 7 % 4", -1), ("sqrt(16) + floor(pi)", 7.0), ("1/4", 0.25)],
)
async def test_calculate(tools: ToolSet, expression: str, value: float) -> None:
    assert await result(tools, "calculate", expression=expression) == value


@pytest.mark.parametrize(
    ("expression", "type"),
    [
        ("1 / 0", "arithmetic"),
        ("sqrt(-1)", "arithmetic"),
        ("9 ** 9 ** 9 ** 9", "arithmetic"),
        ("1 +", "syntax"),
        ("__import__('os')", "syntax"),
        ("().__class__", "syntax"),
        ("True", "syntax"),
        ("1" * 301, "invalid_arguments"),
    ],
)
async def test_calculate_refuses(tools: ToolSet, expression: str, type: str) -> None:
    assert await error(tools, "calculate", expression=expression) == type


async def test_count_words(tools: ToolSet, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("One two two.\nThree three three!\n")
    updates = await run(tools, "count_words", path=path, top=2)
    assert [update.status for update in updates] == [Status.PROGRESS, Status.OK]
    assert json.loads(updates[-1].payload) == {
        "lines": 2,
        "words": 6,
        "characters": 32,
        "frequent": {"three": 3, "two": 2},
    }
    assert await error(tools, "count_words", path=tmp_path / "none") == "not_readable"
    assert await error(tools, "count_words", path=path, top=99) == "invalid_arguments"


async def test_query_sqlite(tools: ToolSet, tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (n INTEGER, name TEXT)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"row {n}") for n in range(300)])
    connection.commit()
    connection.close()
    found = await result(tools, "query_sqlite", database=path, sql="SELECT * FROM t WHERE n < 2")
    assert found == {"columns": ["n", "name"], "rows": [[0, "row 0"], [1, "row 1"]], "more": False}
    assert (await result(tools, "query_sqlite", database=path, sql="SELECT n FROM t"))["more"] is True
    assert await error(tools, "query_sqlite", database=path, sql="DELETE FROM t") == "sqlite"
    assert await error(tools, "query_sqlite", database=tmp_path / "none.db", sql="SELECT 1") == "sqlite"
