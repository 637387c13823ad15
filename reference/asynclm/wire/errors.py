"""Faults of an rpc: what the peer did wrong, as gRPC status with google.rpc details that name the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "asynclm"
"""The domain of this protocol's ErrorInfo reasons [ERR-004]."""

BAD_FIELD = "BAD_FIELD"
BAD_EVENT = "BAD_EVENT"
BAD_TOOL = "BAD_TOOL"
BAD_CML = "BAD_CML"
SEQUENCE_GAP = "SEQUENCE_GAP"
PROMPT_TOO_LONG = "PROMPT_TOO_LONG"
UNSUPPORTED = "UNSUPPORTED"

DETAILS_KEY = "grpc-status-details-bin"
_MAX_MESSAGE_CHARS = 1_000
_MAX_VALUE_CHARS = 80


class WireError(ValueError):
    """A message of the peer that this revision of the protocol cannot read."""


class FieldError(WireError):
    """A field of a request is not allowed.

    Attributes:
        field: its path, as in the proto (`start.tools[2].timeout_ms`).
        message: what it is, cut short, and what is allowed [ERR-002].
        reason: what is wrong in one word, out of the table of the specification [ERR-004].
    """

    def __init__(self, field: str, message: str, reason: str = BAD_FIELD) -> None:
        super().__init__(f"{field} {message}")
        self.field = field
        self.message = message
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that the server refused, and why."""

    field: str
    description: str


@dataclass(eq=False)  # not frozen: contextlib sets an exception's traceback
class StatusError(Exception):
    """The fault that ends an rpc, on both sides of the wire.

    Attributes:
        code: the gRPC status code.
        message: one sentence for people: what was wrong, where, what is allowed.
        reason: what went wrong in one upper-case word (`UNKNOWN_MODEL`); empty if the server did not say.
        violations: the fields that were refused.
        metadata: more about the reason, for programs.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    violations: tuple[FieldViolation, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def shorten(value: object, limit: int = _MAX_VALUE_CHARS) -> str:
    """A peer's value for a message: as Python would write it, cut short."""
    text = repr(value[: limit + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def field_fault(error: FieldError) -> StatusError:
    """The fault of a refused field: INVALID_ARGUMENT with the field's violation [ERR-003]."""
    return StatusError(
        grpc.StatusCode.INVALID_ARGUMENT,
        str(error),
        error.reason,
        (FieldViolation(error.field, error.message),),
    )


def session_not_found(session_id: str) -> StatusError:
    """The fault of an unknown session id."""
    message = f"session_id is {shorten(session_id)}; no session of that id is running or kept"
    return StatusError(grpc.StatusCode.NOT_FOUND, message, "UNKNOWN_SESSION")


def fault_status(fault: StatusError) -> status_pb2.Status:
    """A fault as google.rpc.Status, with ErrorInfo and BadRequest where there is something to say."""
    status = status_pb2.Status(code=fault.code.value[0], message=fault.message[:_MAX_MESSAGE_CHARS])
    details: list[Any] = []
    if fault.reason:
        details.append(error_details_pb2.ErrorInfo(reason=fault.reason, domain=DOMAIN, metadata=dict(fault.metadata)))
    if fault.violations:
        bad = error_details_pb2.BadRequest()
        for violation in fault.violations[:10]:
            text = violation.description[:_MAX_MESSAGE_CHARS]
            bad.field_violations.add(field=violation.field[:200], description=text, reason=fault.reason)
        details.append(bad)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


class AbortableContext(Protocol):
    """What `abort` needs of a grpc.aio servicer context."""

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> NoReturn:
        """Ends the rpc."""
        ...


async def abort(context: AbortableContext, fault: StatusError) -> NoReturn:
    """Ends an rpc of a grpc.aio server with a fault and its details."""
    status = fault_status(fault)
    await context.abort(fault.code, status.message, ((DETAILS_KEY, status.SerializeToString()),))


def fault_from_rpc_error(error: grpc.aio.AioRpcError) -> StatusError:
    """The fault that a server ended an rpc with, details read back."""
    status = status_pb2.Status()
    trailing: Any = error.trailing_metadata() or ()
    for key, value in trailing:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                status.Clear()
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        for message in (info, bad):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    violations = tuple(FieldViolation(v.field, v.description) for v in bad.field_violations)
    return StatusError(error.code(), error.details() or status.message, info.reason, violations, dict(info.metadata))
