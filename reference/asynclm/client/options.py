"""What a caller says of a session, in the words of Python, to the `Start` that the server reads."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from asynclm.cml.control import BodyLanguage
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import SamplingParams
from asynclm.prompt.template import Message, Role, TextPart
from asynclm.session.config import Constraints, DeliveryPolicy, ExecutionMode, Granularity, Limits, OnEnd
from asynclm.tools import Tool, ToolSet
from asynclm.wire import Instructions, OnDisconnect, StartRequest, shorten

E = TypeVar("E", bound=enum.StrEnum)

Prompt = str | Message | Mapping[str, str] | Sequence[Message | Mapping[str, str]]
"""A user's message, or a conversation; a message may be a mapping with `role` and `content`."""

AnyTool = Tool | Callable[..., Any] | ToolSpec
"""A tool that the client runs: a `Tool`, a typed function, or a bare spec whose calls the caller answers itself."""


class SessionOptions(TypedDict, total=False):
    """What a session can be asked for. Everything may be left out or None; enumerations may be given as strings."""

    model: str | None
    """A model's name out of `server_info()`, or `script:<id>`; the server's first if left out."""
    prompt_ids: Sequence[int] | None
    """The prompt as token ids, in place of messages."""
    instructions: Instructions | str | None
    """What the server writes into the prompt beside the messages: full, tools, none."""
    server_tools: Sequence[str] | None
    """Which of the server's own tools the model may call; all of them if left out."""
    sampling: SamplingParams | None
    """How tokens are chosen; greedy if left out."""
    stop: str | Sequence[str] | None
    """Strings that end decoding where the model's text comes to contain one; the text ends before it."""
    mode: ExecutionMode | str | None
    """When calls run against decoding: async, sync, sync_parallel."""
    on_end: OnEnd | str | None
    """What end of sequence does: wait, detach, cancel, keep."""
    on_disconnect: OnDisconnect | str | None
    """What becomes of the session if the connection is lost: cancel, detach."""
    constraints: Constraints | str | None
    """Which mask guards sampling: none, static, gates, grammar."""
    gate_end: bool | None
    """No end of sequence while named calls are pending."""
    body_language: BodyLanguage | str | None
    """The language of call bodies: python_call, json_call."""
    granularity: Granularity | str | None
    """Where in running text interrupts may land: token, word, sentence."""
    granularity_hold: int | None
    """Sampled tokens for which granularity may hold an interrupt back."""
    delivery: DeliveryPolicy | str | None
    """When results are committed in running text: eager, coalesce (needs `coalesce_ms`), lazy."""
    coalesce_ms: int | None
    """Window for which an interrupt is held back while results keep coming."""
    credit: int | None
    """Tokens that may be sampled before the first grant; unlimited if left out."""
    limits: Mapping[str, int] | None
    """Limits by name (`max_new_tokens`, …), each at most what the server allows."""
    max_new_tokens: int | None
    """Short for `limits={"max_new_tokens": …}`."""
    labels: Mapping[str, str] | None
    """Shown in the server's list of sessions."""


def split_tools(tools: Iterable[AnyTool]) -> tuple[tuple[ToolSpec, ...], ToolSet]:
    """Declarations of all tools, in order, and those that can be run.

    Raises:
        ValueError: two tools have one name.
        ToolDefinitionError: a function cannot be made a tool.
    """
    specs: list[ToolSpec] = []
    runnable = ToolSet()
    for item in tools:
        spec = item if isinstance(item, ToolSpec) else runnable.add(item).spec
        if any(spec.name == other.name for other in specs):
            raise ValueError(f"tools: {shorten(spec.name)} is declared twice; names must be unique")
        specs.append(spec)
    return tuple(specs), runnable


def start_request(prompt: Prompt | None, specs: tuple[ToolSpec, ...], options: SessionOptions) -> StartRequest:
    """Makes a `Start`.

    Raises:
        ValueError: an option is unknown, or not one of the allowed values.
        TypeError: a message is of no kind that is understood.
    """
    unknown = sorted(options.keys() - SessionOptions.__annotations__.keys())
    if unknown:
        raise TypeError(
            f"{unknown[0]} is no option of a session; there are: {', '.join(SessionOptions.__annotations__)}"
        )
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    limits = dict(given.pop("limits", {}))
    if "max_new_tokens" in given:
        limits["max_new_tokens"] = given.pop("max_new_tokens")
    wrong = sorted(limits.keys() - Limits.__dataclass_fields__.keys())
    if wrong:
        raise ValueError(f"limits: {wrong[0]!r} is none; there are: {', '.join(Limits.__dataclass_fields__)}")
    for name in given.keys() & _ENUMS.keys():
        given[name] = _member(_ENUMS[name], name, given[name])
    for name in given.keys() & {"prompt_ids", "server_tools", "stop"}:
        given[name] = (given[name],) if isinstance(given[name], str) else tuple(given[name])
    return StartRequest(
        messages=() if prompt is None else messages_of(prompt),
        tools=specs,
        limits=limits,
        **given,
    )


def messages_of(prompt: Prompt) -> tuple[Message, ...]:
    """The conversation that a prompt stands for.

    Raises:
        ValueError: a role is not one of those there are.
        TypeError: a message is of no kind that is understood.
    """
    if isinstance(prompt, str):
        return (Message(Role.USER, (TextPart(prompt),)),)
    if isinstance(prompt, Message | Mapping):
        return (_message(prompt),)
    return tuple(_message(item) for item in prompt)


def _message(item: object) -> Message:
    if isinstance(item, Message):
        return item
    if not isinstance(item, Mapping) or set(item) != {"role", "content"} or not isinstance(item["content"], str):
        raise TypeError(f"message {shorten(item)}: give a Message, or a mapping with 'role' and 'content', both texts")
    return Message(_member(Role, "role", item["role"]), (TextPart(item["content"]),))


def _member(kind: type[E], name: str, value: Any) -> E:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{name} is {shorten(value)}; allowed: {', '.join(kind)}") from None


_ENUMS: Mapping[str, type[enum.StrEnum]] = {
    "instructions": Instructions,
    "mode": ExecutionMode,
    "on_end": OnEnd,
    "on_disconnect": OnDisconnect,
    "constraints": Constraints,
    "body_language": BodyLanguage,
    "granularity": Granularity,
    "delivery": DeliveryPolicy,
}
