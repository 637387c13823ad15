"""Plays a session by hand: text in, effects out; every effect passes the invariant checker on its way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from tests.session.invariants import SAFE_POINT, Checker, Input

from asynclm.cml.binding import TokenCodec, bind
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.codec import Codec
from asynclm.cml.control import Control, Status
from asynclm.cml.text_form import TextCodec
from asynclm.cml.toolspec import SideEffects, ToolSpec
from asynclm.session import effects as fx
from asynclm.session import events as ev
from asynclm.session.config import Limits, SessionConfig, Unit
from asynclm.session.machine import Session
from asynclm.session.mask import Kind
from asynclm.session.state import CancelOrigin, Scheduling, State

CODEC: TokenCodec = bind(ByteTokenizer())
ANY_OBJECT = {"type": "object"}

TOOLS = (
    ToolSpec(name="f", parameters=ANY_OBJECT, parameter_order=()),
    ToolSpec(name="g", parameters=ANY_OBJECT, timeout_ms=2_000, expected_duration_ms=500, idempotent=True),
    ToolSpec(name="stuck", parameters=ANY_OBJECT, cancellable=False, side_effects=SideEffects.LOCAL),
    ToolSpec(
        name="typed",
        parameters={
            "type": "object",
            "properties": {"n": {"type": "integer"}, "s": {"type": "string"}},
            "required": ["n"],
            "additionalProperties": False,
        },
        parameter_order=("n", "s"),
        expected_duration_ms=1_000,
    ),
)
"""`f` is the client's; the others are the server's."""

CLIENT_TOOLS = frozenset({"f"})

_PARTS = re.compile(r"(\[(?:CALL|INTR|TRAP|END|HEAD|EOS)\])")

E = TypeVar("E")


def config(*, limits: dict[str, int] | None = None, **settings: Any) -> SessionConfig:
    """Settings with the tools above."""
    settings.setdefault("tools", TOOLS)
    settings.setdefault("client_tools", CLIENT_TOOLS)
    return SessionConfig(limits=Limits(**(limits or {})), **settings)


def units(text: str) -> list[int]:
    """Token ids of a text in which control words and [EOS] are control tokens and end of sequence."""
    ids: list[int] = []
    for part in _PARTS.split(text):
        if part == "[EOS]":
            ids.append(min(CODEC.eos_ids))
        elif _PARTS.fullmatch(part):
            ids.append(CODEC.control_ids[Control(part)])
        else:
            ids += CODEC.encode_text(part)
    return ids


def symbols(text: str) -> list[str]:
    """Pieces of a text, one for each character or control word; [EOS] is one too."""
    return [p for part in _PARTS.split(text) for p in ([part] if _PARTS.fullmatch(part) else part)]


def kind_of(token_id: int) -> Kind:
    """The kind of a token id, as masks name it."""
    if token_id in CODEC.eos_ids:
        return Kind.EOS
    names = {i: Kind[control.name] for control, i in CODEC.control_ids.items()}
    return names.get(token_id, Kind.TEXT)


def only(kind: type[E], effects: Iterable[object]) -> E:
    """The one effect of a kind."""
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, f"{len(found)} of {kind.__name__} in {list(effects)}"
    return found[0]


def every(kind: type[E], effects: Iterable[object]) -> list[E]:
    """All effects of a kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def names(effects: Iterable[object]) -> list[str]:
    """Kinds of effects, in order."""
    return [type(effect).__name__ for effect in effects]


