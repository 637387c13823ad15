"""Ways to change a recorded stream: by hand, one event at a time, and at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from asynclm.v1 import session_pb2

Events = list[session_pb2.ServerEvent]


def body_of(event: session_pb2.ServerEvent) -> Any:
    kind = event.WhichOneof("event")
    return getattr(event, kind) if kind else None


def at(events: Events, kind: str, number: int = 0, **values: Any) -> int:
    """The place of the n-th event of a kind that has these values."""
    found = [
        place
        for place, event in enumerate(events)
        if event.WhichOneof("event") == kind and all(getattr(body_of(event), k) == v for k, v in values.items())
    ]
    return found[number]


def numbered(events: Events) -> Events:
    """The same events with whole numbers and indices, so that only what was spoiled shows."""
    index, whole = 0, []
    for sequence, event in enumerate(events, 1):
        copy = session_pb2.ServerEvent()
        copy.CopyFrom(event)
        copy.sequence, copy.token_index = sequence, index
        whole.append(copy)
        index += len(getattr(body_of(event), "ids", ()))
    return whole


def without(events: Events, place: int) -> Events:
    return numbered(events[:place] + events[place + 1 :])


def twice(events: Events, place: int) -> Events:
    return numbered([*events[: place + 1], *events[place:]])


def moved(events: Events, place: int, to: int) -> Events:
    rest = events[:place] + events[place + 1 :]
    return numbered([*rest[:to], events[place], *rest[to:]])


def put(message: Message, **values: Any) -> None:
    """Sets fields; None clears one, and a path is written with two underscores."""
    for path, value in values.items():
        *outer, name = path.split("__")
        target = message
        for step in outer:
            target = getattr(target, step)
        if value is None or isinstance(value, list):
            target.ClearField(name)
            if value:
                getattr(target, name).extend(value)
        else:
            setattr(target, name, value)


def changed(events: Events, place: int, **values: Any) -> Events:
    put(body_of(events[place]), **values)
    return events


def stamped(events: Events, place: int, **values: Any) -> Events:
    put(events[place], **values)
    return events


# --- at random -----------------------------------------------------------------------------------------------------

NUMBERS = st.sampled_from((0, 1, 2, 3, 5, 7, 8, 99, 256, 260, (1 << 31) - 1))
TEXTS = st.sampled_from(("", "a", "b", "@user", "@runtime", "f", "{", "null", "[" * 2_000, "[TRAP]", "a f()", "é\x00"))
KINDS = [field.name for field in session_pb2.ServerEvent.DESCRIPTOR.oneofs_by_name["event"].fields]


@st.composite
def mutated(draw: st.DrawFn, events: Sequence[session_pb2.ServerEvent]) -> Events:
    """A stream that was changed in some places."""
    stream: Events = []
    for event in events:
        copy = session_pb2.ServerEvent()
        copy.CopyFrom(event)
        stream.append(copy)
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(0, len(stream) - 1)))
        way = draw(st.sampled_from(("drop", "double", "swap", "empty", "cut", "field", "field", "field", "field")))
        stream = _change(draw, stream, place, way)
    return numbered(stream) if draw(st.booleans()) else stream


def _change(draw: st.DrawFn, stream: Events, place: int, way: str) -> Events:
    if not stream:
        return stream
    event = stream[place]
    if way == "drop":
        return stream[:place] + stream[place + 1 :]
    if way == "double":
        copy = session_pb2.ServerEvent()
        copy.CopyFrom(event)
        return [*stream[:place], copy, *stream[place:]]
    if way == "swap":
        other = draw(st.integers(0, len(stream) - 1))
        stream[place], stream[other] = stream[other], stream[place]
    elif way == "empty":
        kind = draw(st.sampled_from((None, *KINDS)))
        event.ClearField(event.WhichOneof("event") or "started")
        if kind is not None:
            getattr(event, kind).SetInParent()
    elif way == "cut":
        return stream[: place + 1]
    else:
        _scramble(draw, event)
    return stream


def _scramble(draw: st.DrawFn, message: Any) -> None:
    """Changes one field of a message, or of a message within it."""
    given = [field for field, _ in message.ListFields()]
    every = list(message.DESCRIPTOR.fields)
    if not every:
        return
    field = _one(draw, given if given and draw(st.booleans()) else every)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        inner = getattr(message, field.name)
        if field.is_repeated:
            inner = _one(draw, inner) if inner and draw(st.booleans()) else inner.add()
        _scramble(draw, inner)
    elif draw(st.booleans()) and draw(st.booleans()):
        message.ClearField(field.name)
    elif field.is_repeated:
        getattr(message, field.name).append(_value(draw, field))
    else:
        setattr(message, field.name, _value(draw, field))


def _one(draw: st.DrawFn, choices: Sequence[Any]) -> Any:
    """By its place: strategies keep what they are made of, and messages change."""
    return choices[draw(st.integers(0, len(choices) - 1))]


def _value(draw: st.DrawFn, field: FieldDescriptor) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return draw(TEXTS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return draw(st.booleans())
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return draw(st.sampled_from((0.0, -1.5, float("nan"), float("inf"))))
    number = draw(NUMBERS)
    signed = field.cpp_type not in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
    return -number if signed and draw(st.booleans()) else number
