"""Calls the rpcs that a case calls beside its sessions, by the name of their method."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message

from asynclm.conformance.v1 import suite_pb2
from asynclm.wire.writing import write
from asynclm_conformance.cases.rpcs import method_of
from asynclm_conformance.faults import OK, UNDECODABLE, RpcFailedError, RpcStatus, answer_of, status_of
from asynclm_conformance.play.log import WireLog

MOST_PAGES = 10_000
"""Pages after which a list is taken to have no end."""


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
                response = await _exchange(channel.stream_stream(path, encode, decode)(None), request)
            elif method.server_streaming:
                response = await _last(channel.unary_stream(path, encode, decode)(request))
            else:
                response = await answer_of(channel.unary_unary(path, encode, decode)(request))
    except grpc.aio.AioRpcError as error:
        status = status_of(error)
    except RpcFailedError as error:
        status = error.status
    except TimeoutError:
        status = RpcStatus("DEADLINE_EXCEEDED", f"no answer within {patience_s:g} s")
    log.note("", f"{rpc.method} {_short(request)} -> {status} {_short(response) if response is not None else ''}")
    return status, response


async def _exchange(stream: Any, request: Message) -> Any:
    """Sends one message on a stream and reads to its end."""
    await stream.wait_for_connection()
    await write(stream, request)
    with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.UsageError):
        await stream.done_writing()
    return await _last(stream)


async def _last(stream: Any) -> Any:
    """Reads a stream to its end; gives its last message, None if it has none."""
    last: Any = None
    async for message in stream:
        if message is None:
            raise RpcFailedError(UNDECODABLE)
        last = message
    return last


def _short(message: Message) -> str:
    text = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
    return text if len(text) <= 400 else f"{text[:397]}..."
