"""Rpcs that a case calls beside its sessions: what is asked, and what was written down of the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from asynclm.conformance.v1 import scripted_model_pb2, suite_pb2
from asynclm.v1 import control_pb2, executor_pb2, inference_pb2
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.mapping import canonical, to_plain

KNOWN = (scripted_model_pb2, control_pb2, executor_pb2, inference_pb2, health_pb2, reflection_pb2)
"""The files whose services a case can call; importing them is what makes them known."""

_PLACE = re.compile(r"\$\{([a-z0-9_.-]+)\}")


def method_of(name: str) -> MethodDescriptor:
    """The method called `package.Service/Method`.

    Raises:
        CaseError: there is none.
    """
    service, _, method = name.partition("/")
    try:
        return descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    except KeyError:
        raise CaseError(f"no method is called {name!r}; an example: asynclm.v1.Control/GetSession") from None


def request_of(rpc: suite_pb2.Rpc, places: Mapping[str, str], where: str) -> Message:
    """The request of an rpc step.

    Raises:
        CaseError: it does not fit its type, or names an unknown session.
    """
    method = method_of(rpc.method)
    raw = _filled(to_plain(rpc.request), places, where)
    kind = message_factory.GetMessageClass(method.input_type)
    try:
        return json_format.ParseDict(canonical(raw, method.input_type, where), kind())
    except json_format.ParseError as error:
        raise CaseError(f"{where}: {error}") from None


def response_given(rpc: suite_pb2.Rpc, places: Mapping[str, str], where: str) -> Any:
    """What the response has to have, by proto names, enum values in full."""
    method = method_of(rpc.method)
    return canonical(_filled(to_plain(rpc.response), places, where), method.output_type, where)


def order_given(rpc: suite_pb2.Rpc, places: Mapping[str, str], where: str) -> dict[str, list[Any]]:
    """The elements that lists of a paged response have to have in this order.

    Raises:
        CaseError: they do not fit the response, or the method has no pages.
    """
    method = method_of(rpc.method)
    if rpc.HasField("in_order") and "page_token" not in method.input_type.fields_by_name:
        raise CaseError(f"{where}.in_order: {rpc.method} has no pages")
    lists: dict[str, list[Any]] = canonical(_filled(to_plain(rpc.in_order), places, where), method.output_type, where)
    return lists


def present_given(rpc: suite_pb2.Rpc, where: str) -> list[str]:
    """The paths of fields that the response has to have.

    Raises:
        CaseError: the response has no such field.
    """
    response = method_of(rpc.method).output_type
    for path in rpc.present:
        kind: Descriptor | None = response
        for name in path.split("."):
            field = kind.fields_by_name.get(name) if kind is not None else None
            if field is None:
                raise CaseError(f"{where}.present: {response.name} has no {path!r}")
            kind = field.message_type
    return list(rpc.present)


def _filled(value: Any, places: Mapping[str, str], where: str) -> Any:
    """Puts session ids in for `${NAME}`."""
    match value:
        case str():
            return _PLACE.sub(lambda found: _place(found.group(1), places, where), value)
        case dict():
            return {key: _filled(item, places, where) for key, item in value.items()}
        case list():
            return [_filled(item, places, where) for item in value]
    return value


def _place(name: str, places: Mapping[str, str], where: str) -> str:
    if name not in places:
        raise CaseError(f"{where}: ${{{name}}} is no session of this case; there are {', '.join(sorted(places))}")
    return places[name]
