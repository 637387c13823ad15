"""What a session is started with: modes, policies and limits, validated on construction."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from asynclm.cml.control import BodyLanguage
from asynclm.cml.detokenise import REPLACEMENT, scrub
from asynclm.cml.toolspec import ToolSpec

MAX_STOP_STRINGS = 16
"""Stop strings of one session [LIM-015]."""

MAX_STOP_STRING_BYTES = 256
"""Size of one stop string, in bytes of UTF-8 [LIM-015]."""


class ExecutionMode(enum.StrEnum):
    """When calls run against decoding [SES-060 to SES-065]."""

    ASYNC = "async"
    SYNC = "sync"
    SYNC_PARALLEL = "sync_parallel"


class OnEnd(enum.StrEnum):
    """What end of sequence does [SES-040 to SES-050]."""

    WAIT = "wait"
    DETACH = "detach"
    CANCEL = "cancel"
    KEEP = "keep"


class Constraints(enum.StrEnum):
    """Which mask guards sampling; each includes the ones before it."""

    NONE = "none"
    """Only `[INTR]` is forbidden."""
    STATIC = "static"
    """The rules of where each control token may stand."""
    GATES = "gates"
    """Also: no `[TRAP]` with nothing pending; with `gate_end`, no end of sequence with named calls pending."""
    GRAMMAR = "grammar"
    """Also: the grammar of bodies and trap conditions inside blocks."""


class Granularity(enum.StrEnum):
    """Where in running text an interrupt may be committed [INT-050, INT-051]."""

    TOKEN = "token"
    WORD = "word"
    SENTENCE = "sentence"


class DeliveryPolicy(enum.StrEnum):
    """When results are committed in running text [INT-060 to INT-063]."""

    EAGER = "eager"
    """Each at the next safe point."""
    COALESCE = "coalesce"
    """Those that come within a window in one batch."""
    LAZY = "lazy"
    """At traps and at end of sequence only."""


class Unit(enum.StrEnum):
    """What one unit of credit and of token index is [WIRE-070, WIRE-074]."""

    TOKEN = "token"
    PIECE = "piece"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one session; counts, bytes of UTF-8, or milliseconds as named.

    Attributes:
        max_new_tokens: sampled tokens before the session ends LENGTH.
        max_block_tokens: sampled tokens inside one block before only `[END]` may be sampled.
        max_pending_calls: named calls pending at once.
        max_payload_bytes: one interrupt's payload.
        max_argument_bytes: one argument after its reference is resolved, and one call's arguments.
        max_queued: `@`, partial and progress interrupts queued at once; others are never refused for room [LIM-008].
        max_empty_traps: traps that could not end, in a row, before the session finishes STALLED.
        context_length: prompt and stream tokens together.
        max_call_time_ms: time-out of calls that declare none.
        max_idle_time_ms: time in IDLE, without credit, or paused before the session finishes IDLE_TIMEOUT.

    Raises:
        ValueError: a limit is not positive.
    """

    max_new_tokens: int = 1024
    max_block_tokens: int = 512
    max_pending_calls: int = 64
    max_payload_bytes: int = 1 << 20
    max_argument_bytes: int = 1 << 20
    max_queued: int = 256
    max_empty_traps: int = 3
    context_length: int = 8192
    max_call_time_ms: int = 300_000
    max_idle_time_ms: int = 600_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"limits.{name} is {value}; it must be positive")


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """The fixed settings of one session.

    Attributes:
        mode: when calls run against decoding.
        on_end: what end of sequence does.
        constraints: which mask guards sampling.
        gate_end: with GATES or GRAMMAR, forbid end of sequence while named calls are pending.
        body_language: the language of call bodies.
        granularity: where in text an interrupt may be committed.
        granularity_hold: sampled tokens that a safe point is held back at most by `granularity`.
        delivery: when results are committed in running text; None for what `coalesce_ms` says.
        coalesce_ms: window for which a safe point is held back while results keep coming; 0 for none.
        credit: tokens that may be sampled before the first grant; None for unlimited.
        unit: what one unit of credit and index is.
        stop: strings that end decoding where the text outside blocks comes to contain one [SES-100].
        prompt_tokens: length of the prompt, counted against `limits.context_length`.
        request_texts: what the user wrote in the prompt, for arguments that are copied from it.
        tools: the functions the model may call, by unique names.
        client_tools: names of the tools whose results the client sends; the rest are the server's.
        limits: limits of the session.

    Raises:
        ValueError: a field is out of range, two tools have one name, or `client_tools` names no tool.
    """

    mode: ExecutionMode = ExecutionMode.ASYNC
    on_end: OnEnd = OnEnd.WAIT
    constraints: Constraints = Constraints.GRAMMAR
    gate_end: bool = False
    body_language: BodyLanguage = BodyLanguage.PYTHON
    granularity: Granularity = Granularity.TOKEN
    granularity_hold: int = 32
    delivery: DeliveryPolicy | None = None
    coalesce_ms: int = 0
    credit: int | None = None
    unit: Unit = Unit.TOKEN
    stop: tuple[str, ...] = ()
    prompt_tokens: int = 0
    request_texts: tuple[str, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    client_tools: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)

    @property
    def delivery_in_force(self) -> DeliveryPolicy:
        """When results are committed in running text [INT-062]."""
        if self.delivery is not None:
            return self.delivery
        return DeliveryPolicy.COALESCE if self.coalesce_ms else DeliveryPolicy.EAGER

    def __post_init__(self) -> None:
        if self.credit is not None and self.credit < 0:
            raise ValueError(f"credit is {self.credit}; it must be 0 or more, or absent for unlimited")
        if self.granularity_hold < 0:
            raise ValueError(f"granularity_hold is {self.granularity_hold}; it must be 0 or more")
        if self.gate_end and self.constraints not in (Constraints.GATES, Constraints.GRAMMAR):
            raise ValueError(
                f"gate_end is true with constraints {self.constraints.name}; allowed with GATES and GRAMMAR"
            )
        if self.coalesce_ms < 0:
            raise ValueError(f"coalesce_ms is {self.coalesce_ms}; it must be 0 or more")
        _check_window(self.delivery, self.coalesce_ms)
        if self.prompt_tokens < 0:
            raise ValueError(f"prompt_tokens is {self.prompt_tokens}; it must be 0 or more")
        _check_stop(self.stop)
        names = [tool.name for tool in self.tools]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"tools: {repeated[0][:80]!r} is declared twice; names must be unique")
        unknown = sorted(self.client_tools - set(names))
        if unknown:
            raise ValueError(f"client_tools: {unknown[0][:80]!r} is not among the tools")


def _check_window(delivery: DeliveryPolicy | None, coalesce_ms: int) -> None:
    if delivery is DeliveryPolicy.EAGER and coalesce_ms:
        raise ValueError(f"coalesce_ms is {coalesce_ms} with delivery EAGER; allowed: 0, or delivery COALESCE or LAZY")
    if delivery is DeliveryPolicy.COALESCE and not coalesce_ms:
        raise ValueError("coalesce_ms is 0 with delivery COALESCE; give the window in milliseconds, 1 or more")


def _check_stop(stop: tuple[str, ...]) -> None:
    if len(stop) > MAX_STOP_STRINGS:
        raise ValueError(f"stop is {len(stop)} strings; allowed: up to {MAX_STOP_STRINGS}")
    for position, text in enumerate(stop):
        size = len(text.encode("utf-8", "surrogatepass"))
        if not 0 < size <= MAX_STOP_STRING_BYTES:
            raise ValueError(f"stop[{position}] is {size} bytes long; allowed: 1 to {MAX_STOP_STRING_BYTES}")
        if REPLACEMENT in scrub(text):
            raise ValueError(f"stop[{position}] is {text[:40]!r}; allowed: text without U+FFFD, which stands for none")
