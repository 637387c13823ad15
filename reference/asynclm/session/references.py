"""References: the part of a terminal payload that a future selects, as it was spelled [CALL-031, CALL-032]."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from asynclm.cml.blocks import Reference

_DECODER = json.JSONDecoder()
_BLANK = " \t\n\r"
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
"""What bounds a value: a whole string, or a bracket or comma outside strings."""


def select(payload: str, path: tuple[str | int, ...]) -> str:
    """The JSON text that a reference's steps select from a payload.

    Args:
        payload: valid JSON text.
        path: `.name` steps as text, `[index]` steps as numbers.

    Raises:
        LookupError: a step selects nothing; the message names the step.
    """
    text = payload
    for number, step in enumerate(path):
        found = None
        for key, value in _parts(text):
            if key == step and type(key) is type(step):
                found = value
                if isinstance(step, int):
                    break
        if found is None:
            raise LookupError(f"nothing at {_spell(path[: number + 1])}")
        text = found
    return text.strip(_BLANK)


def spell(reference: Reference) -> str:
    """A reference as the model writes it."""
    return reference.id + _spell(reference.path)


def _spell(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def _parts(text: str) -> Iterator[tuple[str | int, str]]:
    """Members of an object or elements of an array, each with its text; nothing for any other value.

    Slices instead of parsing and writing again, so that numbers keep their spelling.
    """
    at = _skip(text, 0)
    opening = text[at]
    if opening not in "{[":
        return
    index = 0
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        key: str | int = index
        if opening == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        end = _value_end(text, at)
        yield key, text[at:end]
        index += 1
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _value_end(text: str, at: int) -> int:
    """Where the value that starts at `at` ends. The text is valid JSON, so brackets outside strings balance."""
    depth = 0
    while True:
        found = _STRUCTURE.search(text, at)
        assert found is not None, "valid JSON closes every container"
        char, at = found.group()[0], found.end()
        if char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
        if depth < 0 or (char == "," and depth == 0):
            return found.start()


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at
