"""Events in words, and single events held against expectations."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict

from asynclm.v1 import session_pb2
from asynclm_conformance.cases.mapping import to_dict, to_plain
from asynclm_conformance.cases.model import Expectation
from asynclm_conformance.matching.values import Difference, difference


def kind_of(event: session_pb2.ServerEvent) -> str:
    """Which event it is, by its proto name; empty for none that this revision knows."""
    return event.WhichOneof("event") or ""


def describe(event: session_pb2.ServerEvent) -> str:
    """One line about an event."""
    kind = kind_of(event)
    if not kind:
        return f"#{event.sequence} an event without content"
    body = MessageToDict(getattr(event, kind), preserving_proto_field_name=True)
    if kind == "started":
        body = {"session_id": event.started.session_id}
    text = json.dumps(body, ensure_ascii=False)
    return f"#{event.sequence} @{event.token_index} {kind} {text if len(text) <= 300 else text[:297] + '...'}"


def wanted(expectation: Expectation) -> str:
    """One line about what an entry asks for."""
    entry = expectation.entry
    parts = [expectation.kind, json.dumps(expectation.given, ensure_ascii=False, default=str)]
    if entry.HasField("after"):
        parts.append(f"after line {entry.after}")
    if entry.HasField("at_ms"):
        parts.append(f"at {entry.at_ms} ms")
    for name in ("json", "json_has", "contains", "lacks"):
        values = getattr(entry, name)
        if values:
            parts.append(f"{name} {json.dumps({key: _plain(value) for key, value in values.items()})}")
    return " ".join(parts)


def meets(event: session_pb2.ServerEvent, expectation: Expectation) -> bool:
    """Whether an event is what an entry asks for, its place apart."""
    return kind_of(event) == expectation.kind and event_difference(event, expectation) is None


def event_difference(event: session_pb2.ServerEvent, expectation: Expectation) -> Difference | None:
    """The first thing in which an event of the right kind is not what an entry asks for."""
    kind, entry = expectation.kind, expectation.entry
    body = to_dict(getattr(event, kind))
    wrong = difference(expectation.given, body, kind)
    if wrong is not None:
        return wrong
    if entry.HasField("at_ms") and event.time_ms != entry.at_ms:
        return f"{kind}: time_ms", str(entry.at_ms), str(event.time_ms)
    for name, value in entry.json.items():
        found = _json(body, name)
        if found != _plain(value):
            return f"{kind}.{name}", json.dumps(_plain(value)), _text(body, name)
    for name, value in entry.json_has.items():
        wrong = difference(_plain(value), _json(body, name), f"{kind}.{name}")
        if wrong is not None:
            return wrong
    for name, text in entry.contains.items():
        if text not in _text(body, name):
            return f"{kind}.{name}", f"a text with {text!r}", _text(body, name)[:500]
    for name, texts in entry.lacks.items():
        for text in _plain(texts):
            if text in _text(body, name):
                return f"{kind}.{name}", f"a text without {text!r}", _text(body, name)[:500]
    return None


def _text(body: Any, path: str) -> str:
    """A field by its path: `payload`, `row.payload`."""
    for name in path.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return "" if body is None else str(body)


def _json(body: Any, path: str) -> Any:
    try:
        return json.loads(_text(body, path))
    except ValueError:
        return f"no JSON: {_text(body, path)[:200]!r}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else to_plain(value)
