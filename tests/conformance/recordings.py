"""Sessions that are over, as their clients saw them: what the tests of the ambient checks spoil.

They are played on the session machine by hand, so that no two runs of a test differ in how tokens were put together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.session.player import CODEC, Player, config, units

from asynclm.cml.control import Status
from asynclm.cml.grammar import grammar_fingerprint
from asynclm.cml.text_form import TextCodec
from asynclm.engine.base import SamplingParams
from asynclm.session import effects as fx
from asynclm.session import events as ev
from asynclm.session.config import Constraints, ExecutionMode, OnEnd, SessionConfig, Unit
from asynclm.session.effects import Report
from asynclm.session.state import CancelOrigin, Scheduling
from asynclm.v1 import session_pb2
from asynclm.wire.client_events import client_event_to_pb
from asynclm.wire.reports import to_server_event
from asynclm.wire.start import StartRequest, start_to_pb
from asynclm.wire.started import binding_of
from asynclm.wire.values import Capability, OfferedTool, OnDisconnect, Started
from asynclm_conformance.ambient import Violation, check


def _billed(effect: Any, pieces: bool) -> Any:
    """A session on a hosted interface tells what it cost there."""
    if pieces and isinstance(effect, fx.Finished):
        return dataclasses.replace(effect, hosted=fx.HostedUsage(requests=1))
    return effect


@dataclass(frozen=True)
class Recording:
    """A stream, what was asked for, and what its client sent."""

    events: Sequence[session_pb2.ServerEvent]
    start: session_pb2.Start
    sent: Mapping[int, session_pb2.ClientEvent]

    def broken(self, events: Sequence[session_pb2.ServerEvent]) -> list[Violation]:
        return check(events, self.start, self.sent)


MASKS = {
    Constraints.STATIC: Capability.STATIC_MASK,
    Constraints.GATES: Capability.STATE_GATES,
    Constraints.GRAMMAR: Capability.GRAMMAR,
}


class Recorder(Player):
    """A player that numbers what the client sends and keeps it."""

    def __init__(self, config: SessionConfig, sampling: SamplingParams | None = None) -> None:
        super().__init__(config)
        self.sampling = sampling or SamplingParams()
        self.sent: dict[int, session_pb2.ClientEvent] = {}
        self.seq = 1

    def give(self, event: ev.Event) -> list[fx.Effect]:
        if isinstance(event, ev.OutputHeld):
            return []  # nothing of it is on the wire
        if isinstance(event, ev.CancelRequested):
            event = dataclasses.replace(event, origin=CancelOrigin.CLIENT)
        number = self.seq + 1
        if isinstance(event, ev.CancelRequested) or (isinstance(event, ev.InterruptReceived) and event.from_client):
            event = dataclasses.replace(event, client_seq=number)
        elif not isinstance(event, ev.ProbeRequested | ev.CreditGranted | ev.PauseChanged | ev.FinishRequested):
            return super().give(event)
        self.seq = number
        self.sent[number] = client_event_to_pb(event, number)
        return super().give(event)

    @property
    def start(self) -> session_pb2.Start:
        config = self.config
        request = StartRequest(
            model="m",
            tools=tuple(tool for tool in config.tools if tool.name in config.client_tools),
            mode=config.mode,
            on_end=config.on_end,
            constraints=None if config.constraints is Constraints.GRAMMAR else config.constraints,
            gate_end=config.gate_end,
            body_language=config.body_language,
            granularity=config.granularity,
            granularity_hold=config.granularity_hold,
            delivery=config.delivery,
            coalesce_ms=config.coalesce_ms,
            credit=config.credit,
            stop=config.stop,
            limits=vars(config.limits),
            sampling=self.sampling,
        )
        return start_to_pb(request)

    @property
    def events(self) -> list[session_pb2.ServerEvent]:
        config = self.config
        pieces = config.unit is Unit.PIECE
        started = Started(
            session_id="s",
            model="m",
            capabilities=frozenset(MASKS.values()),
            binding=binding_of(TextCodec()) if pieces else binding_of(CODEC, CODEC.tokenizer, "bytes"),
            grammar_hash=grammar_fingerprint(),
            prompt_tokens=config.prompt_tokens,
            limits=config.limits,
            unenforced_schema_keywords=(),
            emulated=pieces,
            unit=config.unit,
            tools=tuple(OfferedTool(tool.name, tool.name in config.client_tools) for tool in config.tools),
            mode=config.mode,
            on_end=config.on_end,
            on_disconnect=OnDisconnect.CANCEL,
            constraints=config.constraints,
            body_language=config.body_language,
            credit=config.credit,
            delivery=config.delivery_in_force,
            coalesce_ms=config.coalesce_ms,
        )
        told: list[Any] = [started, *(_billed(e, pieces) for e in self.log if isinstance(e, Report))]
        return [to_server_event(report, number, 0) for number, report in enumerate(told, 1)]

    @property
    def recording(self) -> Recording:
        return Recording(self.events, self.start, self.sent)


def _busy() -> Recording:
    """Nearly everything happens once."""
    player = Recorder(config(constraints=Constraints.NONE, credit=22))
    player.write("Hi [CALL]a[HEAD]f()[END][CALL]b[HEAD]f(v=a.x)[END]")
    player.probe("in the second block")
    player.send("nobody", "1")
    player.send("@user", "later", scheduling=Scheduling.WHEN_IDLE)
    player.send("a", "[1]", Status.PARTIAL)
    player.send("@system", "by the way", scheduling=Scheduling.SILENT)
    player.grant(100)
    player.write("[CALL]f(n=1)[END]on it. [TRAP]a[END]")  # left at once: somebody has spoken
    player.write("so [TRAP]a[END]")
    player.send("a", '{"x": 1}')
    player.write("[TRAP]zz[END][CALL]c[HEAD]f()[END][EOS]")
    player.send("c", '"quiet"', scheduling=Scheduling.SILENT)
    player.cancel("b")
    player.write("[CALL]d[HEAD]f()[END][EOS]")
    player.send("@system", "unheard", scheduling=Scheduling.SILENT)
    player.finish()
    return player.recording


def _stopped() -> Recording:
    """A stop string ends it; with log-probabilities."""
    player = Recorder(config(stop=("x", "stop!")), SamplingParams(logprobs=True, top_logprobs=1))
    for token_id in units("so [CALL]f()[END]we stop!"):
        top = (ev.TokenLogprob(token_id=token_id, logprob=-0.5, text=""),)
        player.safe_point()
        player.give(ev.TokenSampled(token_id=token_id, logprob=-0.5, rank=1, top=top))
    return player.recording


def _kept() -> Recording:
    """A chat: idle, woken, idle again, and finished."""
    player = Recorder(config(on_end=OnEnd.KEEP))
    player.write("Hi[EOS]")
    player.cancel("nobody")
    player.send("@user", "well?")
    player.write("yes[EOS]")
    player.probe("before the end")
    player.finish()
    return player.recording


def _synchronous() -> Recording:
    """A call that blocks until it is answered, and one that cannot be taken back."""
    player = Recorder(config(mode=ExecutionMode.SYNC, constraints=Constraints.STATIC))
    player.write("x[CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    player.write("y[CALL]b[HEAD]stuck()[END]")
    player.cancel("b")
    player.host(1, "2")
    player.cancel("b")
    player.write("z[EOS]")
    return player.recording


def _gated() -> Recording:
    """State gates: no trap with nothing pending, no end with a call pending."""
    player = Recorder(config(constraints=Constraints.GATES, gate_end=True))
    player.write("x[CALL]a[HEAD]f()[END]z[TRAP]a[END]")
    player.send("a", "1")
    player.write("y[EOS]")
    return player.recording


def _hosted() -> Recording:
    """Pieces: a trap on a result, one that times out, and an end without a token."""
    player = Recorder(config(unit=Unit.PIECE, constraints=Constraints.NONE, limits={"max_empty_traps": 2}))
    player.write("Look[CALL]a[HEAD]f(n=1)[END] Mean[TRAP]a[END]")
    player.send("a", '"r"')
    player.write("while[CALL]b[HEAD]f()[END][TRAP]b within 1[END]")
    player.advance(1_000)
    player.write("[TRAP]zz[END]x[EOS]")
    player.send("b", "null")
    player.write("[CALL]c[HEAD]f()[EOS]y[TRAP]zz[END][TRAP]zz[END]")
    return player.recording


RECORDINGS: Mapping[str, Callable[[], Recording]] = {
    "busy": _busy,
    "stopped": _stopped,
    "kept": _kept,
    "synchronous": _synchronous,
    "gated": _gated,
    "hosted": _hosted,
}
