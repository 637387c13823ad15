"""The messages of a request: their fields, and the order that tool calls and tool results have to keep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asynclm_adapters.openai_mock.errors import bad_request
from asynclm_adapters.openai_mock.fields import check_type, longest, one_of, read, required, shortest, type_name

ROLES = ("system", "assistant", "user", "function", "tool", "developer")
FUNCTION_NAME = r"^[a-zA-Z0-9_-]+$"
_MAX_NAME = 64
_MAX_CALL_ID = 40


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in an assistant message; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message, its text parts joined; what is absent is empty."""

    role: str
    content: str
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


def read_messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of a request.

    Raises:
        ApiError: 400, the API would not take them.
    """
    given: list[Any] = required(body, "messages", "an array")
    shortest(given, "messages")
    messages = tuple(_message(item, f"messages[{number}]") for number, item in enumerate(given))
    _check_tool_results(messages)
    return messages


def check_function_name(name: str, path: str) -> None:
    """Refuses a function name that the API does not take."""
    if not re.fullmatch(FUNCTION_NAME, name, re.ASCII):
        said = f"Invalid '{path}': string does not match pattern. Expected a string that matches '{FUNCTION_NAME}'."
        raise bad_request(said, path, "invalid_value")
    longest(name, path, _MAX_NAME)


def _message(item: Any, path: str) -> Message:
    check_type(item, path, "an object")
    role: str = required(item, "role", "a string", path)
    one_of(role, f"{path}.role", ROLES)
    calls = read(item, "tool_calls", "an array", path)
    if calls is not None:
        shortest(calls, f"{path}.tool_calls")
    tool_calls = tuple(_tool_call(call, f"{path}.tool_calls[{n}]") for n, call in enumerate(calls or ()))
    if tool_calls and role != "assistant":
        raise bad_request(f"'tool_calls' is not allowed in a message of role '{role}'.", f"{path}.tool_calls")
    return Message(
        role=role,
        content=_content(item, path, may_lack=role == "assistant" and bool(tool_calls or item.get("function_call"))),
        name=read(item, "name", "a string", path) or "",
        tool_calls=tool_calls,
        tool_call_id=required(item, "tool_call_id", "a string", path) if role == "tool" else "",
    )


def _content(item: Mapping[str, Any], path: str, *, may_lack: bool) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    path = f"{path}.content"
    if isinstance(content, list):
        shortest(content, path)
        return "".join(_part(part, f"{path}[{number}]") for number, part in enumerate(content))
    if content is None and may_lack:
        return ""
    raise bad_request(f"Invalid value for 'content': expected a string, got {type_name(content)}.", path)


def _part(part: Any, path: str) -> str:
    check_type(part, path, "an object")
    kind: str = required(part, "type", "a string", path)
    one_of(kind, f"{path}.type", ("text", "refusal"))
    text: str = required(part, kind, "a string", path)
    return text


def _tool_call(call: Any, path: str) -> ToolCall:
    check_type(call, path, "an object")
    one_of(required(call, "type", "a string", path), f"{path}.type", ("function",))
    call_id: str = required(call, "id", "a string", path)
    longest(call_id, f"{path}.id", _MAX_CALL_ID)
    function = required(call, "function", "an object", path)
    name: str = required(function, "name", "a string", f"{path}.function")
    check_function_name(name, f"{path}.function.name")
    return ToolCall(call_id, name, required(function, "arguments", "a string", f"{path}.function"))


def _check_tool_results(messages: Sequence[Message]) -> None:
    """Each call is answered by the tool messages right after it, and each tool message answers a call."""
    open_ids: list[str] = []
    for number, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in open_ids:
                said = "Invalid parameter: messages with role 'tool' must be a response to a preceding message with"
                raise bad_request(f"{said} 'tool_calls'.", f"messages.[{number}].role")
            open_ids.remove(message.tool_call_id)
            continue
        _check_answered(open_ids, number)
        open_ids = [call.id for call in message.tool_calls]
    _check_answered(open_ids, len(messages))


def _check_answered(open_ids: Sequence[str], number: int) -> None:
    if open_ids:
        said = "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
        said += f" 'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_ids)}"
        raise bad_request(said, f"messages.[{number}].role")
