"""Short prompts in which the model's own sampling decides, and the tools for them."""

from __future__ import annotations

import ast
import datetime
import operator
from collections.abc import Callable

from asynclm.cml.control import Control
from asynclm.engine.script import Script, ScriptControl, ScriptRelease
from asynclm.prompt.template import CmlPart, Message, Role, TextPart
from asynclm.tools import ToolError, ToolSet, tool

_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


FIRST_TOKEN = Script("demo-first-token", (ScriptControl(Control.CALL), ScriptRelease()))
"""Gives the first token, `[CALL]`, and leaves everything after it to the model."""

QUESTIONS = (
    "Use the calculator to work out 17 * 23.",
    "What day of the week is 2026-03-14?",
    "Count the words of: to be or not to be",
)

_EXAMPLES = (
    (
        "Use the calculator to work out 12 * 9.",
        '[CALL] a [HEAD] calculate(expression="12 * 9") [END][TRAP] a [END][INTR] a [HEAD] 108 [END]12 * 9 is 108.',
    ),
    (
        "What day of the week was 2001-01-01?",
        '[CALL] a [HEAD] weekday(date="2001-01-01") [END][TRAP] a [END][INTR] a [HEAD] "Monday" [END]'
        "2001-01-01 was a Monday.",
    ),
    (
        "Count the words of: hello world",
        '[CALL] a [HEAD] count_words(text="hello world") [END][TRAP] a [END][INTR] a [HEAD] 2 [END]There are 2 words.',
    ),
)


def conversation(question: str) -> list[Message]:
    """Three worked examples in CML, then the question."""
    messages = []
    for asked, answer in _EXAMPLES:
        messages.append(Message(Role.USER, (TextPart(asked),)))
        messages.append(Message(Role.ASSISTANT, (CmlPart(answer),)))
    return [*messages, Message(Role.USER, (TextPart(question),))]


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
