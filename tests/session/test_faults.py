"""The random histories catch faults: each one below is put into one place of the machine, and must be found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from tests.session.invariants import ViolationError
from tests.session.test_stateful import HISTORIES, Sessions

from asynclm.cml.control import Status
from asynclm.session import traps
from asynclm.session.calls import CallRecord
from asynclm.session.commit import Committer
from asynclm.session.config import OnEnd
from asynclm.session.desk import CallDesk
from asynclm.session.effects import CallSettled, Inject
from asynclm.session.ending import Ending
from asynclm.session.hold import Hold
from asynclm.session.inbound import Inbound
from asynclm.session.machine import Session
from asynclm.session.outbox import Outbox
from asynclm.session.probes import Probes
from asynclm.session.queue import Accepted, InterruptQueue
from asynclm.session.state import FinishReason, Scheduling, State
from asynclm.session.stream import Stream
from asynclm.session.timers import TimerKind, Timers
from asynclm.session.waits import Waits

Patch = pytest.MonkeyPatch
Put = Callable[[Patch], None]
FAULTS: list[Any] = []


def fault(shows: str, *, slow: bool = False) -> Callable[[Put], Put]:
    """Registers a fault.

    Args:
        shows: a regular expression for what the checker says of it.
        slow: it takes random histories over half a second to find it.
    """

    def register(put: Put) -> Put:
        FAULTS.append(pytest.param(put, shows, id=put.__name__, marks=pytest.mark.slow if slow else ()))
        return put

    return register


def after(patch: Patch, owner: type, name: str, more: Callable[..., Any]) -> None:
    """Does something after a method, with its object and its result; what that gives is the result."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda self, *a, **k: more(self, original(self, *a, **k)))


@fault("inside a .* block")
def injects_inside_a_block(patch: Patch) -> None:
    original = Committer.safe_point

    def safe_point(self: Any) -> None:
        if self._core.cell.state is not State.DECODING and len(self._core.queue):
            self._commit(self._core.queue.batch())
        original(self)

    patch.setattr(Committer, "safe_point", safe_point)


@fault("stopped with", slow=True)
def loses_a_result_at_end_of_sequence(patch: Patch) -> None:
    original = Waits.end

    def end(self: Any, reason: str, **more: Any) -> None:
        if self._core.config.on_end is OnEnd.WAIT:
            self._ending.finish(FinishReason.STOP)
        else:
            original(self, reason, **more)

    patch.setattr(Waits, "end", end)


@fault("settled twice")
def settles_twice(patch: Patch) -> None:
    def twice(_: object, reports: list[Any]) -> list[Any]:
        return reports + [r for r in reports if isinstance(r, CallSettled)]

    after(patch, Committer, "_enter", twice)


@fault("usage.sampled_tokens|goes on|LENGTH")
def counts_injected_tokens(patch: Patch) -> None:
    def count(self: Any, reports: Any) -> Any:
        self._core.sampled += 1
        return reports

    after(patch, Committer, "_enter", count)


@fault("credit is")
def spends_credit_on_injected_tokens(patch: Patch) -> None:
    def spend(self: Any, reports: Any) -> Any:
        if self._core.credit:
            self._core.credit -= 1
        return reports

    after(patch, Committer, "_enter", spend)


@fault("the batch is")
def reorders_a_batch(patch: Patch) -> None:
    after(patch, InterruptQueue, "batch", lambda _, batch: batch[::-1])


@fault("the batch is")
def commits_before_idle(patch: Patch) -> None:
    patch.setattr(InterruptQueue, "batch", InterruptQueue.remaining)


@fault("does not hold|that wakes", slow=True)
def wakes_on_silent(patch: Patch) -> None:
    patch.setattr(Accepted, "wakes", True)


@fault("the batch is|between a wake and its commit")
def keeps_when_idle_for_ever(patch: Patch) -> None:
    patch.setattr(InterruptQueue, "release", lambda _: None)


@fault("which holds|not entered")
def does_not_test_at_the_trap_end(patch: Patch) -> None:
    original = Waits.enter

    def enter(self: Any, trap: Any, *, implicit: bool = False) -> None:
        with patch.context() as inner:
            inner.setattr(traps, "holds", lambda *_: False)
            original(self, trap, implicit=implicit)

    patch.setattr(Waits, "enter", enter)


