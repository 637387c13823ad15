"""Copied arguments: strings that have to be spans of what was asked or of what was found [CALL-100 to CALL-105].

A parameter opts in by an annotation in its schema. What a model copies it cannot misremember or make up.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from typing import Any

from asynclm.cml.schema_references import nodes

COPY_KEYWORD = "x-asynclm-copy"
"""Stands in the schema of a parameter, beside `"type": "string"`; its value is a `CopyFrom`."""


class CopyFrom(enum.StrEnum):
    """Whose text an argument is a span of."""

    REQUEST = "request"
    """The user's messages, at the start and since."""
    RESULTS = "results"
    """The results of calls that were delivered so far."""
    ANY = "any"
    """Either."""


def copied_parameters(schema: Mapping[str, Any]) -> Mapping[str, CopyFrom]:
    """The parameters of a valid schema that are copied, by name.

    Raises:
        ValueError: the keyword stands elsewhere than on a parameter of type string, or says something else.
    """
    found: dict[str, CopyFrom] = {}
    parameters: Mapping[str, Any] = schema.get("properties", {})
    for name, parameter in parameters.items():
        if isinstance(parameter, Mapping) and COPY_KEYWORD in parameter:
            path = f"parameters/properties/{name}"
            if parameter.get("type") != "string":
                raise ValueError(f"{path}: {COPY_KEYWORD} needs a parameter of type 'string'")
            try:
                found[name] = CopyFrom(parameter[COPY_KEYWORD])
            except ValueError:
                said, known = str(parameter[COPY_KEYWORD])[:80], ", ".join(CopyFrom)
                raise ValueError(f"{path}/{COPY_KEYWORD} is {said!r}; allowed: {known}") from None
    direct = {id(parameter) for parameter in parameters.values()}
    for path, node in nodes(schema, "parameters"):
        if COPY_KEYWORD in node and id(node) not in direct:
            raise ValueError(f"{path}: {COPY_KEYWORD} stands on a parameter itself, not inside one")
    return found


def texts_of(payload: str) -> Iterator[str]:
    """The texts of a payload, which spans are taken from: its strings and the names of its members, unescaped.

    Numbers are texts as they are spelled. One that cannot be read has none.
    """
    try:
        value = json.loads(payload, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if value:
                yield value
        elif isinstance(value, list):
            stack += reversed(value)
        elif isinstance(value, dict):
            stack += [part for member in reversed(value.items()) for part in reversed(member)]
