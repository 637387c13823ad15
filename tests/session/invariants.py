"""What must hold of every history of every session, judged from its inputs and effects alone.

The checker keeps its own account of calls, queue, blocks and waits. It knows nothing of the machine's tables and parts,
so that a fault in one of them shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from asynclm.cml.blocks import Trap
from asynclm.cml.control import OPENING, Control, Quantifier, Status
from asynclm.session import effects as fx
from asynclm.session import events as ev
from asynclm.session.config import ExecutionMode, OnEnd, SessionConfig, Unit
from asynclm.session.machine import Session
from asynclm.session.mask import Kind
from asynclm.session.state import Delivery, FinishReason, NoticeCode, Result, Scheduling, State

SAFE_POINT = "safe point"
"""Stands for the input of `Session.safe_point`."""

Input = ev.Event | str

ORDER: tuple[tuple[type, ...], ...] = (
    (fx.InterruptAccepted, fx.InterruptRejected),
    (fx.TrapExited, fx.StateChanged, fx.Resume),
    (fx.Inject, fx.InterruptCommitted, fx.CallSettled),
    (fx.Tokens, fx.Notice),
    (fx.CallEmitted,),
    (fx.CallDispatched, fx.CallSettled),
    (fx.CallCancelRequested, fx.CancelAnswered),
    (fx.TrapEntered, fx.StateChanged, fx.Suspend),
    (fx.TrapExited,),
    (fx.CallSettled,),
    (fx.Probed,),
    (fx.Finished,),
)
"""[WIRE-053], and where what it does not name stands."""

RESULTS = {
    Status.OK: Result.OK,
    Status.ERROR: Result.ERROR,
    Status.CANCELLED: Result.CANCELLED,
    Status.TIMEOUT: Result.TIMED_OUT,
}


class ViolationError(AssertionError):
    """An invariant does not hold."""


@dataclass
class Queued:
    number: int
    source: str
    status: Status
    scheduling: Scheduling
    payload: str | None
    released: bool


@dataclass
class Known:
    index: int
    id: str | None
    references: tuple[str, ...] = ()
    dispatched: bool = False
    resolved: Status | None = None
    settled: fx.CallRow | None = None


class Checker:
    """Follows one session."""

    def __init__(self, session: Session, config: SessionConfig) -> None:
        self.session = session
        self.config = config
        self.next_index = 0
        self.sampled = 0
        self.injected = 0
        self.since_wake = 0
        self.credit = config.credit
        self.block: Control | None = None
        self.run = ""
        self.calls: dict[int, Known] = {}
        self.ids: dict[str, Known] = {}
        self.queue: dict[int, Queued] = {}
        self.rows: dict[int, fx.InterruptCommitted] = {}
        self.payloads: dict[int, str | None] = {}
        self.accepted = 0
        self.trap: fx.TrapEntered | None = None
        self.waiting: State | None = None
        self.woken = False
        self.probes: list[str] = []
        self.held = ev.OutputHeld(held=False)
        self.refused = False
        self.unit_due = False
        self.over = False

    def require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ViolationError(message)

    def observe(self, given: Input, effects: Sequence[fx.Effect]) -> None:
        """Judges the effects of one input, and the state after it."""
        self.require(not self.over, "an input was taken after Finished")
        if isinstance(given, ev.CreditGranted) and self.credit is not None:
            self.credit = min(self.credit + given.tokens, (1 << 63) - 1)
        if isinstance(given, ev.TokenSampled) and self.credit is not None:
            self.credit -= 1
        self.unit_due = isinstance(given, ev.TokenSampled)
        if isinstance(given, ev.TokenSampled):
            behind = self.woken and self.block is None
            self.require(not behind, "a token was sampled between a wake and its commit")
        if isinstance(given, ev.ProbeRequested):
            self.probes.append(given.nonce)
        if isinstance(given, ev.OutputHeld):
            self.held = given
        if not isinstance(given, ev.TimeAdvanced):
            self._order(effects)
        self._batch(given, effects)
        self.refused = any(isinstance(effect, fx.InterruptRejected) for effect in effects)
        for effect in effects:
            self.require(not self.over, f"{type(effect).__name__} after Finished")
            self._one(given, effect)
        if isinstance(given, ev.StreamEnded):
            self.block = None
        self.require(not self.unit_due, "a sampled token was not reported")
        self._answered(given, effects)
        self._after()

    # --- order -----------------------------------------------------------------------------------------------

    def _order(self, effects: Sequence[fx.Effect]) -> None:
        place = 0
        for effect in effects:
            while place < len(ORDER) and not isinstance(effect, ORDER[place]):
                place += 1
            self.require(place < len(ORDER), f"out of order: {[type(e).__name__ for e in effects]}")

    def _batch(self, given: Input, effects: Sequence[fx.Effect]) -> None:
        """A commit is the whole queue, in arrival order, at a safe point outside blocks."""
        committed = [e for e in effects if isinstance(e, fx.InterruptCommitted)]
        injects = [e for e in effects if isinstance(e, fx.Inject)]
        if not committed:
            self.require(not injects, "Inject without InterruptCommitted")
            return
        self.require(given == SAFE_POINT, "committed elsewhere than at a safe point")
        self.require(self.block is None, f"committed inside a {self.block} block")
        self.require(self.waiting is None, f"committed while {self.waiting}")
        self.require(self.credit != 0, "committed without credit")
        ids = tuple(i for e in committed for i in e.ids)
        self.require([i.ids for i in injects] == [ids], "Inject differs from the committed ids")
        numbers = [e.number for e in committed]
        due = [q for q in self.queue.values() if q.released or q.scheduling is not Scheduling.WHEN_IDLE]
        closing = {q.source: q.number for q in due if q.status.terminal and not q.source.startswith("@")}
        chosen = [q for q in self.queue.values() if q in due or (not q.status.terminal and q.source in closing)]
        chosen.sort(key=lambda q: (closing.get(q.source, q.number), q.number))
        expected = [q.number for q in chosen]
        full = any(isinstance(e, fx.Finished) and e.reason is FinishReason.CONTEXT_FULL for e in effects)
        self.require(
            numbers == (expected[: len(numbers)] if full else expected),
            f"the batch is {numbers}; the queue makes it {expected}",
        )

    # --- single effects --------------------------------------------------------------------------------------

    def _one(self, given: Input, effect: fx.Effect) -> None:
        handler = getattr(self, "_on" + re.sub(r"([A-Z])", r"_\1", type(effect).__name__).lower(), None)
        if handler is not None:
            handler(given, effect)
        index = getattr(effect, "token_index", None)
        if index is not None:
            at_commit = (fx.InterruptCommitted, fx.CallSettled, fx.Tokens)
            self.require(index <= self.next_index, f"{effect}: index beyond the stream")
            self.require(isinstance(effect, at_commit) or index >= self.next_index - 1, f"{effect}: index is stale")

    def _on_tokens(self, given: Input, effect: fx.Tokens) -> None:
        self.require(effect.token_index == self.next_index, f"Tokens at {effect.token_index}, not {self.next_index}")
        self.require(effect.in_block is self.block, f"Tokens says it is in {effect.in_block}, not {self.block}")
        self._on_text(effect)
        if isinstance(given, ev.TokenSampled) and self.unit_due:
            self.unit_due = False
            self.require(len(effect.ids) == (given.piece is None), "one unit gives one id")
            self.next_index += 1
            self.sampled += 1
            self.since_wake += 1
        else:
            self.require(effect.ids == (), "ids that were not sampled")
        if effect.control in OPENING:
            self.block = effect.control
        elif effect.control is Control.END or effect.end_of_sequence:
            self.block = None

    def _on_text(self, effect: fx.Tokens) -> None:
        """What is sent never contains a stop string [SES-102]."""
        if effect.in_block is None:
            self.run += effect.text
        found = [stop for stop in self.config.stop if stop in self.run]
        # What nothing completes is sent as it is: at a control token, and at an end.
        broken = effect.control is not None or effect.end_of_sequence or not effect.ids
        self.require(not found or broken, f"the text contains {found}")
        if broken:
            self.run = ""

    def _on_notice(self, _: Input, effect: fx.Notice) -> None:
        hosted = self.config.unit is Unit.PIECE
        if hosted and effect.code in (NoticeCode.FORGED, NoticeCode.BLOCK_LIMIT):
            self.block = None  # the hosted stream is closed there

    def _on_interrupt_accepted(self, given: Input, effect: fx.InterruptAccepted) -> None:
        self.require(effect.number == self.accepted, f"accepted number {effect.number}, not {self.accepted}")
        self.accepted += 1
        sent = isinstance(given, ev.InterruptReceived) and not self.refused and self._answers(given, effect)
        payload = given.payload if sent and isinstance(given, ev.InterruptReceived) else None
        waiting = self.waiting is not None
        self.queue[effect.number] = Queued(
            effect.number, effect.source, effect.status, effect.scheduling, payload, waiting
        )
        self.payloads[effect.number] = payload
        call = self.ids.get(effect.source)
        if call is not None:
            self.require(call.resolved is None, f"{effect.source} has an interrupt after its terminal one")
            if effect.status.terminal:
                call.resolved = effect.status
        elif not effect.source.startswith("@"):
            # Accepted before its CallEmitted, which comes later in the order of one input.
            self.require(isinstance(given, (ev.TokenSampled, ev.StreamEnded)), f"{effect.source} is not registered")

    def _answers(self, given: ev.InterruptReceived, effect: fx.InterruptAccepted) -> bool:
        if given.source is not None:
            mine = given.source == effect.source
        else:
            assert given.call_index is not None
            mine = self.calls[given.call_index].id == effect.source
        return mine and effect.status is (given.status or Status.OK) and effect.client_seq == given.client_seq

    def _on_interrupt_rejected(self, given: Input, effect: fx.InterruptRejected) -> None:
        self.require(isinstance(given, ev.InterruptReceived), "rejected what nobody sent")
        assert isinstance(given, ev.InterruptReceived)
        self.require(effect.payload == given.payload, "the rejected payload was not handed back")

    def _on_interrupt_committed(self, _: Input, effect: fx.InterruptCommitted) -> None:
        self.run = ""
        self.require(effect.token_index == self.next_index, f"committed at {effect.token_index}, not {self.next_index}")
        self.require(effect.number not in self.rows, f"interrupt {effect.number} was committed twice")
        self.rows[effect.number] = effect
        queued = self.queue.pop(effect.number, None)
        assert queued is not None
        self.require((queued.source, queued.status) == (effect.source, effect.status), "committed something else")
        self.require(queued.payload in (None, effect.payload), "the payload was changed")
        self.next_index += len(effect.ids) or 1
        self.injected += len(effect.ids) or 1
        self.woken = False

    def _on_call_emitted(self, _: Input, effect: fx.CallEmitted) -> None:
        self.require(effect.index == len(self.calls), f"call index {effect.index}, not {len(self.calls)}")
        call = self.calls[effect.index] = Known(
            effect.index, effect.id, tuple(reference.id for reference in effect.references)
        )
        if effect.id is not None:
            self.require(effect.id not in self.ids, f"id {effect.id} was registered twice")
            self.ids[effect.id] = call
            early = [q for q in self.queue.values() if q.source == effect.id and q.status.terminal]
            call.resolved = early[0].status if early else None

    def _on_call_dispatched(self, _: Input, effect: fx.CallDispatched) -> None:
        call = self.calls[effect.index]
        self.require(not call.dispatched, f"call {effect.index} was dispatched twice")
        self.require(call.resolved is None, f"call {effect.index} was dispatched after it was resolved")
        waits = [i for i in call.references if self.ids[i].resolved is not Status.OK]
        self.require(not waits, f"call {effect.index} was dispatched before {waits}")
        self.require(isinstance(json.loads(effect.arguments), dict), "arguments are no JSON object")
        call.dispatched = True

    def _on_call_cancel_requested(self, _: Input, effect: fx.CallCancelRequested) -> None:
        self.require(self.calls[effect.index].dispatched, f"call {effect.index} was never dispatched")

    def _on_call_settled(self, _: Input, effect: fx.CallSettled) -> None:
        row = effect.row
        call = self.calls[row.index]
        self.require(call.settled is None, f"call {row.index} settled twice")
        call.settled = row
        if row.delivery is Delivery.DELIVERED:
            at = [c.token_index for c in self.rows.values() if c.source == row.id and c.status.terminal]
            self.require(at == [row.token_index], f"call {row.index} is DELIVERED at {row.token_index}, not {at}")
            assert call.resolved is not None
            self.require(row.result is RESULTS[call.resolved], f"call {row.index}: result {row.result}")
        elif row.delivery is Delivery.NOT_AWAITED:
            self.require(row.id is None, f"named call {row.index} was not awaited")
        else:
            self.require(row.reason is not None, f"call {row.index} is UNDELIVERED without a reason")

    def _on_trap_entered(self, _: Input, effect: fx.TrapEntered) -> None:
        self.require(self.waiting is None, "entered a trap while waiting")
        self.trap, self.waiting = effect, State.TRAPPED
        self._release()

    def _on_trap_exited(self, _: Input, effect: fx.TrapExited) -> None:
        self.require(self.trap is not None, "left a trap that was not entered")
        assert self.trap is not None
        if not effect.timed_out and not effect.empty:
            self.require(self._holds(self.trap.trap), f"left {self.trap.trap}, which does not hold")
        if effect.timed_out:
            self.require(self.trap.trap.within_ms is not None, "timed out without a time-out")
        self.trap, self.waiting, self.woken = None, None, bool(self.queue)

    def _on_state_changed(self, _: Input, effect: fx.StateChanged) -> None:
        if effect.state is State.DECODING:
            self.require(self._wakes(), "woke with nothing in the queue that wakes")
            self._release()
            self.waiting, self.woken, self.since_wake = None, True, 0
        else:
            self.require(effect.state in (State.DRAINING, State.IDLE), f"StateChanged to {effect.state}")
            self.require(self.waiting is None, "began to wait while waiting")
            self.waiting = effect.state
            self._release()

    def _on_probed(self, _: Input, effect: fx.Probed) -> None:
        self.require(effect.nonce in self.probes, f"Probed {effect.nonce}, which nobody asked")
        self.probes.remove(effect.nonce)
        self.require(effect.queued == len(self.queue), f"Probed.queued is {effect.queued}, not {len(self.queue)}")
        self.require(effect.credit == self.credit, f"Probed.credit is {effect.credit}, not {self.credit}")
        unresolved = tuple(c.id for c in self.calls.values() if c.id is not None and c.resolved is None)
        self.require(effect.unresolved == unresolved, f"Probed.unresolved is {effect.unresolved}, not {unresolved}")

    def _on_finished(self, _: Input, effect: fx.Finished) -> None:
        self.over = True
        self.require(not self.probes, f"probes {self.probes} were never answered")
        self.require(effect.usage.sampled_tokens == self.sampled, "usage.sampled_tokens is wrong")
        self.require(effect.usage.injected_tokens == self.injected, "usage.injected_tokens is wrong")
        self.require([r.index for r in effect.calls] == list(self.calls), "calls are missing from the ledger")
        for row in effect.calls:
            self.require(self.calls[row.index].settled == row, f"call {row.index}: ledger and CallSettled differ")
        self.require([r.number for r in effect.interrupts] == list(range(self.accepted)), "interrupts are missing")
        for interrupt in effect.interrupts:
            self._interrupt_row(interrupt)
        if effect.reason is FinishReason.LENGTH:
            self.require(self._spent(), "LENGTH before max_new_tokens")
        stopped = effect.stop_string is not None
        self.require(not stopped or effect.stop_string in self.config.stop, f"{effect.stop_string} is no stop string")
        self.require(stopped or effect.reason is not FinishReason.STOP_STRING, "STOP_STRING names none")
        if effect.reason is FinishReason.STOP and self.config.on_end is OnEnd.WAIT:
            self.require(not self._wakes(), "stopped with an interrupt in the queue that wakes")
            left = [c.id for c in self.calls.values() if c.id is not None and c.resolved is None]
            self.require(not left, f"stopped with {left} pending")

    def _interrupt_row(self, row: fx.InterruptRow) -> None:
        committed = self.rows.get(row.number)
        if committed is not None:
            self.require(row.delivery is Delivery.DELIVERED, f"interrupt {row.number} was committed")
            self.require(row.token_index == committed.token_index, f"interrupt {row.number}: index differs")
        else:
            self.require(row.delivery is Delivery.UNDELIVERED, f"interrupt {row.number} was not committed")
            self.require(row.reason is not None, f"interrupt {row.number}: no reason")
            sent = self.payloads[row.number]
            self.require(bool(row.payload) or not sent, f"interrupt {row.number}: payload lost")
            self.require(sent in (None, row.payload), f"interrupt {row.number}: payload changed")

    # --- after every input -----------------------------------------------------------------------------------

    def _answered(self, given: Input, effects: Sequence[fx.Effect]) -> None:
        """Every interrupt of a client is accepted or rejected, once."""
        if isinstance(given, ev.InterruptReceived) and given.from_client:
            taken = [e for e in effects if isinstance(e, fx.InterruptAccepted) and self._answers(given, e)]
            refused = [e for e in effects if isinstance(e, fx.InterruptRejected)]
            self.require(len(taken) + len(refused) == 1, f"{given} was answered {len(taken) + len(refused)} times")
        if isinstance(given, ev.CancelRequested):
            answers = [e for e in effects if isinstance(e, fx.CancelAnswered)]
            self.require(len(answers) == 1, f"{given} was answered {len(answers)} times")

    def _after(self) -> None:
        session = self.session
        self.require(session.finished is self.over, "finished without Finished, or the reverse")
        self.require(session.token_index == self.next_index, f"token_index is {session.token_index}")
        self.require(session.credit == self.credit, f"credit is {session.credit}, not {self.credit}")
        if self.over:
            self.require(not session.can_step, "can step after Finished")
            self.require(session.next_timer_ms is None, "a timer runs after Finished")
            return
        self.require(session.can_step or session.next_timer_ms is not None, f"nothing can ever happen: {session.state}")
        waiting = (State.TRAPPED, State.DRAINING, State.IDLE)
        self.require((session.state if session.state in waiting else None) is self.waiting, "the wait was not reported")
        self.require(not (self.waiting and session.can_step), "can step while waiting")
        if session.can_step:
            self.require(Kind.INTR not in session.mask().kinds and bool(session.mask().kinds), "a bad mask")
            self.require(not self._spent(), "goes on after max_new_tokens")
            self.require(not self.probes or self.credit != 0, "a probe was not answered")
        elif not self.held.held or self.held.until_ack:
            self.require(not self.probes, "a probe was not answered at rest")
        if self.waiting is State.TRAPPED:
            assert self.trap is not None
            self.require(not self._holds(self.trap.trap), f"waits on in {self.trap.trap}, which holds")
        elif self.waiting is not None:
            self.require(not self._wakes(), f"{self.waiting} goes on with an interrupt that wakes")
            if self.waiting is State.DRAINING:
                self.require(bool(self._unresolved()), "drains with nothing unresolved")

    # --- the checker's own account ---------------------------------------------------------------------------

    def _release(self) -> None:
        for queued in self.queue.values():
            queued.released = True

    def _spent(self) -> bool:
        count = self.since_wake if self.config.on_end is OnEnd.KEEP else self.sampled
        return count >= self.config.limits.max_new_tokens

    def _unresolved(self) -> list[Known]:
        return [c for c in self.calls.values() if c.id is not None and c.resolved is None]

    def _speaks(self) -> bool:
        return any(
            q.scheduling is not Scheduling.SILENT and (q.source == "@user" or q.source.startswith("@agent."))
            for q in self.queue.values()
        )

    def _wakes(self) -> bool:
        if self._speaks():
            return True
        if self.config.mode is ExecutionMode.SYNC_PARALLEL and self._unresolved():
            return False
        return any(q.scheduling is not Scheduling.SILENT for q in self.queue.values())

    def _holds(self, trap: Trap) -> bool:
        if self._speaks():
            return True
        unresolved = self._unresolved()
        if self.config.mode is ExecutionMode.SYNC_PARALLEL and unresolved:
            return False
        known = [self.ids[i].resolved is not None for i in trap.ids if i in self.ids]
        if trap.ids:
            return any(known) if trap.quantifier is Quantifier.ANY else len(known) == len(trap.ids) and all(known)
        pending = [c for c in self.calls.values() if c.id is not None and c.settled is None]
        if pending and not unresolved:
            return True
        return trap.quantifier is None and self._wakes()
