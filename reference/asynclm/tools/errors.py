"""What goes wrong with a tool, as data: the error payload that the model reads [INT-013, INT-019]."""

from __future__ import annotations

import enum
import json

from asynclm.cml.detokenise import scrub

MAX_MESSAGE_CHARS = 1_000
"""Longest message in an error payload; what is longer is cut, so that a traceback cannot fill the context."""


class ToolErrorType(enum.StrEnum):
    """The `type` of error payloads that the tools runtime writes itself; authors may use others."""

    TOOL_ERROR = "tool_error"
    """The author's `ToolError` without a type of its own."""
    EXCEPTION = "exception"
    """The tool raised something else."""
    INVALID_ARGUMENTS = "invalid_arguments"
    UNKNOWN_FUNCTION = "unknown_function"
    INVALID_RESULT = "invalid_result"
    """The tool returned what JSON cannot hold, or yielded what is not an update."""
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LIMIT = "limit"


class ToolError(Exception):
    """Raised by a tool's author to tell the model what went wrong.

    Args:
        message: for the model; one sentence that says what to do differently.
        type: a short machine-readable class, `tool_error` by default.
        retryable: whether the same call may succeed later.
    """

    def __init__(self, message: str, *, type: str = ToolErrorType.TOOL_ERROR, retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.type = str(type)
        self.retryable = retryable

    @property
    def payload(self) -> str:
        """The error payload, JSON text."""
        return error_payload(self.type, self.message, retryable=self.retryable)


class InvalidArgumentsError(ToolError):
    """The arguments do not fit the tool's parameters."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=ToolErrorType.INVALID_ARGUMENTS)


class UnserializableError(ToolError, ValueError):
    """A tool gave a value that JSON cannot hold."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=ToolErrorType.INVALID_RESULT)


def error_payload(type: str, message: str, *, retryable: bool = False) -> str:
    """Writes `{"type", "message", "retryable"}` as JSON text that is valid UTF-8, its message cut short."""
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[: MAX_MESSAGE_CHARS - 1] + "…"
    fields = {"type": scrub(type), "message": scrub(message), "retryable": retryable}
    return json.dumps(fields, ensure_ascii=False)


def exception_payload(error: BaseException) -> str:
    """The error payload of anything that a tool raised. Faults of connections count as retryable."""
    if isinstance(error, ToolError):
        return error.payload
    try:
        text = str(error)
    except Exception:  # a broken __str__ must not cost the model its answer
        text = ""
    name = type(error).__name__
    message = f"{name}: {text}" if text else name
    return error_payload(ToolErrorType.EXCEPTION, message, retryable=isinstance(error, ConnectionError | TimeoutError))
