"""Names of states, reasons, outcomes and rejections: the vocabulary that events and ledger share."""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """States of a session [SES-001]. Credit and pause are flags beside them [SES-002]."""

    DECODING = "decoding"
    IN_CALL = "in_call"
    IN_TRAP = "in_trap"
    IN_TEXT_SEQUENCE = "in_text_sequence"
    TRAPPED = "trapped"
    DRAINING = "draining"
    IDLE = "idle"
    FINISHED = "finished"


class Scheduling(enum.StrEnum):
    """When an interrupt is committed, and whether it wakes [INT-030 to INT-033]."""

    IMMEDIATE = "immediate"
    WHEN_IDLE = "when_idle"
    SILENT = "silent"


class Result(enum.StrEnum):
    """How a call resolved [SES-091]."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    NONE = "none"


class Delivery(enum.StrEnum):
    """Whether a result reached the context [SES-091]."""

    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    NOT_AWAITED = "not_awaited"


class ErrorType(enum.StrEnum):
    """The `type` of error payloads that the runtime writes [INT-017]."""

    SYNTAX = "syntax"
    UNKNOWN_FUNCTION = "unknown_function"
    INVALID_ARGUMENTS = "invalid_arguments"
    DEPENDENCY = "dependency"
    LIMIT = "limit"
    DUPLICATE_ID = "duplicate_id"
    INVALID_ID = "invalid_id"
    FORGED = "forged"
    TRAP = "trap"
    PAYLOAD = "payload"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


class RejectReason(enum.StrEnum):
    """Why an interrupt was not accepted [INT-022]."""

    UNKNOWN_ID = "unknown_id"
    NOT_OWNER = "not_owner"
    NOT_DISPATCHED = "not_dispatched"
    ALREADY_RESOLVED = "already_resolved"
    BAD_SOURCE = "bad_source"
    BAD_STATUS = "bad_status"
    BAD_PAYLOAD = "bad_payload"
    TOO_LARGE = "too_large"
    QUEUE_FULL = "queue_full"
    FINISHED = "finished"


class CancelOutcome(enum.StrEnum):
    """The one answer to each cancel [CALL-070]."""

    CANCELLED = "cancelled"
    TOO_LATE = "too_late"
    NOT_CANCELLABLE = "not_cancellable"
    NOT_FOUND = "not_found"


class CancelOrigin(enum.StrEnum):
    """Who asked for a cancel."""

    CLIENT = "client"
    MODEL = "model"
    DEADLINE = "deadline"
    DISCONNECT = "disconnect"
    END = "end"


class FinishReason(enum.StrEnum):
    """Why a session ended [SES-070]."""

    STOP = "stop"
    FINISHED_BY_CLIENT = "finished_by_client"
    ABORTED = "aborted"
    LENGTH = "length"
    STALLED = "stalled"
    CONTEXT_FULL = "context_full"
    IDLE_TIMEOUT = "idle_timeout"
    SCRIPT_END = "script_end"
    DISCONNECTED = "disconnected"
    DRAINED = "drained"
    ENGINE_ERROR = "engine_error"
    STOP_STRING = "stop_string"


class UndeliveredReason(enum.StrEnum):
    """Why an accepted interrupt or a call's result never reached the context."""

    SESSION_FINISHED = "session_finished"
    CONTEXT_FULL = "context_full"
    DETACHED = "detached"
    SILENT_AT_END = "silent_at_end"
    CANCELLED_AT_END = "cancelled_at_end"


class NoticeCode(enum.StrEnum):
    """Things a client may want to know that change nothing."""

    STRAY = "stray"
    FORGED = "forged"
    MASKED = "masked"
    INCOMPLETE_BLOCK = "incomplete_block"
    MALFORMED_BLOCK = "malformed_block"
    BLOCK_LIMIT = "block_limit"
    LATE_RESULT = "late_result"
    TOOL = "tool"
    REPLAY = "replay"
