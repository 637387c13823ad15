"""Short prompts in which the model's own sampling decides, and the tools for them."""

from __future__ import annotations

import ast
import datetime
import operator
from collections.abc import Callable
from dataclasses import dataclass

from asynclm.tools import ToolError, ToolSet, tool

_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


@dataclass(frozen=True)
class OwnPrompt:
    """A question, the tools it may use, and how long the answer may be."""

    text: str
    tools: tuple[str, ...]
    max_new_tokens: int = 64


def own_prompts() -> tuple[OwnPrompt, ...]:
    """The prompts."""
    return (
        OwnPrompt("Use the calculator to work out 17 * 23.", ("calculate",)),
        OwnPrompt("What day of the week is 2026-03-14? Call the function.", ("weekday",)),
        OwnPrompt("Count the words of: to be or not to be", ("count_words",)),
    )


def own_tools() -> ToolSet:
    """The tools of the prompts."""
    return ToolSet([calculate, weekday, count_words])


@tool(expected_duration_ms=5, cacheable=True, idempotent=True, side_effects="none")
def calculate(expression: str) -> float:
    """Works out an arithmetic expression.

    Args:
        expression: numbers, + - * / and brackets.
    """
    try:
        return _value(ast.parse(expression[:200], mode="eval").body)
    except (SyntaxError, ZeroDivisionError, ValueError) as error:
        raise ToolError(f"cannot work out {expression[:80]!r}: {error}", type="arithmetic") from None


@tool(expected_duration_ms=5, cacheable=True, idempotent=True, side_effects="none")
def weekday(date: datetime.date) -> str:
    """The day of the week of a date.

    Args:
        date: the date, as YYYY-MM-DD.
    """
    return date.strftime("%A")


@tool(expected_duration_ms=5, cacheable=True, idempotent=True, side_effects="none")
def count_words(text: str) -> int:
    """Counts words.

    Args:
        text: the text.
    """
    return len(text.split())


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op, operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand))
    raise ValueError("only numbers, + - * / and brackets")
