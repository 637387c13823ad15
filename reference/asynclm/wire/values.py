"""Values that only the wire has: what a server says of itself and of its sessions, and what a client asks for.

What sessions do is in `asynclm.session.effects`; these are the rest.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.session.config import Constraints, DeliveryPolicy, ExecutionMode, Limits, OnEnd, Unit
from asynclm.session.effects import CallRow, Finished, InterruptRow, Report, Usage
from asynclm.session.state import FinishReason, State

DEFAULT_LIMITS = Limits()
"""The limits of a session where nothing else is said."""


class Instructions(enum.StrEnum):
    """What a server writes into the prompt beside the messages."""

    FULL = "full"
    """How to write CML, and the tools."""
    TOOLS = "tools"
    """The tools only, for models trained on CML."""
    NONE = "none"
    """Nothing: the messages say it all."""


class OnDisconnect(enum.StrEnum):
    """What becomes of a session whose stream is dropped before it finished."""

    CANCEL = "cancel"
    DETACH = "detach"


class Capability(enum.StrEnum):
    """What a server, or one of its models, can do."""

    RESUME = "resume"
    GENERATE = "generate"
    SCRIPTED_MODEL = "scripted_model"
    SCRIPTED_WEIGHTS = "scripted_weights"
    PROMPT_IDS = "prompt_ids"
    LOGPROBS = "logprobs"
    STATIC_MASK = "static_mask"
    STATE_GATES = "state_gates"
    GRAMMAR = "grammar"
    KEEP = "keep"
    SYNC_MODES = "sync_modes"
    PYTHON_CALL = "python_call"
    JSON_CALL = "json_call"
    GRANULARITY = "granularity"
    COALESCE = "coalesce"
    SERVER_TOOLS = "server_tools"
    STOP_STRINGS = "stop_strings"
    PENALTIES = "penalties"
    LAZY = "lazy"


@dataclass(frozen=True, slots=True)
class BoundToken:
    """One control token as a vocabulary has it; `id` is None in the text form."""

    control: Control
    id: int | None
    spelling: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A tokenizer binding as a server publishes it.

    Attributes:
        name: its name in the specification's table; empty for one that is not listed.
        tokens: the control tokens.
        eos_ids: ids that end the sequence.
        tokenizer_fingerprint: SHA-256 of the tokenizer's definition, in hex; empty if unknown.
    """

    name: str = ""
    tokens: tuple[BoundToken, ...] = ()
    eos_ids: tuple[int, ...] = ()
    tokenizer_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool of a session and who runs it."""

    name: str
    client_owned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first event of a session: what the server made of `Start`.

    Attributes:
        session_id: names the session in the control service.
        model: the model that decodes.
        capabilities: what the server can do.
        binding: which ids stand for which control tokens.
        grammar_hash: SHA-256, in hex, of the grammar files that rule the session.
        prompt_tokens: length of the prompt.
        limits: the limits in force.
        unenforced_schema_keywords: what the constraint engine does not enforce, as `tool/keyword`.
        emulated: whether the protocol is emulated on a hosted chat API.
        unit: what one unit of credit and of token index is.
        tools: the tools that the model may call.
        mode, on_end, on_disconnect, constraints, body_language: the settings in force.
        credit: units that may be sampled before the first grant; None for unlimited.
        delivery: when results are committed in running text; None if the server does not tell.
        coalesce_ms: the window in which they are gathered.
    """

    session_id: str
    model: str
    capabilities: frozenset[Capability] = frozenset()
    binding: Binding = Binding()
    grammar_hash: str = ""
    prompt_tokens: int = 0
    limits: Limits = DEFAULT_LIMITS
    unenforced_schema_keywords: tuple[str, ...] = ()
    emulated: bool = False
    unit: Unit = Unit.TOKEN
    tools: tuple[OfferedTool, ...] = ()
    mode: ExecutionMode = ExecutionMode.ASYNC
    on_end: OnEnd = OnEnd.WAIT
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    constraints: Constraints = Constraints.GRAMMAR
    body_language: BodyLanguage = BodyLanguage.PYTHON
    credit: int | None = None
    delivery: DeliveryPolicy | None = None
    coalesce_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The first event of a resumed stream; not numbered, not replayed."""

    last_client_seq: int
    last_event_seq: int
    started: Started


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a later revision of the protocol; to be ignored."""


ServerReport = Started | Resumed | Report | UnknownEvent
"""What a server event carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTimings:
    """Where a session's time went, in milliseconds of the session clock; None if unknown."""

    first_token_ms: int | None = None
    total_ms: int | None = None
    suspended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """A server event: its place in the stream, and what happened.

    Attributes:
        sequence: 1, 2, 3 … without gaps; 0 for `Resumed`.
        token_index: the number of stream tokens before it.
        time_ms: milliseconds of the session clock.
        report: what happened.
        timings: beside `Finished`, where the time went, if the server tells.
    """

    sequence: int
    token_index: int
    time_ms: int
    report: ServerReport
    timings: SessionTimings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One model of a server.

    Attributes:
        name: what `Start.model` takes.
        engine: the registered name of its engine.
        context_length: prompt and stream tokens together.
        max_sequences: sessions open at once.
        binding: its control tokens.
        description: device, dtype and the like, for people.
        vocab_size: number of token ids.
        scripted_only: it plays scripts, and decodes nothing by itself.
    """

    name: str
    engine: str = ""
    context_length: int = 0
    max_sequences: int = 0
    binding: Binding = Binding()
    description: Mapping[str, str] = field(default_factory=dict)
    vocab_size: int = 0
    scripted_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits of a server beyond one session; bytes, counts and milliseconds as named. 0 where there is none."""

    max_message_bytes: int = 0
    max_sessions: int = 0
    max_prompt_bytes: int = 0
    max_tools: int = 0
    resume_grace_ms: int = 0
    retention_ms: int = 0
    max_kept_events: int = 0
    max_stop_strings: int = 0
    max_stop_string_bytes: int = 0
    max_top_logprobs: int = 0
    start_timeout_ms: int = 0
    max_script_steps: int = 0
    max_scripts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """What a server is and can do (`GetServerInfo`).

    Attributes:
        server: name of the implementation.
        server_version: its version.
        protocol_revision: the revision of the specification that it implements.
        models: the models it serves; the first is the default.
        capabilities: what all of them can do.
        limits: the limits of a session that asks for none.
        server_limits: limits beyond one session.
        tools: the tools that the server runs itself.
        grammar_hash: the grammar files, by their hash.
        emulated: whether the protocol is emulated on a hosted chat API.
        unit: what one unit of credit and of token index is.
        metrics: measurements of this server on its machine, by name.
    """

    server: str
    server_version: str
    protocol_revision: str
    models: tuple[ModelInfo, ...] = ()
    capabilities: frozenset[Capability] = frozenset()
    limits: Limits = DEFAULT_LIMITS
    server_limits: ServerLimits = ServerLimits()
    tools: tuple[ToolSpec, ...] = ()
    grammar_hash: str = ""
    emulated: bool = False
    unit: Unit = Unit.TOKEN
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """A session in one line; `started_at` in seconds since the epoch, `reason` if it ended."""

    session_id: str
    model: str
    state: State
    attached: bool = True
    paused: bool = False
    started_at: float = 0.0
    token_index: int = 0
    pending_calls: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    reason: FinishReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDetail:
    """One session with its ledger so far, running or kept; `finished` if it ended."""

    summary: SessionSummary
    usage: Usage
    calls: tuple[CallRow, ...] = ()
    interrupts: tuple[InterruptRow, ...] = ()
    last_event_seq: int = 0
    finished: Finished | None = None
