"""A call's final arguments: one JSON object, references substituted, checked against the tool's schema."""

from __future__ import annotations

import json
from collections.abc import Mapping

from asynclm.cml.blocks import Invocation, Literal, Reference
from asynclm.cml.toolspec import ToolSpec


def to_json(invocation: Invocation, values: Mapping[Reference, str]) -> str:
    """The arguments as JSON text; literals and substituted values keep their spelling [CALL-032].

    Args:
        invocation: a body whose arguments all have names.
        values: the JSON text of each of its references.
    """
    members = []
    for argument in invocation.arguments:
        value = argument.value.json if isinstance(argument.value, Literal) else values[argument.value]
        members.append(f"{json.dumps(argument.name, ensure_ascii=False)}: {value}")
    return "{" + ", ".join(members) + "}"


def literal_bytes(invocation: Invocation) -> int:
    """Bytes of UTF-8 that the literal arguments take."""
    return sum(len(a.value.json.encode()) for a in invocation.arguments if isinstance(a.value, Literal))


def violation(tool: ToolSpec, arguments: str) -> str | None:
    """Checks final arguments against the tool's schema.

    Returns:
        None if they fit, else one sentence for the model.
    """
    try:
        return tool.violation(json.loads(arguments))
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits and values nested thousands deep are JSON, but no schema can be run on them.
        return f"arguments: cannot be checked: {str(error)[:200]}"
