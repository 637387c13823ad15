"""Trap conditions: when one holds, and when it never can (spec: traps, sections 2 and 5)."""

from __future__ import annotations

from asynclm.cml.blocks import Trap
from asynclm.cml.control import Quantifier
from asynclm.session.config import ExecutionMode
from asynclm.session.core import Core


def wakes(core: Core) -> bool:
    """Whether what is queued ends a bare trap, DRAINING or IDLE.

    With SYNC_PARALLEL everything pending is waited for, unless a person or another model speaks [SES-063].
    """
    if core.queue.speaks:
        return True
    return core.queue.wakes and not _must_wait_for_all(core)


def holds(core: Core, trap: Trap) -> bool:
    """Whether the trap's condition holds now [TRAP-010 to TRAP-015]."""
    if core.queue.speaks:
        return True
    if _must_wait_for_all(core):
        return False
    if trap.ids:
        known = [call for call in map(core.calls.by_id, trap.ids) if call is not None]
        if trap.quantifier is Quantifier.ANY:
            return any(call.resolved for call in known)
        return len(known) == len(trap.ids) and all(call.resolved for call in known)
    if trap.bare and core.queue.wakes:
        return True
    return bool(core.calls.pending) and not core.calls.unresolved


def why_empty(core: Core, trap: Trap) -> str | None:
    """Why a trap that does not hold never can, as a sentence for the model; None if it can [TRAP-040, TRAP-041]."""
    if not trap.ids:
        return None if core.calls.pending else "nothing is pending, so nothing can end the trap"
    unknown = [call_id for call_id in trap.ids if core.calls.by_id(call_id) is None]
    hopeless = len(unknown) == len(trap.ids) if trap.quantifier is Quantifier.ANY else bool(unknown)
    return f"no call has the id {unknown[0]!r}, so the trap can never end" if hopeless else None


def _must_wait_for_all(core: Core) -> bool:
    return core.config.mode is ExecutionMode.SYNC_PARALLEL and bool(core.calls.unresolved)
