"""Rpcs that a case calls beside its sessions, by the name of their method."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from asynclm.conformance.v1 import scripted_model_pb2, suite_pb2
from asynclm.v1 import control_pb2, executor_pb2, inference_pb2
from asynclm.wire.writing import write
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.mapping import canonical
from asynclm_conformance.play.faults import OK, RpcStatus, status_of
from asynclm_conformance.play.log import WireLog

KNOWN = (scripted_model_pb2, control_pb2, executor_pb2, inference_pb2, health_pb2, reflection_pb2)
"""The files whose services a case can call; importing them is what makes them known."""

MOST_PAGES = 10_000
"""Pages after which a list is taken to have no end."""

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
    raw = _filled(json_format.MessageToDict(rpc.request), places, where)
    kind = message_factory.GetMessageClass(method.input_type)
    try:
        return json_format.ParseDict(canonical(raw, method.input_type, where), kind())
    except json_format.ParseError as error:
        raise CaseError(f"{where}: {error}") from None


def response_given(rpc: suite_pb2.Rpc, places: Mapping[str, str], where: str) -> Any:
    """What the response has to have, by proto names, enum values in full."""
    method = method_of(rpc.method)
    return canonical(_filled(json_format.MessageToDict(rpc.response), places, where), method.output_type, where)


def order_given(rpc: suite_pb2.Rpc, places: Mapping[str, str], where: str) -> dict[str, list[Any]]:
    """The elements that lists of a paged response have to have in this order."""
    method = method_of(rpc.method)
    lists: dict[str, list[Any]] = canonical(
        _filled(json_format.MessageToDict(rpc.in_order), places, where), method.output_type, where
    )
    return lists


async def pages(
    channel: grpc.aio.Channel, rpc: suite_pb2.Rpc, request: Message, log: WireLog, patience_s: float
) -> tuple[RpcStatus, Message | None]:
    """Calls the rpc for all its pages; the response has their lists one behind the other."""
    whole: Any = None
    request = type(request).FromString(request.SerializeToString())
    for _ in range(MOST_PAGES):
        status, page = await call(channel, rpc, request, log, patience_s)
        answer: Any = page
        if status.code != "OK" or answer is None:
            return status, None
        token = answer.next_page_token
        if whole is None:
            whole = answer
        else:
            whole.MergeFrom(answer)
        if not token:
            return OK, whole
        request.page_token = token  # type: ignore[attr-defined]
    return RpcStatus("RESOURCE_EXHAUSTED", f"the list goes on after {MOST_PAGES} pages"), None


async def call(
    channel: grpc.aio.Channel, rpc: suite_pb2.Rpc, request: Message, log: WireLog, patience_s: float
) -> tuple[RpcStatus, Message | None]:
    """Calls the rpc once; a stream is sent this request alone, and of what it answers the last is the response."""
    method = method_of(rpc.method)
    kind = message_factory.GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    encode, decode = type(request).SerializeToString, kind.FromString
    response: Any = None
    status = OK
    try:
        async with asyncio.timeout(patience_s):
            if method.client_streaming:
                response, status = await _exchange(channel.stream_stream(path, encode, decode)(None), request)
            elif method.server_streaming:
                async for message in channel.unary_stream(path, encode, decode)(request):
                    response = message
            else:
                response = await channel.unary_unary(path, encode, decode)(request)
    except grpc.aio.AioRpcError as error:
        status = status_of(error)
    except TimeoutError:
        status = RpcStatus("DEADLINE_EXCEEDED", f"no answer within {patience_s:g} s")
    log.note("", f"{rpc.method} {_short(request)} -> {status} {_short(response) if response is not None else ''}")
    return status, response


async def _exchange(stream: Any, request: Message) -> tuple[Any, RpcStatus]:
    """Sends one message on a stream and reads to its end."""
    response: Any = None
    await stream.wait_for_connection()
    await write(stream, request)
    with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.UsageError):
        await stream.done_writing()
    async for message in stream:
        response = message
    return response, OK


def _filled(value: Any, places: Mapping[str, str], where: str) -> Any:
    """Puts session ids in for `${NAME}`; whole numbers come out of a Struct as floats and go back to integers."""
    match value:
        case str():
            return _PLACE.sub(lambda found: _place(found.group(1), places, where), value)
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _filled(item, places, where) for key, item in value.items()}
        case list():
            return [_filled(item, places, where) for item in value]
    return value


def _place(name: str, places: Mapping[str, str], where: str) -> str:
    if name not in places:
        raise CaseError(f"{where}: ${{{name}}} is no session of this case; there are {', '.join(sorted(places))}")
    return places[name]


def _short(message: Message) -> str:
    text = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
    return text if len(text) <= 400 else f"{text[:397]}..."
