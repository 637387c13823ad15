"""The tables of the session machine, and the only code that changes a state.

Three tables, as literal data: which inputs each session state takes (`EVENTS`), how triggers move the session
(`SESSION`), and how triggers move one call (`CALL`). A `Cell` holds a state and moves it along its table; nothing else
in this package assigns one. Credit and pause are flags beside the state, not states [SES-002].
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from asynclm.session import events as ev
from asynclm.session.errors import LocalProtocolError
from asynclm.session.state import State


class Trigger(enum.StrEnum):
    """What moves a session from state to state; the values are the labels of the diagram."""

    SEQUENCE_HELD = "text held back"
    SEQUENCE_WHOLE = "text complete"
    CALL_OPENED = "[CALL]"
    TRAP_OPENED = "[TRAP]"
    FORGERY_OPENED = "forged [INTR]"
    BLOCK_CLOSED = "[END], or malformed"
    TRAP_ENTERED = "[END], waiting begins"
    TRAP_EXITED = "condition holds, time-out, or it cannot end"
    DRAIN = "end of sequence, calls pending"
    REST = "end of sequence, stop string or length, under KEEP"
    WAKE = "interrupt"
    FINISH = "end of the session"


class CallState(enum.StrEnum):
    """The life of one call (spec: calls)."""

    HELD = "held"
    DISPATCHED = "dispatched"
    RESOLVED = "resolved"
    SETTLED = "settled"


class CallTrigger(enum.StrEnum):
    """What moves a call."""

    DISPATCH = "references resolved"
    RESOLVE = "first terminal result"
    SETTLE = "committed, not awaited, or session finished"


STEPPING: Final = frozenset({State.DECODING, State.IN_CALL, State.IN_TRAP, State.IN_TEXT_SEQUENCE})
"""States in which decode steps run."""

WAITING: Final = frozenset({State.TRAPPED, State.DRAINING, State.IDLE})
"""States in which an interrupt, and nothing else, brings decoding back; WHEN_IDLE counts as IMMEDIATE here."""

SESSION: Final[Mapping[State, Mapping[Trigger, State]]] = {
    State.DECODING: {
        Trigger.SEQUENCE_HELD: State.IN_TEXT_SEQUENCE,
        Trigger.CALL_OPENED: State.IN_CALL,
        Trigger.TRAP_OPENED: State.IN_TRAP,
        Trigger.FORGERY_OPENED: State.IN_TEXT_SEQUENCE,
        Trigger.DRAIN: State.DRAINING,
        Trigger.REST: State.IDLE,
        Trigger.FINISH: State.FINISHED,
    },
    State.IN_TEXT_SEQUENCE: {
        Trigger.SEQUENCE_WHOLE: State.DECODING,
        Trigger.FINISH: State.FINISHED,
    },
    State.IN_CALL: {
        Trigger.BLOCK_CLOSED: State.DECODING,
        Trigger.TRAP_ENTERED: State.TRAPPED,
        Trigger.FINISH: State.FINISHED,
    },
    State.IN_TRAP: {
        Trigger.BLOCK_CLOSED: State.DECODING,
        Trigger.TRAP_ENTERED: State.TRAPPED,
        Trigger.FINISH: State.FINISHED,
    },
    State.TRAPPED: {
        Trigger.TRAP_EXITED: State.DECODING,
        Trigger.FINISH: State.FINISHED,
    },
    State.DRAINING: {
        Trigger.WAKE: State.DECODING,
        Trigger.FINISH: State.FINISHED,
    },
    State.IDLE: {
        Trigger.WAKE: State.DECODING,
        Trigger.FINISH: State.FINISHED,
    },
    State.FINISHED: {},
}
"""Session state × trigger → state. What is not here cannot happen."""

CALL: Final[Mapping[CallState, Mapping[CallTrigger, CallState]]] = {
    CallState.HELD: {
        CallTrigger.DISPATCH: CallState.DISPATCHED,
        CallTrigger.RESOLVE: CallState.RESOLVED,
        CallTrigger.SETTLE: CallState.SETTLED,
    },
    CallState.DISPATCHED: {
        CallTrigger.RESOLVE: CallState.RESOLVED,
        CallTrigger.SETTLE: CallState.SETTLED,
    },
    CallState.RESOLVED: {CallTrigger.SETTLE: CallState.SETTLED},
    CallState.SETTLED: {},
}
"""Call state × trigger → state. A call resolves at most once and settles exactly once [SES-092]."""

_FROM_PEERS: Final = frozenset(
    {
        ev.InterruptReceived,
        ev.CancelRequested,
        ev.CreditGranted,
        ev.PauseChanged,
        ev.OutputHeld,
        ev.ProbeRequested,
        ev.FinishRequested,
        ev.HalfClosed,
        ev.TimeAdvanced,
        ev.NoticeRaised,
    }
)
_FROM_THE_MODEL: Final = frozenset(
    {ev.TokenSampled, ev.StreamEnded, ev.StepMasked, ev.RequestRestarted, ev.TextReplayed}
)

EVENTS: Final[Mapping[State, frozenset[type]]] = {
    State.DECODING: _FROM_PEERS | _FROM_THE_MODEL,
    State.IN_TEXT_SEQUENCE: _FROM_PEERS | _FROM_THE_MODEL,
    State.IN_CALL: _FROM_PEERS | _FROM_THE_MODEL,
    State.IN_TRAP: _FROM_PEERS | _FROM_THE_MODEL,
    State.TRAPPED: _FROM_PEERS,
    State.DRAINING: _FROM_PEERS,
    State.IDLE: _FROM_PEERS,
    State.FINISHED: frozenset(),
}
"""Session state × kinds of event that it takes. Peers may speak at any time; the model only while it decodes."""

S = TypeVar("S", bound=enum.StrEnum)
T = TypeVar("T", bound=enum.StrEnum)


class Cell(Generic[S, T]):
    """A state and its table; `move` is the only way to change it.

    Attributes:
        state: the current state. Nothing but `move` assigns it; no property, since each token asks for it many times.
    """

    __slots__ = ("_table", "state")

    def __init__(self, initial: S, table: Mapping[S, Mapping[T, S]]) -> None:
        self.state = initial
        self._table = table

    def move(self, trigger: T) -> None:
        """Moves along the table.

        Raises:
            LocalProtocolError: the table has no such move: the machine is at fault.
        """
        try:
            self.state = self._table[self.state][trigger]
        except KeyError:
            raise LocalProtocolError(f"no transition from {self.state.value} by {trigger.name}") from None


def require_event(state: State, kind: type) -> None:
    """Checks an input against `EVENTS`.

    Raises:
        LocalProtocolError: the state does not take such an event.
    """
    if kind not in EVENTS[state]:
        raise LocalProtocolError(f"{kind.__name__} in state {state.value}; allowed: {_names(EVENTS[state])}")


def _names(kinds: frozenset[type]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing, the session is finished"
