"""Bearer tokens: every rpc but health and reflection has to carry the server's."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from asynclm.server.context import Context

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

OPEN_SERVICES = ("/grpc.health.v1.Health/",)
"""Services that need no token."""


class BearerTokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses rpcs without `authorization: Bearer TOKEN` as UNAUTHENTICATED."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Lets an rpc through or swaps its handler for a refusal of the same shape."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(OPEN_SERVICES):
            return handler
        metadata = dict(handler_call_details.invocation_metadata or ())
        given = metadata.get("authorization", "")
        if hmac.compare_digest(given.encode() if isinstance(given, str) else given, self._expected):
            return handler
        return _refusal(handler)


def _refusal(handler: Handler) -> Handler:
    async def refuse(_: Any, context: Context) -> Any:
        await context.abort(
            grpc.StatusCode.UNAUTHENTICATED, "authorization: missing or wrong; send 'Bearer TOKEN' in the metadata"
        )

    async def refuse_stream(_: Any, context: Context) -> Any:
        await refuse(_, context)
        yield  # a generator, as streaming handlers are

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(
        refuse_stream if handler.response_streaming else refuse,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
