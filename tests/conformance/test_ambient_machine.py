"""Random histories of the session machine keep every ambient rule, in both units; told as a server would tell them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from asynclm_conformance.ambient import check
from hypothesis import settings
from tests.session.player import CODEC, Player
from tests.session.test_stateful import HISTORIES, Sessions

from asynclm.cml.text_form import TextCodec
from asynclm.engine.base import SamplingParams
from asynclm.session import effects as fx
from asynclm.session import events as ev
from asynclm.session.config import Constraints, SessionConfig, Unit
from asynclm.session.effects import Report
from asynclm.session.state import CancelOrigin
from asynclm.v1 import session_pb2
from asynclm.wire.client_events import client_event_to_pb
from asynclm.wire.reports import to_server_event
from asynclm.wire.start import StartRequest, start_to_pb
from asynclm.wire.started import binding_of
from asynclm.wire.values import Capability, OfferedTool, OnDisconnect, Started

MASKS = {
    Constraints.STATIC: Capability.STATIC_MASK,
    Constraints.GATES: Capability.STATE_GATES,
    Constraints.GRAMMAR: Capability.GRAMMAR,
}


class Recorder(Player):
    """A player that numbers what the client sends and keeps it."""

    def __init__(self, config: SessionConfig) -> None:
        super().__init__(config)
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
            tools=tuple(tool for tool in config.tools if tool.name in config.client_tools),
            mode=config.mode,
            on_end=config.on_end,
            constraints=config.constraints,
            gate_end=config.gate_end,
            body_language=config.body_language,
            granularity=config.granularity,
            granularity_hold=config.granularity_hold,
            coalesce_ms=config.coalesce_ms,
            credit=config.credit,
            stop=config.stop,
            limits=vars(config.limits),
            sampling=SamplingParams(),
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
            binding=binding_of(TextCodec() if pieces else CODEC, name="" if pieces else "bytes"),
            grammar_hash="hash",
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
        )
        told: list[Any] = [started, *(effect for effect in self.log if isinstance(effect, Report))]
        return [to_server_event(report, number, 0) for number, report in enumerate(told, 1)]


class Judged(Sessions):
    """Sessions whose streams are judged when they are over."""

    def start(self, settings: SessionConfig) -> None:
        if hasattr(self, "player"):
            self.judge()
        super().start(settings)
        self.player: Recorder = Recorder(settings)

    def judge(self) -> None:
        events = self.player.events
        broken = check(events, self.player.start, self.player.sent, complete=self.player.session.finished)
        assert not broken, "\n".join([*map(str, broken), str(self.player.config), *map(str, events[1:])])

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "player") and self.player.sound:
            self.judge()


@pytest.mark.slow
class TestJudgedSessions(Judged.TestCase):  # type: ignore[misc]
    settings = settings(HISTORIES, max_examples=200)
