"""What can go wrong for a client: one base class, and a subclass for each thing that a caller can act on."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from asynclm.session.effects import InterruptRejected
from asynclm.wire import FieldViolation, StatusError


class AsyncLMError(Exception):
    """Anything that goes wrong between a client and its server.

    Attributes:
        message: one sentence for people.
        code: the gRPC status code, or None if no rpc failed.
        reason: the server's reason in one upper-case word (`UNKNOWN_MODEL`); empty if it gave none.
        violations: the fields that the server refused, each with what is allowed.
        metadata: more about the reason, for programs.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.violations = violations
        self.metadata: Mapping[str, str] = dict(metadata or {})

    @property
    def field(self) -> str | None:
        """The path of the first field that the server refused (`start.sampling.top_p`), or None."""
        return self.violations[0].field if self.violations else None


class InvalidRequestError(AsyncLMError):
    """The server refused what was asked of it; `violations` name the fields."""


class NotFoundError(AsyncLMError):
    """No such model, script or session."""


class AuthenticationError(AsyncLMError):
    """Missing or wrong credentials."""


class LimitError(AsyncLMError):
    """A limit of the server: sessions, message size, prompt size."""


class UnavailableError(AsyncLMError):
    """The server cannot be reached, went away, or is shutting down; trying again may help."""


class UnsupportedError(AsyncLMError):
    """The server does not offer this rpc."""


class ServerError(AsyncLMError):
    """A fault of the server."""


class ProtocolError(AsyncLMError):
    """The server sent what this revision of the protocol does not allow."""


class SessionClosedError(AsyncLMError):
    """The session is over for this client: finished, closed, or taken up by another one; nothing can be sent to it."""


class InterruptRejectedError(AsyncLMError):
    """The server did not accept an interrupt; the session goes on.

    Attributes:
        rejected: why, with the payload handed back.
    """

    def __init__(self, rejected: InterruptRejected) -> None:
        super().__init__(f"{rejected.reason.value}: {rejected.message}", reason=rejected.reason.name)
        self.rejected = rejected


_BY_CODE: dict[grpc.StatusCode, type[AsyncLMError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: AuthenticationError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    grpc.StatusCode.ABORTED: SessionClosedError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
}


def error_from_status(status: StatusError, target: str) -> AsyncLMError:
    """The client's error for the status that ended an rpc.

    Args:
        status: what the server, or the connection, said.
        target: the server's address, named where it could not be reached.
    """
    kind = _BY_CODE.get(status.code, ServerError)
    message = status.message or status.code.name
    if kind is UnavailableError and not status.reason:
        message = f"{target}: {message}"
    return kind(
        message,
        code=status.code,
        reason=status.reason,
        violations=status.violations,
        metadata=status.metadata,
    )
