"""What happens to a session: the inputs of the machine. Frozen; each validates itself.

The shell applies them one at a time, each wholly before the next [SES-005].
"""

from __future__ import annotations

from dataclasses import dataclass

from asynclm.cml.control import Status
from asynclm.session.state import CancelOrigin, FinishReason, NoticeCode, Scheduling


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token that could have been sampled.

    Attributes:
        token_id: its id.
        logprob: its log-probability under the model.
        text: what it says by itself: bytes that are no text by themselves are U+FFFD, special tokens spelled.
    """

    token_id: int
    logprob: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSampled:
    """The engine sampled one token (or, in PIECE units, received one piece).

    Attributes:
        token_id: the id; -1 for a piece.
        piece: the text of a piece (text form only), else None.
        ends: the model's answer ends with this piece (text form only), which is an empty one [WIRE-076].
        logprob: its log-probability, if asked for.
        rank: its place among all tokens by log-probability, from 1; beside `logprob`.
        top: the most probable tokens, as many as were asked for.
    """

    token_id: int = -1
    piece: str | None = None
    ends: bool = False
    logprob: float | None = None
    rank: int | None = None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded:
    """The model's stream ended without a token for it: a hosted stream's end, or an exhausted script (SCRIPT_END)."""

    reason: FinishReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptReceived:
    """A client, a tool host or another session sends an interrupt.

    Attributes:
        source: a call's id, `@user`, `@system`, `@agent.NAME`; or None with `call_index` (a tool host's answer).
        call_index: the call that a tool host answers, anonymous ones included.
        status: what it says of the call; None for `@` sources and plain ok results.
        payload: JSON text for results, plain text for `@` sources.
        scheduling: None for the default (IMMEDIATE; SILENT for partial and progress).
        from_client: whether it came over the client's stream (else from a server-owned tool host).
        client_seq: the client's event number, echoed in the answer; 0 if it has none.

    Raises:
        ValueError: not exactly one of source and call_index is given [WIRE-038].
    """

    payload: str
    source: str | None = None
    call_index: int | None = None
    status: Status | None = None
    scheduling: Scheduling | None = None
    from_client: bool = True
    client_seq: int = 0

    def __post_init__(self) -> None:
        if (self.source is None) == (self.call_index is None):
            raise ValueError("interrupt: give exactly one of source and call_index")


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """Somebody wants a call cancelled, by id or by index (exactly one)."""

    id: str | None = None
    call_index: int | None = None
    origin: CancelOrigin = CancelOrigin.CLIENT
    client_seq: int = 0

    def __post_init__(self) -> None:
        if (self.id is None) == (self.call_index is None):
            raise ValueError("cancel_call: give exactly one of id and call_index")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditGranted:
    """The client grants more credit [WIRE-072].

    Raises:
        ValueError: tokens is not positive.
    """

    tokens: int

    def __post_init__(self) -> None:
        if self.tokens <= 0:
            raise ValueError(f"grant.tokens is {self.tokens}; it must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseChanged:
    """The client pauses or unpauses decoding."""

    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputHeld:
    """No more may be made for the client for now, or may be again [WIRE-061, WIRE-094]."""

    held: bool
    until_ack: bool = False
    """True: the client's `Ack` ends it; False: that it reads, which happens by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRequested:
    """The client asks for the state once nothing more can happen by itself [WIRE-081]."""

    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRequested:
    """The client's `Finish`, an abort, a drain of the server, or a fault of the engine ends the session."""

    reason: FinishReason = FinishReason.FINISHED_BY_CLIENT
    message: str = ""
    cancel_pending: bool | None = None
    """True: as under CANCEL; False: as under DETACH; None: by `on_end`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfClosed:
    """The client closed its side of the stream; not a Finish [SES-082]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAdvanced:
    """The clock moved; timers due by `now_ms` fire by due time, then creation order."""

    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMasked:
    """A script wanted a token that the mask forbids: a `Notice(MASKED)` and nothing else [SCR-006]."""

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRaised:
    """The shell has something to tell the client that changes nothing."""

    code: NoticeCode
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRestarted:
    """A hosted model is asked anew: for an interrupt, behind a trap or a cut, or because its stream broke off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReplayed:
    """A hosted model said again what it had said before that; it is no part of the stream [SES-120]."""

    text: str


Event = (
    TokenSampled
    | StreamEnded
    | InterruptReceived
    | CancelRequested
    | CreditGranted
    | PauseChanged
    | OutputHeld
    | ProbeRequested
    | FinishRequested
    | HalfClosed
    | TimeAdvanced
    | StepMasked
    | NoticeRaised
    | RequestRestarted
    | TextReplayed
)
"""Any input of the machine."""
