"""What goes into an executor and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from asynclm.cml.control import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A dispatched call [CALL-012].

    Attributes:
        session_id: the session that the call belongs to.
        index: the call index in its session.
        id: the call's id, or None if it is anonymous.
        function: the tool's name.
        arguments_json: the final arguments, JSON text of an object.
        timeout_ms: its time-out from now; None for the tool's own, or none at all.
        timed: whether the executor ends it when that is over. False where the session does, by a clock of its own
            [SCR-021]; the tool is told of its deadline all the same.
    """

    session_id: str
    index: int
    id: str | None = None
    function: str
    arguments_json: str = "{}"
    timeout_ms: int | None = None
    timed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUpdate:
    """What an executor says of a call: any number of `partial` and `progress`, then exactly one final update.

    Attributes:
        session_id: the session that the call belongs to.
        index: the call index in its session.
        status: what this is. A final CANCELLED only answers `cancel` and `aclose`.
        payload: JSON text [INT-013].
        final: whether the call is over.
        cached: whether the result was kept from an earlier call.
    """

    session_id: str
    index: int
    status: Status
    payload: str
    final: bool
    cached: bool = False
