"""The session machine: applies one input at a time and gives the effects, in order.

It knows no IO, no clock and no thread; time comes in as `TimeAdvanced`. The shell feeds it what happens (`receive`),
calls `safe_point` immediately before each decode step while `can_step`, samples under `mask`, and carries the effects
out. Each rule is owned by one of the parts that are put together here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asynclm.cml.blocks import Reference
from asynclm.cml.codec import Codec
from asynclm.cml.control import Status
from asynclm.session import events as ev
from asynclm.session import references
from asynclm.session.cancelling import Cancelling
from asynclm.session.commit import Committer
from asynclm.session.config import SessionConfig
from asynclm.session.core import Core
from asynclm.session.desk import CallDesk
from asynclm.session.effects import Effect, Ledger, Usage
from asynclm.session.ending import Ending
from asynclm.session.errors import LocalProtocolError, RemoteProtocolError
from asynclm.session.hold import Hold
from asynclm.session.inbound import Inbound
from asynclm.session.mask import Mask, outside_block
from asynclm.session.probes import Probes
from asynclm.session.reader import Reader
from asynclm.session.replays import Replays
from asynclm.session.state import FinishReason, NoticeCode, State
from asynclm.session.stream import Stream
from asynclm.session.timers import Timer, TimerKind
from asynclm.session.transitions import STEPPING, WAITING, require_event
from asynclm.session.waits import Waits

__all__ = ["LocalProtocolError", "RemoteProtocolError", "Session"]

MOST_CREDIT = (1 << 63) - 1
"""What a probe can report; more than any session can spend."""


class Session:
    """One session (spec: sessions, calls, interrupts, traps, protocol).

    Args:
        config: its settings.
        codec: how its stream is spelled.
        now_ms: the time on the session clock.

    Raises:
        ValueError: `config.unit` is PIECE and the codec has no text form.
    """

    def __init__(self, config: SessionConfig, codec: Codec, *, now_ms: int = 0) -> None:
        self._core = core = Core(config, codec, now_ms)
        self._reader = Reader(config, codec)
        self._hold = Hold(core)
        self._desk = CallDesk(core, self._hold)
        self._cancelling = Cancelling(core, self._desk)
        self._inbound = Inbound(core, self._desk, self._hold)
        self._probes = Probes(core)
        self._ending = Ending(core, self._desk, self._probes, self._reader)
        self._waits = Waits(core, self._desk, self._hold, self._ending)
        self._committer = Committer(core, self._hold, self._waits, self._ending)
        self._replays = Replays(core)
        parts = (self._hold, self._replays, self._desk, self._cancelling, self._waits, self._ending)
        self._stream = Stream(core, self._reader, *parts)
        self._idle_timer: Timer | None = None
        self._can_step = False
        self._outside: tuple[tuple[bool, int], Mask] | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.TokenSampled: self._token,
            ev.StreamEnded: self._stream.ended,
            ev.InterruptReceived: self._inbound.receive,
            ev.CancelRequested: self._cancelling.request,
            ev.CreditGranted: self._grant,
            ev.PauseChanged: self._pause,
            ev.OutputHeld: self._hold_output,
            ev.ProbeRequested: self._probe,
            ev.FinishRequested: self._finish,
            ev.HalfClosed: self._half_close,
            ev.StepMasked: self._step_masked,
            ev.NoticeRaised: self._raise_notice,
            ev.RequestRestarted: lambda _: self._replays.restarted(),
            ev.TextReplayed: lambda event: self._replays.trimmed(event.text),
        }
        self._look()

    # --- inputs ----------------------------------------------------------------------------------------------

    def receive(self, event: ev.Event) -> list[Effect]:
        """Applies one input wholly and gives its effects, in the order of [WIRE-053].

        Raises:
            LocalProtocolError: the shell may not send this now: a token while `can_step` is False, a time before the
                last one, anything after the end.
            RemoteProtocolError: the client may not send this at all; its RPC must fail. Nothing has changed.
        """
        core = self._core
        core.input_index = core.token_index
        kind = type(event)
        require_event(core.cell.state, kind)
        if isinstance(event, ev.TimeAdvanced):
            return self._advance(event.now_ms)
        self._handlers[kind](event)
        self._look()
        return core.out.take()

    def safe_point(self) -> list[Effect]:
        """Commits what is queued, if state and policies allow it; to be called immediately before each decode step.

        May finish the session (CONTEXT_FULL): look at `can_step` again before stepping.

        Raises:
            LocalProtocolError: no decode step can run now.
        """
        if not self._can_step:
            raise LocalProtocolError(f"safe_point in state {self.state.value}: no decode step can run now")
        core = self._core
        self._committer.safe_point()
        if core.credit is None:
            self._probes.answer()
        self._can_step = core.cell.state in STEPPING
        return core.out.take()

    def pass_time(self, now_ms: int) -> bool:
        """Moves the clock, as `TimeAdvanced` does, if nothing else happens by then.

        Cheap enough for every step. False if a timer is due, or the machine would not take this time: nothing has
        changed then, and `TimeAdvanced` has to be given.
        """
        core = self._core
        due = core.timers.next_due_ms
        if now_ms < core.now_ms or core.cell.state is State.FINISHED or (due is not None and due <= now_ms):
            return False
        core.now_ms = now_ms
        return True

    # --- what the shell needs to know ------------------------------------------------------------------------

    @property
    def can_step(self) -> bool:
        """Whether a decode step may run now; found out once after each input."""
        return self._can_step

    def mask(self) -> Mask:
        """What may be sampled next."""
        opened = self._reader.parser.open_block
        if opened is not None:
            return self._reader.block_mask(opened, self._core.copying.sources)
        pending = self._core.calls.pending_count > 0
        key = (pending, self._reader.block_number)
        if self._outside is None or self._outside[0] != key:
            config = self._core.config
            kinds = outside_block(config.constraints, trap_gated=not pending, end_gated=pending and config.gate_end)
            self._outside = (key, Mask(kinds, None, self._reader.block_number))
        return self._outside[1]

    @property
    def state(self) -> State:
        """The state; credit and pause stand beside it."""
        return self._core.cell.state

    @property
    def finished(self) -> bool:
        """Whether the session is over."""
        return self._core.finished

    @property
    def paused(self) -> bool:
        """Whether decoding is paused."""
        return self._core.paused

    @property
    def credit(self) -> int | None:
        """Tokens that may be sampled; None for unlimited."""
        return self._core.credit

    @property
    def token_index(self) -> int:
        """Stream tokens so far, sampled and injected."""
        return self._core.token_index

    @property
    def next_timer_ms(self) -> int | None:
        """When, on the session clock, the next timer is due."""
        return self._core.timers.next_due_ms

    @property
    def pending_calls(self) -> int:
        """Named calls that are not settled."""
        return self._core.calls.pending_count

    @property
    def queued_interrupts(self) -> int:
        """Interrupts that are accepted and not committed yet."""
        return len(self._core.queue)

    @property
    def commits_next(self) -> bool:
        """Whether the next safe point commits something."""
        return self._can_step and self._committer.due

    def note_cached_tokens(self, tokens: int) -> None:
        """The engine has found so many of the prompt's tokens in a cache [SES-095]."""
        self._core.cached = tokens

    def expected_wait_ms(self) -> int | None:
        """How long the present wait will probably last; None outside one, or if nothing is known."""
        return self._waits.expected_wait_ms()

    def usage(self) -> Usage:
        """Token counts so far."""
        return self._core.usage

    def ledger(self) -> Ledger:
        """The account so far; what is not settled is UNDELIVERED without a reason."""
        return self._core.ledger

    def resolved_payload(self, call_id: str) -> tuple[Status, str] | None:
        """The status and payload of a call's terminal result; None if there is none."""
        call = self._core.calls.by_id(call_id)
        return None if call is None or call.status is None else (call.status, call.payload)

    def resolve_reference(self, reference: Reference) -> str | None:
        """The JSON text that a reference selects, by the rule of call arguments; None while or if it has none."""
        result = self.resolved_payload(reference.id)
        if result is None or result[0] is not Status.OK:
            return None
        try:
            return references.select(result[1], reference.path)
        except LookupError:
            return None

    # --- one method for each kind of event -------------------------------------------------------------------

    def _token(self, event: ev.TokenSampled) -> None:
        if not self._can_step:
            raise LocalProtocolError(f"a token was sampled in state {self.state.value}, where no decode step can run")
        self._stream.sampled(event)

    def _grant(self, event: ev.CreditGranted) -> None:
        if self._core.credit is None:
            raise RemoteProtocolError("grant: the session's credit is unlimited", status="FAILED_PRECONDITION")
        self._core.credit = min(self._core.credit + event.tokens, MOST_CREDIT)

    def _pause(self, event: ev.PauseChanged) -> None:
        self._core.paused = event.paused

    def _hold_output(self, event: ev.OutputHeld) -> None:
        self._core.output_held = event.held
        self._core.unacknowledged = event.held and event.until_ack

    def _probe(self, event: ev.ProbeRequested) -> None:
        self._probes.ask(event.nonce)

    def _finish(self, event: ev.FinishRequested) -> None:
        self._ending.finish(event.reason, event.message, cancel=event.cancel_pending)

    def _half_close(self, _: ev.HalfClosed) -> None:
        if not self._core.half_closed:
            self._core.half_closed = True
            self._desk.half_close()

    def _step_masked(self, event: ev.StepMasked) -> None:
        self._core.notice(NoticeCode.MASKED, f"the mask forbids {event.token}")

    def _raise_notice(self, event: ev.NoticeRaised) -> None:
        self._core.notice(event.code, event.message)

    # --- time ------------------------------------------------------------------------------------------------

    def _advance(self, now_ms: int) -> list[Effect]:
        """Fires what is due, each timer at its own time and as an input of its own [SCR-022]."""
        core = self._core
        if now_ms < core.now_ms:
            raise LocalProtocolError(f"the clock went back from {core.now_ms} to {now_ms} ms")
        effects: list[Effect] = []
        while (timer := core.timers.pop_due(now_ms)) is not None:
            core.now_ms = timer.due_ms
            self._fire(timer)
            self._look()
            effects += core.out.take()
        core.now_ms = now_ms
        return effects

    def _fire(self, timer: Timer) -> None:
        if timer.kind is TimerKind.CALL:
            call = self._core.calls.by_index(timer.call_index)
            assert call is not None
            self._desk.time_out(call)
        elif timer.kind is TimerKind.TRAP:
            self._waits.time_out()
        elif timer.kind is TimerKind.COALESCE:
            self._hold.window_fired()
        else:
            limit = self._core.config.limits.max_idle_time_ms
            self._ending.finish(FinishReason.IDLE_TIMEOUT, f"idle, without credit, paused or not read for {limit} ms")

    # --- after every input -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Tests what is waited for, and keeps the promise that no session hangs for ever [SES-080, SES-081]."""
        core = self._core
        self._can_step = False
        if core.cell.state in WAITING:
            self._waits.test()
        state = core.cell.state
        if state is State.FINISHED:
            return
        stuck = core.paused or core.credit == 0
        if core.half_closed and (stuck or state is State.IDLE):
            self._end_half_closed()
            return
        self._watch_idling(stuck or core.output_held or state is State.IDLE)
        gathers = core.awaiting_commit and state is State.DECODING and self._hold.gathering
        could_step = state in STEPPING and not stuck and not gathers and not core.unacknowledged
        self._can_step = could_step and not core.output_held
        if self._probes.waiting and not could_step:
            # A client that does not read has not seen the end of what happens by itself.
            self._probes.answer()

    def _watch_idling(self, idles: bool) -> None:
        """Starts the timer that ends a session which idles, and stops it when the session goes on."""
        core = self._core
        if idles == (self._idle_timer is not None):
            return
        if self._idle_timer is None:
            self._idle_timer = core.timers.start(TimerKind.IDLE, core.now_ms + core.config.limits.max_idle_time_ms)
        else:
            core.timers.cancel(self._idle_timer)
            self._idle_timer = None

    def _end_half_closed(self) -> None:
        """Nothing can start the session again [SES-084, SES-085]."""
        reason = FinishReason.STOP if self.state is State.IDLE else FinishReason.FINISHED_BY_CLIENT
        self._ending.finish(reason, "the client will send nothing more")
