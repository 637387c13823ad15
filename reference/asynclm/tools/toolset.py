"""Tools by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from asynclm.cml.toolspec import ToolSpec
from asynclm.tools.tool import Tool, tool


class ToolSet:
    """An ordered set of tools with unique names.

    Args:
        tools: tools, or typed functions to make tools of.

    Raises:
        ValueError: two tools have one name.
    """

    def __init__(self, tools: Iterable[Tool | Callable[..., Any]] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for item in tools:
            self.add(item)

    def add(self, item: Tool | Callable[..., Any]) -> Tool:
        """Adds a tool, or a typed function as one.

        Raises:
            ValueError: there is a tool of that name.
        """
        made = item if isinstance(item, Tool) else tool(item)
        if made.name in self._tools:
            raise ValueError(f"tools: {made.name[:80]!r} is declared twice; names must be unique")
        self._tools[made.name] = made
        return made

    def get(self, name: str) -> Tool | None:
        """The tool of that name, or None."""
        return self._tools.get(name)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the tools declare, in order."""
        return tuple(item.spec for item in self)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self._tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __or__(self, other: ToolSet) -> ToolSet:
        """Both sets in one."""
        return ToolSet([*self, *other])

    def __repr__(self) -> str:
        return f"ToolSet({', '.join(self._tools)})"