class Player:
    """A session, its checker, and everything that came out of it."""

    def __init__(self, settings: SessionConfig | None = None, *, codec: Codec | None = None, **more: Any) -> None:
        self.config = settings or config(**more)
        pieces = self.config.unit is Unit.PIECE
        self.session = Session(self.config, codec or (TextCodec() if pieces else CODEC))
        self.checker = Checker(self.session, self.config)
        self.log: list[fx.Effect] = []
        self.now_ms = 0
        self.sound = True

    # --- inputs ----------------------------------------------------------------------------------------------

    def give(self, event: ev.Event) -> list[fx.Effect]:
        """Applies any event."""
        self.sound = False
        return self._note(event, self.session.receive(event))

    def safe_point(self) -> list[fx.Effect]:
        self.sound = False
        return self._note(SAFE_POINT, self.session.safe_point())

    def _note(self, given: Input, effects: Sequence[fx.Effect]) -> list[fx.Effect]:
        self.checker.observe(given, effects)
        self.sound = True
        self.log += effects
        return list(effects)

    def sample(self, token_id: int) -> list[fx.Effect]:
        """One decode step: the safe point, then the token."""
        effects = self.safe_point()
        if self.session.can_step:
            effects += self.give(ev.TokenSampled(token_id=token_id))
        return effects

    def write(self, text: str) -> list[fx.Effect]:
        """The model writes a text, control words and [EOS] included."""
        effects: list[fx.Effect] = []
        if self.config.unit is Unit.PIECE:
            return self.pieces(*[part for part in _PARTS.split(text) if part])
        for token_id in units(text):
            assert self.session.can_step, f"cannot step in {self.session.state} with {text!r} to write"
            effects += self.sample(token_id)
        return effects

    def pieces(self, *pieces: str) -> list[fx.Effect]:
        """A hosted model sends pieces; [EOS] ends its stream."""
        effects: list[fx.Effect] = []
        for piece in pieces:
            effects += self.safe_point()
            effects += self.give(ev.StreamEnded() if piece == "[EOS]" else ev.TokenSampled(piece=piece))
        return effects

    def send(
        self,
        source: str,
        payload: str = "null",
        status: Status | None = None,
        scheduling: Scheduling | None = None,
        seq: int = 0,
    ) -> list[fx.Effect]:
        """The client sends an interrupt."""
        return self.give(
            ev.InterruptReceived(source=source, payload=payload, status=status, scheduling=scheduling, client_seq=seq)
        )

    def host(
        self, index: int, payload: str = "null", status: Status | None = None, scheduling: Scheduling | None = None
    ) -> list[fx.Effect]:
        """A host of the server answers a call."""
        return self.give(
            ev.InterruptReceived(
                call_index=index, payload=payload, status=status, scheduling=scheduling, from_client=False
            )
        )

    def cancel(self, call_id: str | None = None, index: int | None = None) -> list[fx.Effect]:
        return self.give(ev.CancelRequested(id=call_id, call_index=index, origin=CancelOrigin.CLIENT, client_seq=7))

    def advance(self, ms: int) -> list[fx.Effect]:
        self.now_ms += ms
        return self.give(ev.TimeAdvanced(now_ms=self.now_ms))

    def grant(self, tokens: int) -> list[fx.Effect]:
        return self.give(ev.CreditGranted(tokens=tokens))

    def pause(self, paused: bool = True) -> list[fx.Effect]:
        return self.give(ev.PauseChanged(paused=paused))

    def probe(self, nonce: str = "p") -> list[fx.Effect]:
        return self.give(ev.ProbeRequested(nonce=nonce))

    def finish(self, **more: Any) -> list[fx.Effect]:
        return self.give(ev.FinishRequested(**more))

    def half_close(self) -> list[fx.Effect]:
        return self.give(ev.HalfClosed())

    # --- outcomes --------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.session.state

    @property
    def text(self) -> str:
        """All text outside blocks."""
        return "".join(e.text for e in every(fx.Tokens, self.log) if e.in_block is None)

    @property
    def finished(self) -> fx.Finished:
        return only(fx.Finished, self.log)

    @property
    def committed(self) -> list[tuple[str, str]]:
        """Source (with status) and payload of everything committed so far."""
        return [
            (c.source if c.status is Status.OK else f"{c.source}:{c.status.value}", c.payload)
            for c in every(fx.InterruptCommitted, self.log)
        ]

    def row(self, index: int) -> fx.CallRow:
        """The ledger's row of a settled call."""
        return only(fx.CallRow, [s.row for s in every(fx.CallSettled, self.log) if s.row.index == index])
