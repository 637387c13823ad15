"""Google-style docstrings to a description and one description for each parameter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_SECTION = re.compile(
    r"^(Args|Arguments|Parameters|Params|Attributes|Example|Examples|Note|Notes|Raises|Returns|Return|References|"
    r"See Also|Todo|Warning|Warnings|Warns|Yield|Yields):\s*$"
)
_PARAMETER_SECTIONS = frozenset({"Args", "Arguments", "Parameters", "Params"})
_PARAMETER = re.compile(r"^\*{0,2}(?P<name>[A-Za-z_]\w*)\s*(?:\((?P<type>[^)]*)\))?\s*:\s*(?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class Docstring:
    """What a docstring says to a model: the text before its first section, and its `Args`."""

    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_docstring(function: Callable[..., Any]) -> Docstring:
    """Reads a function's own docstring; lines are joined, paragraphs kept apart by an empty line."""
    lines = (inspect.getdoc(function) or "").splitlines()
    first = next((i for i, line in enumerate(lines) if _SECTION.match(line)), len(lines))
    description = _paragraphs(lines[:first])
    parameters: dict[str, str] = {}
    for i in range(first, len(lines)):
        header = _SECTION.match(lines[i])
        if header and header.group(1) in _PARAMETER_SECTIONS:
            parameters.update(_parameters(_indented(lines[i + 1 :])))
    return Docstring(description, parameters)


def _indented(lines: list[str]) -> list[str]:
    """The lines that belong to a section: up to the first one that is not indented."""
    end = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith((" ", "\t"))), len(lines))
    return inspect.cleandoc("\n" + "\n".join(lines[:end])).splitlines()


def _parameters(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        match = None if line.startswith((" ", "\t")) else _PARAMETER.match(line)
        if match:
            current = found.setdefault(match.group("name"), [])
            current.append(match.group("text"))
        else:
            current.append(line)
    return {name: " ".join(part.strip() for part in parts if part.strip()) for name, parts in found.items()}


def _paragraphs(lines: list[str]) -> str:
    blocks = re.split(r"\n\s*\n", "\n".join(lines).strip())
    return "\n\n".join(" ".join(line.strip() for line in block.splitlines()) for block in blocks)
