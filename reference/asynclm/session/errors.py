"""The two families of errors: the shell's misuse, and the peer's faults that must fail its RPC (as in h11)."""

from __future__ import annotations


class ProtocolError(Exception):
    """A base for both; never raised itself."""


class LocalProtocolError(ProtocolError):
    """The shell did what the machine does not allow now: a bug on this side, never the peer's doing."""


class RemoteProtocolError(ProtocolError):
    """The client did what the protocol forbids; its RPC must fail.

    Everything less than that is answered in the stream (`InterruptRejected`, `CancelAnswered`, …) and raises nothing.

    Attributes:
        status: the name of the gRPC status code to fail with, `FAILED_PRECONDITION` say.
    """

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status
