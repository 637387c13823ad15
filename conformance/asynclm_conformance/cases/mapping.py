"""From YAML to protobuf messages: fields by their proto names, enum values without prefix, nothing unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from asynclm.wire.errors import shorten
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.names import prefix_of

_M = TypeVar("_M", bound=Message)
_ANY_JSON = ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue")


def to_message(value: Any, kind: type[_M], place: str) -> _M:
    """A message out of what YAML holds.

    Raises:
        CaseError: a key or an enum value is unknown, or a value has another type.
    """
    try:
        return json_format.ParseDict(canonical(value, _descriptor(kind), place), kind())
    except json_format.ParseError as error:
        raise CaseError(f"{place}: {error}") from None


def _descriptor(kind: type[Message]) -> Descriptor:
    found: Any = kind.DESCRIPTOR
    return found  # type: ignore[no-any-return]


def to_dict(message: Message) -> dict[str, Any]:
    """A message as a mapping by proto names, fields without presence written out."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def to_plain(message: Message) -> Any:
    """A `google.protobuf.Struct` or `Value` as JSON; it keeps floats only, so whole numbers go back to integers."""
    return _whole(json_format.MessageToDict(message))


def _whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _whole(item) for key, item in value.items()}
        case list():
            return [_whole(item) for item in value]
    return value


def canonical(value: Any, descriptor: Descriptor, place: str) -> Any:
    """The same value with enum values written in full.

    Raises:
        CaseError: a key or an enum value is unknown.
    """
    if descriptor.full_name in _ANY_JSON:
        return value
    if not isinstance(value, Mapping):
        raise CaseError(f"{place}: is {shorten(value)}; a mapping is expected")
    fields = descriptor.fields_by_name
    out: dict[str, Any] = {}
    for key, entry in value.items():
        if key not in fields:
            raise CaseError(f"{place}: unknown key {key!r}; allowed: {', '.join(sorted(fields))}")
        out[key] = _field(entry, fields[key], f"{place}.{key}")
    return out


def _field(value: Any, field: FieldDescriptor, place: str) -> Any:
    if value is None:
        return None
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        if not isinstance(value, Mapping):
            raise CaseError(f"{place}: is {shorten(value)}; a mapping is expected")
        entry = kind.fields_by_name["value"]
        return {str(key): _one(item, entry, f"{place}.{key}") for key, item in value.items()}
    if field.is_repeated:
        if not isinstance(value, list):
            raise CaseError(f"{place}: is {shorten(value)}; a list is expected")
        return [_one(item, field, f"{place}[{number}]") for number, item in enumerate(value)]
    return _one(value, field, place)


def _one(value: Any, field: FieldDescriptor, place: str) -> Any:
    if field.message_type is not None:
        return canonical(value, field.message_type, place)
    if field.enum_type is not None:
        return _enum(value, field.enum_type, place)
    return value


def _enum(value: Any, enum: EnumDescriptor, place: str) -> str | int:
    """An enum value in full; a number stands for itself, so that a case can send what this revision does not have."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    prefix = prefix_of(enum.name)
    for name in (str(value), f"{prefix}{value}"):
        if name in enum.values_by_name:
            return str(name)
    names = ", ".join(name.removeprefix(prefix) for name in enum.values_by_name)
    raise CaseError(f"{place}: {shorten(value)} is no {enum.name}; allowed: {names}")
