"""Messages that are no protobuf, or whose text is no UTF-8: refused as INVALID_ARGUMENT [ERR-047].

gRPC decodes a request before its handler sees it, and answers for what it cannot decode by itself, as a fault of the
server. So requests of unary rpcs are decoded here; streams raise in the hands of their handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from asynclm.server.context import Context
from asynclm.wire.errors import StatusError, abort

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

OWN_SERVICES = "/asynclm."
"""Health and reflection are the library's."""


def unreadable(error: DecodeError) -> StatusError:
    """The fault of a message that cannot be decoded."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"a message cannot be read: {error}", "UNREADABLE")


class UnreadableInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Answers unreadable requests of unary rpcs with what is wrong with them."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wraps the handler of one rpc."""
        found = await continuation(handler_call_details)
        if found is None or found.request_streaming or not handler_call_details.method.startswith(OWN_SERVICES):
            return found
        handler: Any = found
        serializers = {
            "request_deserializer": _lenient(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        wrapped: Handler
        if handler.response_streaming:
            wrapped = grpc.unary_stream_rpc_method_handler(_streamed(handler.unary_stream), **serializers)
        else:
            wrapped = grpc.unary_unary_rpc_method_handler(_answered(handler.unary_unary), **serializers)
        return wrapped


def _lenient(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def try_to_decode(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError as error:
            return error

    return try_to_decode


def _answered(behave: Callable[[Any, Context], Awaitable[Any]]) -> Any:
    async def answer(request: Any, context: Context) -> Any:
        if isinstance(request, DecodeError):
            await abort(context, unreadable(request))
        return await behave(request, context)

    return answer


def _streamed(behave: Callable[[Any, Context], Awaitable[None]]) -> Any:
    async def stream(request: Any, context: Context) -> None:
        if isinstance(request, DecodeError):
            await abort(context, unreadable(request))
        await behave(request, context)

    return stream
