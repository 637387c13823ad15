"""Messages on the wire in a few words: the kind of event, and the fields that tell something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from asynclm.conformance.v1 import results_pb2
from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.names import short_name
from asynclm_conformance.report.clean import BLOCK, visible

Field: TypeAlias = Any
"""A field descriptor; type stubs know two kinds, which have nothing in common."""
_ALWAYS = frozenset({"index", "number"})
"""Fields that tell something when they are 0, too."""
_BRIEF = {
    "started": ("session_id", "model", "constraints", "credit"),
    "resumed": ("last_client_seq", "last_event_seq"),
    "finished": ("reason", "message", "stop_string"),
    "start": ("model", "instructions", "credit", "mode", "on_end", "on_disconnect", "constraints", "granularity"),
}
"""Events of which only some fields tell something at a glance."""
_VALUE = 160
"""Characters of one value."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a label: its text, and `kind`, `plain`, `control` or `dim`."""

    text: str
    style: str = "plain"


def kind_of(exchange: results_pb2.Exchange) -> str:
    """The kind of event, by its proto name; `note` for anything else."""
    match exchange.WhichOneof("message"):
        case "client":
            return exchange.client.WhichOneof("event") or "an event without content"
        case "server":
            return exchange.server.WhichOneof("event") or "an event without content"
        case _:
            return "note"


def label(exchange: results_pb2.Exchange) -> list[Span]:
    """What an arrow says: the kind, then the fields."""
    which = exchange.WhichOneof("message")
    if which not in ("client", "server"):
        return [Span(visible(exchange.note), "plain")]
    event: session_pb2.ClientEvent | session_pb2.ServerEvent = getattr(exchange, which)
    field = event.WhichOneof("event")
    if field is None:
        return [Span("an event without content", "kind")]
    details = " ".join(_details(field, getattr(event, field)))
    return [Span(field, "kind"), *([Span(" " + details)] if details else [])]


def tokens_label(tokens: session_pb2.Tokens) -> list[Span]:
    """Sampled tokens as the stream that they are: text, control tokens set off, end of sequence."""
    spans = [Span(visible(tokens.text))] if tokens.text else []
    if tokens.control:
        spans.append(Span(f"[{short_name(types_pb2.ControlToken.DESCRIPTOR, tokens.control)}]", "control"))
    if tokens.end_of_sequence:
        spans.append(Span("‹end of sequence›", "control"))
    return spans or [Span(f"({len(tokens.ids)} ids)", "dim")]


def in_full(exchange: results_pb2.Exchange) -> str:
    """The whole message as JSON, cut where it is very long."""
    which = exchange.WhichOneof("message")
    if which not in ("client", "server"):
        return visible(exchange.note, BLOCK)
    body = MessageToDict(getattr(exchange, which), preserving_proto_field_name=True)
    return visible(json.dumps(body, ensure_ascii=False), BLOCK)


def _details(kind: str, message: Message) -> Iterator[str]:
    only = _BRIEF.get(kind)
    for field in message.DESCRIPTOR.fields:
        if only is None or field.name in only:
            yield from _field(field, message)
    if isinstance(message, session_pb2.Start):
        yield from _start(message)
    if isinstance(message, session_pb2.Finished):
        yield f"calls={len(message.calls)} interrupts={len(message.interrupts)}"


def _start(start: session_pb2.Start) -> Iterator[str]:
    yield f"messages={len(start.messages)}" if start.messages else f"prompt_ids={len(start.prompt_ids.ids)}"
    if start.tools:
        yield f"tools={_cut(', '.join(tool.name for tool in start.tools))}"


def _field(field: Field, message: Message) -> Iterator[str]:
    value = getattr(message, field.name)
    if field.is_repeated:
        if len(value):
            yield f"{field.name}={_several(field, value)}"
    elif field.message_type is not None:
        if message.HasField(field.name):
            inner = " ".join(part for one in field.message_type.fields for part in _field(one, value))
            yield f"{field.name}=({inner})"
    elif (message.HasField(field.name) if field.has_presence else bool(value)) or field.name in _ALWAYS:
        if field.has_presence and not message.HasField(field.name):
            return
        yield f"{field.name}={_scalar(field, value)}"


def _several(field: Field, value: Any) -> str:
    """Texts and names as they are; of messages and of numbers (ids, log-probabilities), how many there are."""
    if field.enum_type is not None or isinstance(value[0], str):
        return f"[{_cut(', '.join(_scalar(field, item) for item in value))}]"
    return f"[{len(value)}]"


def _scalar(field: Field, value: Any) -> str:
    if field.enum_type is not None:
        return short_name(field.enum_type, value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"“{_cut(value)}”"
    return str(value)


def _cut(text: str) -> str:
    return visible(text, _VALUE)
