"""An account of a session, kept from its stream: tokens, blocks, calls, the queue, waits, the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.ambient.answers import Answers
from asynclm_conformance.ambient.blocks import Blocks
from asynclm_conformance.ambient.books import Calls, Queue
from asynclm_conformance.ambient.calls import CallLife
from asynclm_conformance.ambient.ending import Ending
from asynclm_conformance.ambient.interrupts import Interrupts
from asynclm_conformance.ambient.report import Event, Facts, Violations, member
from asynclm_conformance.ambient.tokens import Closed, TokenStream
from asynclm_conformance.ambient.waits import Waits


class Account:
    """Follows one stream; what does not add up is a violation."""

    def __init__(self, facts: Facts, found: Violations) -> None:
        self._facts = facts
        self._require = found.require
        self._calls = Calls()
        self._queue = Queue()
        self._blocks = Blocks(facts, found)
        self._tokens = TokenStream(facts, found, self._calls)
        self._waits = Waits(facts, found, self._calls, self._queue)
        self._answers = Answers(facts, found, self._calls, self._queue)
        self._life = CallLife(facts, found, self._calls, self._blocks)
        parts = (self._calls, self._queue, self._tokens, self._waits, self._answers, self._life)
        self._interrupts = Interrupts(found, *parts)
        self._ending = Ending(facts, found, *parts, self._interrupts)
        self._handlers: Mapping[str, Callable[[Event], None]] = {
            "tokens": self._on_tokens,
            "notice": self._on_notice,
            "interrupt_accepted": self._interrupts.accepted,
            "interrupt_rejected": self._answers.rejected,
            "interrupt_committed": self._interrupts.committed,
            "call_emitted": self._on_emitted,
            "call_dispatched": self._life.dispatched,
            "call_cancel_requested": self._life.cancel_requested,
            "cancel_outcome": self._answers.cancelled,
            "call_settled": self._life.settled,
            "trap_entered": self._on_trap,
            "trap_exited": self._waits.exited,
            "state_changed": self._on_changed,
            "probed": self._on_probed,
            "finished": self._ending.finished,
        }

    def see(self, event: Event) -> None:
        """Takes one event."""
        handler = self._handlers.get(event.kind)
        if handler is None:
            return
        self._interrupts.before(event)
        self._blocks.before(event)
        self._waits.before(event)
        handler(event)
        self._interrupts.after(event)

    def _on_tokens(self, event: Event) -> None:
        self._waits.stepped(inside=bool(self._tokens.block))
        self._nothing_held_back(event)
        self._life.dispatched_at_once()
        self._answers.sampled(event)
        since = self._waits.woken_at
        over = self._tokens.spent(since) and event.units
        closed = self._tokens.sampled(event)
        over = over or self._tokens.overspent(since)
        self._require(not over, "SES-076", "a token was sampled after max_new_tokens")
        self._close(closed)

    def _on_notice(self, event: Event) -> None:
        if event.body.code == types_pb2.NOTICE_CODE_REPLAY:
            self._require(self._facts.pieces, "CALL-113", "REPLAY where no request is begun anew")
            if not self._blocks.call_due:
                self._close(self._tokens.left())
            self._blocks.said_again()
        self._close(self._tokens.noticed(event.body))

    def _close(self, closed: Closed | None) -> None:
        if closed is not None:
            self._blocks.closed(closed, spent=self._tokens.spent(self._waits.woken_at))

    def _on_changed(self, event: Event) -> None:
        self._tokens.left()
        self._waits.changed(event)

    def _on_emitted(self, event: Event) -> None:
        if not self._blocks.call_due:
            self._close(self._tokens.left())
        self._life.emitted(event)
        if event.body.HasField("id") and not self._tokens.spent(self._waits.woken_at):
            self._blocks.waits_for(event.body.id)

    def _on_trap(self, event: Event) -> None:
        self._blocks.entered(event)
        self._waits.entered(event)

    def _nothing_held_back(self, event: Event) -> None:
        """What was queued was committed before this token was sampled, unless a policy held it back [INT-006].

        The token of the step that was in progress when an interrupt was accepted may come before it; no second one may.
        End of sequence may itself answer calls, those that SYNC_PARALLEL held for a client that is gone: such an
        answer is an effect of the token and stands before it [WIRE-053].
        """
        start = self._facts.start
        plain = start.granularity in (0, types_pb2.GRANULARITY_TOKEN) and self._facts.eager
        if plain and self._tokens.at_safe_point:
            parallel = self._facts.started.mode == types_pb2.EXECUTION_MODE_SYNC_PARALLEL
            made = self._interrupts.just_accepted if parallel and event.body.end_of_sequence else []
            waiting = [(n, queued) for n, queued in self._queue.waiting.items() if queued.due and n not in made]
            late = [number for number, queued in waiting if queued.overtaken or event.units > 1]
            self._require(not late, "INT-002", f"more than a token was sampled while interrupts {late} were due")
            for _, queued in waiting:
                queued.overtaken = True

    def _on_probed(self, event: Event) -> None:
        body: session_pb2.Probed = event.body
        require = self._require
        self._answers.probed(body)
        state = self._waits.state or self._tokens.state
        states = {state, types_pb2.STATE_FINISHED}
        if state == types_pb2.STATE_DECODING:
            states.add(types_pb2.STATE_IN_TEXT_SEQUENCE)
        told, due = (member(types_pb2.State, number) for number in (body.state, state))
        require(body.state in states, "WIRE-080", f"state {told}, not {due}")
        queued, unresolved = len(self._queue.waiting), self._calls.unresolved
        require(body.queued == queued, "WIRE-080", f"queued {body.queued}, not {queued}")
        require(list(body.unresolved) == unresolved, "WIRE-080", f"unresolved {body.unresolved}, not {unresolved}")
        limited = self._facts.credit is not None
        require(limited is body.HasField("credit"), "WIRE-080", f"credit {body.credit}")
        spent = body.HasField("credit") and body.credit == 0
        resting = spent or body.paused or self._waits.state or body.state == types_pb2.STATE_FINISHED
        if limited and not self._facts.window_ms:
            require(resting, "WIRE-081", "answered while decode steps can run")