@fault("does not hold|nothing can ever happen")
def leaves_a_trap_on_any_interrupt(patch: Patch) -> None:
    patch.setattr(traps, "holds", lambda core, trap: len(core.queue) > 0)


@fault("which holds|after its terminal one|Probed.unresolved|result none")
def takes_a_second_result(patch: Patch) -> None:
    def keep(_: object, refusal: Any) -> Any:
        return None if refusal is not None and refusal[0].name == "ALREADY_RESOLVED" else refusal

    after(patch, Inbound, "_refuse_host", keep)
    patch.setattr(CallRecord, "resolve", lambda self, status, payload, now: None)


@fault("nothing can ever happen")
def forgets_call_time_outs(patch: Patch) -> None:
    original = Timers.start

    def start(self: Any, kind: TimerKind, due_ms: int, call_index: int = -1) -> Any:
        timer = original(self, kind, due_ms, call_index)
        if kind is TimerKind.CALL:
            self.cancel(timer)
        return timer

    patch.setattr(Timers, "start", start)


@fault("nothing can ever happen")
def forgets_idle_time(patch: Patch) -> None:
    original = Timers.start

    def start(self: Any, kind: TimerKind, due_ms: int, call_index: int = -1) -> Any:
        timer = original(self, kind, due_ms, call_index)
        if kind is TimerKind.IDLE:
            self.cancel(timer)
        return timer

    patch.setattr(Timers, "start", start)


@fault("goes on after max_new_tokens")
def never_ends_by_length(patch: Patch) -> None:
    patch.setattr(Stream, "_spent", False)


@fault("out of order")
def emits_effects_as_they_come(patch: Patch) -> None:
    def take(self: Any) -> list[Any]:
        effects, self._effects = self._effects, []
        return [effect for _, effect in effects]

    patch.setattr(Outbox, "take", take)


@fault("without a reason|no reason|payload lost")
def drops_what_is_queued_at_the_end(patch: Patch) -> None:
    def drop(self: Any, reason: FinishReason) -> None:
        for interrupt in self._core.queue.remaining():
            interrupt.payload = ""
            self._core.queue.abandon(interrupt, None)

    patch.setattr(Ending, "_hand_back", drop)


@fault("was dispatched before", slow=True)
def dispatches_with_references_unresolved(patch: Patch) -> None:
    original = CallDesk._advance

    def advance(self: Any, call: Any) -> None:
        sources = [self._core.calls.by_id(r.id) for r in call.invocation.references]
        if call.released and not all(source.resolved for source in sources):
            self._dispatch(call, "{}")
        else:
            original(self, call)

    patch.setattr(CallDesk, "_advance", advance)


@fault("which nobody asked")
def answers_probes_at_once(patch: Patch) -> None:
    def forget(self: Any, nonce: str) -> None:
        self._waiting.append(nonce)
        self.answer()
        self._waiting.append(nonce)

    patch.setattr(Probes, "ask", forget)


@fault("Inject differs")
def injects_something_else(patch: Patch) -> None:
    def cut(_: object, effects: list[Any]) -> list[Any]:
        return [Inject(ids=e.ids[:-1]) if isinstance(e, Inject) else e for e in effects]

    after(patch, Outbox, "take", cut)


@fault("between a wake and its commit")
def samples_before_the_commit_after_a_wake(patch: Patch) -> None:
    patch.setattr(Hold, "holds", lambda self, batch, waited: len(batch) > 1)


@fault("waits on|the batch is")
def takes_silence_for_the_default(patch: Patch) -> None:
    original = InterruptQueue.add

    def add(self: Any, source: str, status: Status, payload: str, scheduling: Scheduling, **more: Any) -> Any:
        return original(self, source, status, payload, Scheduling.SILENT, **more)

    patch.setattr(InterruptQueue, "add", add)


@fault("can step")
def goes_on_after_the_end(patch: Patch) -> None:
    patch.setattr(Session, "can_step", property(lambda self: not self.paused and self.credit != 0))


@pytest.mark.parametrize(("put", "shows"), FAULTS)
def test_random_histories_find(put: Put, shows: str, monkeypatch: Patch) -> None:
    put(monkeypatch)
    with pytest.raises(ViolationError, match=shows):
        run_state_machine_as_test(Sessions, settings=settings(HISTORIES, max_examples=300, print_blob=False))
