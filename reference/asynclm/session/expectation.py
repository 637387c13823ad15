"""How long a wait will probably last: a hint for the engine's KV policy, by which nothing is decided [TRAP-052]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asynclm.session.calls import CallRecord
from asynclm.session.core import Core


def expected_wait_ms(
    core: Core, waited_for: Sequence[CallRecord], *, together: bool, within_ms: int | None = None
) -> int | None:
    """The expected wait; None if nothing is known of it.

    Args:
        core: the session's.
        waited_for: the calls that can end it.
        together: whether it takes all of them, or the first.
        within_ms: when it ends in any case.
    """
    left = _left_ms(core)
    known = [ms for call in waited_for if (ms := left[call.index]) is not None]
    expected = (max(known) if together else min(known)) if known else None
    if within_ms is not None:
        expected = within_ms if expected is None else min(expected, within_ms)
    return expected


def _left_ms(core: Core) -> Mapping[int, int | None]:
    """What each unresolved call will probably still take, by index.

    In emission order, since a call can only refer to earlier ones [CALL-030]; what is resolved holds nobody up.
    """
    left: dict[int, int | None] = {}
    for call in core.calls.unresolved:
        usual = _usual_ms(core, call)
        if usual is None:
            left[call.index] = None
        elif call.dispatched_ms is not None:
            left[call.index] = _running_ms(core, call, usual)
        else:
            before = [left[source.index] for source in core.calls.sources(call) if source.index in left]
            known = [ms for ms in before if ms is not None]
            left[call.index] = usual + max(known, default=0) if len(known) == len(before) else None
    return left


def _usual_ms(core: Core, call: CallRecord) -> int | None:
    """What its tool declares, or what it took in this session."""
    if call.tool is not None and call.tool.expected_duration_ms is not None:
        return call.tool.expected_duration_ms
    return core.calls.took_ms(call.function)


def _running_ms(core: Core, call: CallRecord, usual: int) -> int | None:
    """A call that is late is expected now; one that takes twice its time says nothing any more."""
    elapsed = core.now_ms - (call.dispatched_ms or 0)
    if elapsed > 2 * usual:
        return None
    assert call.timer is not None  # it has one until it is resolved [CALL-054]
    return min(max(0, usual - elapsed), call.timer.due_ms - core.now_ms)
