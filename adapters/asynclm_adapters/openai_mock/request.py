"""A chat-completions request, read and checked as the API checks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asynclm_adapters.openai_mock.errors import bad_request
from asynclm_adapters.openai_mock.fields import check_type, in_range, longest, one_of, read, required, shortest
from asynclm_adapters.openai_mock.messages import Message, check_function_name, read_messages

CONTEXT_LENGTH = 128_000
MAX_OUTPUT_TOKENS = 16_384
"""What GPT-4o has."""

_MAX_STOPS = 4
_MAX_TOOLS = 128
_READ_ELSEWHERE = frozenset({"model", "messages", "stream", "stream_options", "stop", "tools", "user", "n", "logprobs"})
_NUMBERS: dict[str, tuple[str, float, float | None]] = {
    "temperature": ("a decimal", 0, 2),
    "top_p": ("a decimal", 0, 1),
    "presence_penalty": ("a decimal", -2, 2),
    "frequency_penalty": ("a decimal", -2, 2),
    "max_tokens": ("an integer", 1, None),
    "max_completion_tokens": ("an integer", 1, None),
    "top_logprobs": ("an integer", 0, 20),
}
"""Numbers, with what they have to be."""

_OTHERS: dict[str, str | None] = {
    "seed": "an integer",
    "store": "a boolean",
    "metadata": "an object",
    "logit_bias": "an object",
    "modalities": "an array",
    "parallel_tool_calls": "a boolean",
    "prediction": "an object",
    "prompt_cache_key": "a string",
    "prompt_cache_retention": "a string",
    "reasoning_effort": "a string",
    "response_format": "an object",
    "safety_identifier": "a string",
    "service_tier": "a string",
    "tool_choice": None,
    "function_call": None,
    "functions": "an array",
    "verbosity": "a string",
}
"""Parameters that are taken and change nothing here, with their types; None: several."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that the API would take.

    Attributes:
        model: the model's name.
        messages: the conversation.
        stream: whether the reply comes as chunks.
        include_usage: whether a stream ends with a chunk of usage.
        stop: stop sequences.
        max_tokens: tokens of the reply at most; None: no limit of its own.
        user: the request's `user`.
        session: the header `X-Session`, else `user`: who plays a script.
        tools_text: the declared tools as JSON text; empty without tools.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    user: str = ""
    session: str = ""
    tools_text: str = ""


def read_request(text: bytes, session: str = "") -> ChatRequest:
    """Reads the body of a request.

    Args:
        text: the body.
        session: the header `X-Session`; empty: absent.

    Raises:
        ApiError: 400, the API would not take it.
    """
    body = read_object(text)
    if not body.get("model"):
        raise bad_request("you must provide a model parameter", None)
    model: str = required(body, "model", "a string")
    _check_known(body)
    messages = read_messages(body)
    stream = bool(read(body, "stream", "a boolean"))
    user = read(body, "user", "a string") or ""
    return ChatRequest(
        model=model,
        messages=messages,
        stream=stream,
        include_usage=_include_usage(body, stream),
        stop=_stop(body),
        max_tokens=_max_tokens(body),
        user=user,
        session=session or user,
        tools_text=_tools_text(body),
    )


def read_object(text: bytes) -> dict[str, Any]:
    """A body that has to be one JSON object.

    Raises:
        ApiError: 400, it is not.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise bad_request("We could not parse the JSON body of your request. It has to be one JSON object.", None)
    return body


def _check_known(body: Mapping[str, Any]) -> None:
    for name in body:
        if name not in _READ_ELSEWHERE and name not in _NUMBERS and name not in _OTHERS:
            raise bad_request(f"Unrecognized request argument supplied: {name[:80]}", None)
    for name, (kind, low, high) in _NUMBERS.items():
        in_range(body, name, kind, low, high)
    for name, other in _OTHERS.items():
        if other is not None:
            read(body, name, other)
    if (in_range(body, "n", "an integer", 1, 128) or 1) > 1:
        raise bad_request("Unsupported value: this server gives one choice only; 'n' has to be 1.", "n", _UNSUPPORTED)
    if read(body, "logprobs", "a boolean"):
        raise bad_request("Unsupported value: this server has no 'logprobs'.", "logprobs", _UNSUPPORTED)


_UNSUPPORTED = "unsupported_value"


def _include_usage(body: Mapping[str, Any], stream: bool) -> bool:
    options = read(body, "stream_options", "an object")
    if options is None:
        return False
    if not stream:
        said = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise bad_request(said, "stream_options")
    return bool(read(options, "include_usage", "a boolean", "stream_options"))


def _stop(body: Mapping[str, Any]) -> tuple[str, ...]:
    given = body.get("stop")
    if given is None or isinstance(given, str):
        return (given,) if given else ()
    check_type(given, "stop", "an array")
    longest(given, "stop", _MAX_STOPS)
    for number, sequence in enumerate(given):
        check_type(sequence, f"stop[{number}]", "a string")
    return tuple(sequence for sequence in given if sequence)


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    old, new = body.get("max_tokens"), body.get("max_completion_tokens")
    if old is not None and new is not None:
        said = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise bad_request(said, "max_tokens", "invalid_parameter_combination")
    name, given = ("max_tokens", old) if old is not None else ("max_completion_tokens", new)
    if given is not None and given > MAX_OUTPUT_TOKENS:
        said = f"{name} is too large: {given}. This model supports at most {MAX_OUTPUT_TOKENS} completion tokens."
        raise bad_request(said, name, "invalid_value")
    return None if given is None else int(given)


def _tools_text(body: Mapping[str, Any]) -> str:
    tools = read(body, "tools", "an array")
    if tools is None:
        return ""
    shortest(tools, "tools")
    longest(tools, "tools", _MAX_TOOLS)
    for number, tool in enumerate(tools):
        path = f"tools[{number}]"
        check_type(tool, path, "an object")
        one_of(required(tool, "type", "a string", path), f"{path}.type", ("function",))
        function = required(tool, "function", "an object", path)
        check_function_name(required(function, "name", "a string", f"{path}.function"), f"{path}.function.name")
    return json.dumps(tools, ensure_ascii=False)


def check_context(request: ChatRequest, tokens: int, most: int) -> None:
    """Refuses a prompt that does not fit into the context, together with the reply's limit.

    Raises:
        ApiError: 400, code `context_length_exceeded`.
    """
    reply = request.max_tokens or 0
    if tokens + reply > most:
        said = f"This model's maximum context length is {most} tokens. However, you requested {tokens + reply} tokens"
        said += f" ({tokens} in the messages, {reply} in the completion). Please reduce the length of either."
        raise bad_request(said, "messages", "context_length_exceeded")
