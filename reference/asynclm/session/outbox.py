"""The effects of one input, put in the order in which they must be emitted [WIRE-053]."""

from __future__ import annotations

import enum

from asynclm.session.effects import Effect


class Phase(enum.IntEnum):
    """The place of an effect among those of its input; equals keep the order in which they were made.

    Going to wait stands after what led to it (as `TrapEntered` does); coming back stands first, except for a trap that
    is left by the input that entered it.
    """

    ACCEPTED = 0
    """InterruptAccepted, InterruptRejected."""
    WOKEN = 1
    """TrapExited, StateChanged to DECODING, and the command Resume."""
    COMMITTED = 2
    """The command Inject; InterruptCommitted, each followed by its CallSettled."""
    TOKENS = 3
    """Tokens, then Notice."""
    EMITTED = 4
    """CallEmitted."""
    DISPATCHED = 5
    """CallDispatched, and the CallSettled of anonymous calls."""
    CANCELLED = 6
    """CallCancelRequested, CancelAnswered."""
    WAITING = 7
    """TrapEntered, StateChanged to DRAINING or IDLE, and the command Suspend."""
    LEFT = 8
    """TrapExited of a trap that was entered by the same input."""
    ENDING = 9
    """CallSettled of what the end of the session leaves."""
    PROBED = 10
    """Probed."""
    FINISHED = 11
    """Finished."""


class Outbox:
    """Collects effects and hands them out in order."""

    __slots__ = ("_effects",)

    def __init__(self) -> None:
        self._effects: list[tuple[Phase, Effect]] = []

    def add(self, phase: Phase, effect: Effect) -> None:
        """Adds one effect of the current input."""
        self._effects.append((phase, effect))

    def take(self) -> list[Effect]:
        """The effects since the last call, in order."""
        effects = self._effects
        if not effects:
            return []
        self._effects = []
        if len(effects) == 1:  # most inputs are tokens that are text
            return [effects[0][1]]
        effects.sort(key=_phase)
        return [effect for _, effect in effects]


def _phase(entry: tuple[Phase, Effect]) -> Phase:
    return entry[0]
