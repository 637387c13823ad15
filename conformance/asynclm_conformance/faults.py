"""What stops a case from being played to its end."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
_T = TypeVar("_T")


class PlayError(Exception):
    """The case cannot go on, and the target is to blame.

    Attributes:
        message: what happened.
        want: what had to happen.
        got: what did.
        timed_out: whether nothing happened where something had to.
    """

    def __init__(self, message: str, *, want: str = "", got: str = "", timed_out: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.want = want
        self.got = got
        self.timed_out = timed_out


class TargetGoneError(Exception):
    """The target cannot be reached any more."""


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """How an rpc ended.

    Attributes:
        code: the status code's name.
        message: for people.
        reason: that of its ErrorInfo, empty if it has none.
        domain: of its ErrorInfo.
        fields: the fields that its BadRequest names.
    """

    code: str
    message: str = ""
    reason: str = ""
    domain: str = ""
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [self.code]
        if self.reason:
            parts.append(self.reason)
        if self.fields:
            parts.append(f"fields {', '.join(self.fields)}")
        if self.message:
            parts.append(repr(self.message[:300]))
        return " ".join(parts)


OK = RpcStatus("OK")

UNDECODABLE = RpcStatus("INTERNAL", "what the target sent cannot be decoded")
"""Told in place of bytes that are no message of the rpc's type: grpc gives None for them, and no error."""


class RpcFailedError(Exception):
    """An rpc ended with another status than OK, or with a response that cannot be decoded."""

    def __init__(self, status: RpcStatus) -> None:
        super().__init__(str(status))
        self.status = status


async def answer_of(call: Awaitable[_T]) -> _T:
    """The response of an rpc that has one.

    Raises:
        RpcFailedError: it has none.
    """
    try:
        response = await call
    except grpc.aio.AioRpcError as error:
        raise RpcFailedError(status_of(error)) from None
    if response is None:
        raise RpcFailedError(UNDECODABLE)
    return response


def status_of(error: grpc.aio.AioRpcError) -> RpcStatus:
    """Reads a status and its details; details that cannot be read count as absent."""
    reason = domain = ""
    fields: list[str] = []
    trailing: Any = error.trailing_metadata()
    for key, value in trailing or ():
        if key != _DETAILS:
            continue
        status = status_pb2.Status()
        try:
            status.ParseFromString(value if isinstance(value, bytes) else value.encode())
            for detail in status.details:
                info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                if detail.Unpack(info):
                    reason, domain = info.reason, info.domain
                elif detail.Unpack(bad):
                    fields += [violation.field for violation in bad.field_violations]
        except DecodeError:
            continue
    return RpcStatus(error.code().name, error.details() or "", reason, domain, tuple(fields))
