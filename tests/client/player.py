"""A server that plays what a test says, over a real socket: for what a sound server never does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc

from asynclm.v1 import control_pb2, control_pb2_grpc, inference_pb2_grpc, session_pb2
from asynclm.wire import Started, to_server_event

Part = Callable[[AsyncIterator[session_pb2.ClientEvent], grpc.aio.ServicerContext], AsyncIterator[Any]]
"""What the server does in a session: gets the client's events, yields its own."""


def started(session_id: str = "s-1") -> session_pb2.ServerEvent:
    """The first event."""
    return to_server_event(Started(session_id=session_id, model="m"), 1, 0)


class Inference(inference_pb2_grpc.InferenceServicer):
    def __init__(self, part: Part, resume: Part | None) -> None:
        self.part = part
        self.resume = resume

    async def Session(  # noqa: N802 - the rpc's name
        self, request_iterator: AsyncIterator[session_pb2.ClientEvent], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[session_pb2.ServerEvent]:
        async for event in self.part(request_iterator, context):
            yield event

    async def Resume(  # noqa: N802 - the rpc's name
        self, request_iterator: AsyncIterator[session_pb2.ClientEvent], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[session_pb2.ServerEvent]:
        if self.resume is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such thing")
        else:
            async for event in self.resume(request_iterator, context):
                yield event


class Control(control_pb2_grpc.ControlServicer):
    """Answers with a canned page for each token, and keeps what it was asked."""

    def __init__(self, pages: Iterable[control_pb2.ListSessionsResponse]) -> None:
        self.pages = list(pages)
        self.metadata: list[dict[str, Any]] = []

    async def ListSessions(  # noqa: N802 - the rpc's name
        self, request: control_pb2.ListSessionsRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.ListSessionsResponse:
        self.metadata.append(dict(context.invocation_metadata() or ()))
        return self.pages[int(request.page_token or 0)]


@contextlib.asynccontextmanager
async def playing(
    part: Part | None = None,
    *,
    resume: Part | None = None,
    control: Control | None = None,
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[int]:
    """Serves; gives the port."""
    server = grpc.aio.server()
    if part is not None:
        inference_pb2_grpc.add_InferenceServicer_to_server(Inference(part, resume), server)
    if control is not None:
        control_pb2_grpc.add_ControlServicer_to_server(control, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


Wait = Callable[[], Awaitable[Any]]
