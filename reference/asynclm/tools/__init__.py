"""Tool declarations from typed functions, and the executor that runs them.

May import `asynclm.cml`. Imported by the engine loop's host, the server and the client.
"""

from asynclm.cml.toolspec import SideEffects, ToolSpec
from asynclm.tools.cache import ResultCache
from asynclm.tools.call import ToolCall, ToolUpdate
from asynclm.tools.context import Partial, Progress, Result, ToolContext
from asynclm.tools.errors import InvalidArgumentsError, ToolError, ToolErrorType, UnserializableError
from asynclm.tools.executor import ToolExecutor
from asynclm.tools.json_text import to_json_text
from asynclm.tools.load import ToolLoadError, load_tools
from asynclm.tools.signature import ToolDefinitionError
from asynclm.tools.thread import ToolThread
from asynclm.tools.tool import Tool, ToolKind, tool
from asynclm.tools.toolset import ToolSet

__all__ = [
    "InvalidArgumentsError",
    "Partial",
    "Progress",
    "Result",
    "ResultCache",
    "SideEffects",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolDefinitionError",
    "ToolError",
    "ToolErrorType",
    "ToolExecutor",
    "ToolKind",
    "ToolLoadError",
    "ToolSet",
    "ToolSpec",
    "ToolThread",
    "ToolUpdate",
    "UnserializableError",
    "load_tools",
    "to_json_text",
    "tool",
]
