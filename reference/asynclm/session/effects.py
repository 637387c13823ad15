"""What a session does: the outputs of the machine, in the order in which they must be carried out and emitted.

Two kinds. *Reports* go to the client as server events, in this order. *Commands* are for the shell: tensors, tools
and timers. `token_index` is the number of stream tokens so far, the index that the next one takes [SES-003].
"""

from __future__ import annotations

from dataclasses import dataclass

from asynclm.cml.blocks import Reference, Trap
from asynclm.cml.control import Control, Status
from asynclm.session.events import TokenLogprob
from asynclm.session.state import (
    CancelOrigin,
    CancelOutcome,
    Delivery,
    FinishReason,
    NoticeCode,
    RejectReason,
    Result,
    Scheduling,
    State,
    UndeliveredReason,
)

# --- Ledger rows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTimings:
    """When a call was emitted, dispatched, resolved and settled; milliseconds of the session clock, or None."""

    emitted_ms: int
    dispatched_ms: int | None = None
    resolved_ms: int | None = None
    settled_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """The ledger's row for a call [SES-091].

    Attributes:
        index: the call index, from 0 in the order of `[CALL]`.
        id: its id, or None for an anonymous call.
        function: the function's name as written, empty if it could not be read.
        result: how it resolved.
        delivery: whether its terminal interrupt is in the context.
        token_index: index of that interrupt's `[INTR]` if DELIVERED, else None.
        reason: why it is UNDELIVERED, else None.
        payload: the terminal payload, handed back if UNDELIVERED; empty if DELIVERED or there is none.
        timings: when things happened to it.
    """

    index: int
    id: str | None
    function: str
    result: Result
    delivery: Delivery
    token_index: int | None = None
    reason: UndeliveredReason | None = None
    payload: str = ""
    timings: CallTimings


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptRow:
    """The ledger's row for an accepted interrupt: committed at `token_index`, or handed back with its payload."""

    number: int
    source: str
    status: Status
    delivery: Delivery
    token_index: int | None = None
    reason: UndeliveredReason | None = None
    payload: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of a session: its calls by index, its accepted interrupts by number [SES-090]."""

    calls: tuple[CallRow, ...]
    interrupts: tuple[InterruptRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of a session: prompt (of which cached), sampled, injected."""

    prompt_tokens: int
    cached_tokens: int
    sampled_tokens: int
    injected_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedUsage:
    """What a session on a hosted interface cost there [SES-116].

    Attributes:
        requests: that were sent, failed ones included.
        prompt_tokens: of all of them.
        cached_tokens: of those, found in the interface's cache.
        completion_tokens: of all answers.
        discarded_tokens: of those, what is no part of the context [SES-118].
        estimated_requests: whose token counts the interface did not tell [SES-117].
        first_token_ms: from sending a request to its first token, for each that had one.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    discarded_tokens: int = 0
    estimated_requests: int = 0
    first_token_ms: tuple[int, ...] = ()


# --- Reports ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Sampled tokens. Ends at every control token (`control`) and at end of sequence; `text` leaves both out.

    It also leaves out a stop string that ended decoding, and what stands behind it in the same token [SES-102].

    Attributes:
        token_index: index of the first id.
        ids: the ids, in order; empty in PIECE units.
        text: the text that became readable with them (held-back bytes appear when they are complete).
        control: the control token that is the last of `ids`, or None.
        end_of_sequence: whether the last of `ids` ends the sequence.
        logprobs: one for each id, or empty.
        ranks: the places of the ids among all tokens by log-probability, from 1; beside `logprobs`.
        top_logprobs: for each id the most probable tokens, as many as were asked for; empty if none were.
        in_block: the opening token of the block that the text stands in, or None outside blocks.
    """

    token_index: int
    ids: tuple[int, ...]
    text: str
    control: Control | None = None
    end_of_sequence: bool = False
    logprobs: tuple[float, ...] = ()
    ranks: tuple[int, ...] = ()
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()
    in_block: Control | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEmitted:
    """A call block closed [CALL-006]. Hosts must wait for `CallDispatched`."""

    token_index: int
    index: int
    id: str | None
    function: str
    raw: str
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDispatched:
    """A call is to be run now; its time-out starts here [CALL-012, CALL-014].

    Attributes:
        arguments: the final arguments as JSON text of an object, references substituted.
        client_owned: whether the client runs it.
        timeout_ms: its time-out from now.
    """

    token_index: int
    index: int
    id: str | None
    function: str
    arguments: str
    client_owned: bool
    timeout_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCancelRequested:
    """The host of a dispatched call must stop it; its later results are rejected [CALL-073, CALL-075]."""

    token_index: int
    index: int
    id: str | None
    origin: CancelOrigin
    client_owned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswered:
    """The one outcome of a cancel; side-effect flags of the tool travel with it [CALL-070, CALL-076]."""

    token_index: int
    outcome: CancelOutcome
    index: int | None
    id: str | None
    origin: CancelOrigin
    side_effects: str = ""
    idempotent: bool = False
    client_seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapEntered:
    """A trap's `[END]` was sampled, or (SYNC) a call's `[END]` acts as one: `implicit`."""

    token_index: int
    trap: Trap
    implicit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapExited:
    """The trap's condition holds, its time ran out (`timed_out`), it cannot end (`empty`), or a human came in."""

    token_index: int
    timed_out: bool = False
    empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """The session became DRAINING, IDLE or DECODING again, and why [SES-049]."""

    token_index: int
    state: State
    reason: str
    stop_string: str | None = None
    """The stop string that made it rest, or go on with what was queued, if one did [SES-103]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The answer to a probe [WIRE-080]. `credit` is None if unlimited."""

    token_index: int
    nonce: str
    state: State
    credit: int | None
    paused: bool
    queued: int
    unresolved: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptAccepted:
    """An interrupt is in the queue; `number` counts accepted interrupts from 0, in arrival order."""

    token_index: int
    number: int
    source: str
    status: Status
    scheduling: Scheduling
    client_seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptCommitted:
    """An interrupt is in the context from `token_index` on; `ids` are all its injected ids."""

    token_index: int
    number: int
    source: str
    status: Status
    payload: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptRejected:
    """An interrupt was not accepted; its payload is handed back [INT-021]."""

    token_index: int
    source: str
    reason: RejectReason
    message: str
    payload: str
    client_seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettled:
    """A call reached its one settlement."""

    token_index: int
    row: CallRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a client may want to know that changed nothing."""

    token_index: int
    code: NoticeCode
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last event of a session [SES-073, SES-074]."""

    token_index: int
    reason: FinishReason
    message: str
    usage: Usage
    calls: tuple[CallRow, ...]
    interrupts: tuple[InterruptRow, ...]
    stop_string: str | None = None
    """The stop string that ended it, if one did [SES-103]."""
    hosted: HostedUsage | None = None
    """What it cost on a hosted interface; the shell of such a session adds it [SES-116]."""


Report = (
    Tokens
    | CallEmitted
    | CallDispatched
    | CallCancelRequested
    | CancelAnswered
    | TrapEntered
    | TrapExited
    | StateChanged
    | Probed
    | InterruptAccepted
    | InterruptCommitted
    | InterruptRejected
    | CallSettled
    | Notice
    | Finished
)
"""Anything that the client sees."""

# --- Commands --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """Append interrupts to the running sequence; the next decode step prefills them and samples on.

    Attributes:
        ids: all their ids, in order; empty in PIECE units.
        interrupts: what they say, for engines that spell them themselves.
    """

    ids: tuple[int, ...]
    interrupts: tuple[InterruptCommitted, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend:
    """No decode step for a while: a trap, DRAINING or IDLE. `expected_wait_ms` is None if nothing is known."""

    expected_wait_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Decode steps are coming again."""


Command = Inject | Suspend | Resume
"""What only the shell sees. Hosts of tools act on the reports `CallDispatched` and `CallCancelRequested`."""

Effect = Report | Command
"""Any output of the machine."""
