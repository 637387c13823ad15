"""The functions of the workloads as tools: each call takes its time and gives its result.

Served by `asynclm serve --tools asynclm.bench.hosted.functions:TOOLS`, and run directly for ordinary tool calling.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

from asynclm.bench.hosted.workload import Call, Function, Workload, load_all
from asynclm.cml.toolspec import ToolSpec
from asynclm.tools import ToolContext, ToolSet
from asynclm.tools.tool import Tool


class Functions:
    """What the calls of some workloads do.

    Args:
        workloads: a function and its arguments tell which call is meant, over all of them.
    """

    def __init__(self, workloads: Iterable[Workload]) -> None:
        self.functions: dict[str, Function] = {}
        self._calls: dict[str, Call] = {}
        for workload in workloads:
            self.functions |= {function.name: function for function in workload.functions}
            calls = (call for task in workload.tasks for call in task.calls)
            self._calls |= {_key(call.function, call.arguments): call for call in calls}

    async def run(self, function: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Takes the call's time and gives its result.

        Raises:
            KeyError: no task makes such a call.
        """
        call = self._calls[_key(function, arguments)]
        await asyncio.sleep(call.ms / 1000)
        return call.result

    def tools(self) -> ToolSet:
        """The functions as tools of a server."""
        return ToolSet([self._tool(function) for function in self.functions.values()])

    def _tool(self, function: Function) -> Tool:
        async def run(arguments: dict[str, Any], context: ToolContext) -> Mapping[str, Any]:
            return await self.run(function.name, arguments)

        spec = ToolSpec(
            name=function.name,
            description=function.description,
            parameters=function.parameters,
            expected_duration_ms=function.expected_ms,
        )
        return Tool.from_spec(spec, run)


def _key(function: str, arguments: Mapping[str, Any]) -> str:
    return json.dumps([function, dict(arguments)], sort_keys=True)


def __getattr__(name: str) -> ToolSet:
    """`TOOLS`, made when it is asked for."""
    if name != "TOOLS":
        raise AttributeError(name)
    return Functions(load_all()).tools()
