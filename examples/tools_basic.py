"""A few real tools that need no network: give them to a server with `asynclm serve --tools examples/tools_basic.py`.

They show what a typed function becomes: plain and async functions, bounds and choices in annotations, errors for the
model, progress from a generator, and hints (expected duration, cacheable, side effects) that the runtime acts on.
"""

from __future__ import annotations

import ast
import asyncio
import math
import operator
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field

from asynclm.tools import Progress, Result, ToolContext, ToolError, tool


@tool(side_effects="none", idempotent=True, expected_duration_ms=5)
def clock(zone: str = "UTC") -> str:
    """Tells the date and time.

    Args:
        zone: a time zone as in "Europe/Zurich".
    """
    try:
        return datetime.now(ZoneInfo(zone)).isoformat(timespec="seconds")
    except (ZoneInfoNotFoundError, ValueError):
        raise ToolError(f"there is no time zone {zone[:60]!r}; one is Europe/Zurich", type="unknown_zone") from None


BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
FUNCTIONS = {
    name: getattr(math, name) for name in ("sqrt", "exp", "log", "log10", "sin", "cos", "tan", "floor", "ceil")
}
CONSTANTS = {"pi": math.pi, "e": math.e}


@tool(cacheable=True, expected_duration_ms=5)
def calculate(expression: Annotated[str, Field(max_length=300)]) -> float:
    """Evaluates an arithmetic expression.

    Args:
        expression: numbers, + - * / // % **, parentheses, pi, e, and sqrt exp log log10 sin cos tan floor ceil.
    """
    try:
        value: float = evaluate(ast.parse(expression, mode="eval").body)
    except SyntaxError:
        raise ToolError(f"not an expression: {expression[:80]!r}", type="syntax") from None
    except (ArithmeticError, ValueError) as error:
        raise ToolError(f"{expression[:80]!r} has no value: {error}", type="arithmetic") from None
    return value


def evaluate(node: ast.expr) -> Any:
    """Walks the syntax tree; what is not arithmetic is refused, so that nothing else can run."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -evaluate(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            a, b = evaluate(left), evaluate(right)
            if isinstance(op, ast.Pow) and (abs(b) > 1000 or abs(a) > 10**100):
                raise ToolError("the power is too large", type="arithmetic")
            return BINARY[type(op)](a, b)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](evaluate(argument))
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
    raise ToolError(f"not arithmetic: {ast.unparse(node)[:80]!r}", type="syntax")


class WordCount(BaseModel):
    """How long a text is, and what it is about."""

    lines: int
    words: int
    characters: int
    frequent: dict[str, int]


@tool(side_effects="none", idempotent=True, expected_duration_ms=40)
async def count_words(path: Path, top: Annotated[int, Field(ge=0, le=50)] = 5) -> AsyncIterator[Progress | Result]:
    """Counts the lines, words and characters of a text file, and names its most frequent words.

    Args:
        path: the file, UTF-8.
        top: how many words to name.
    """
    try:
        text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"cannot read {str(path)[:120]!r}: {error}", type="not_readable") from None
    yield Progress(f"read {len(text)} characters", 0.5)
    words = re.findall(r"\w+", text.lower())
    frequent = dict(Counter(words).most_common(top))
    yield Result(WordCount(lines=len(text.splitlines()), words=len(words), characters=len(text), frequent=frequent))


MAX_ROWS = 200


@tool(side_effects="none", idempotent=True, expected_duration_ms=30, timeout_ms=10_000)
def query_sqlite(database: Path, sql: str, context: ToolContext) -> dict[str, Any]:
    """Reads from a SQLite database.

    Args:
        database: the database file; it is opened read-only.
        sql: one SELECT statement.
    """
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            # Called every 10,000 instructions: a query that nobody waits for any longer stops.
            connection.set_progress_handler(lambda: int(context.cancelled), 10_000)
            cursor = connection.execute(sql)
            columns = [column[0] for column in cursor.description or ()]
            rows = cursor.fetchmany(MAX_ROWS + 1)
    except sqlite3.Error as error:
        raise ToolError(f"{error}", type="sqlite") from None
    return {"columns": columns, "rows": rows[:MAX_ROWS], "more": len(rows) > MAX_ROWS}
