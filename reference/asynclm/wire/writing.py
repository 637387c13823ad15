"""Writes to a gRPC stream without losing the reason why the stream has ended."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.message import Message

_CORE_ERROR: type[Exception] = grpc.aio.InternalError


async def write(call: Any, message: Message) -> bool:
    """Writes one message; not to be cancelled, and one at a time.

    A write that meets the end of the stream makes `call.write` overwrite the server's status by INTERNAL ("Internal
    error from Core"), for the reader too. So the message is handed to the layer below it, where there is one.

    Args:
        call: a connected stream (`wait_for_connection` has returned).
        message: what to write.

    Returns:
        Whether it was written. If not, the stream is over, and reading tells why.
    """
    send = getattr(getattr(call, "_cython_call", None), "send_serialized_message", None)
    try:
        if send is None:
            await call.write(message)
        elif call.done():
            return False
        else:
            await send(message.SerializeToString())
    except (asyncio.InvalidStateError, grpc.RpcError, _CORE_ERROR):
        return False
    return True
