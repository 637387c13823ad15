"""The session machine judges the session-layer cases: what is grammatical may still be wrong in a session."""

from __future__ import annotations

import json
import re

import pytest

from asynclm.cml.binding import bind
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.control import Control, Status
from asynclm.cml.text_form import TextCodec
from asynclm.session.config import Constraints, SessionConfig, Unit
from asynclm.session.effects import Effect, InterruptCommitted, Notice
from asynclm.session.events import TokenSampled
from asynclm.session.machine import Session
from asynclm.session.state import NoticeCode

from .cases import Case, load, select

CODEC = bind(ByteTokenizer())
CASES = select(lambda case: case.layer == "session" and case.error is None)


def config(case: Case, unit: Unit) -> SessionConfig:
    tools = tuple(tool.build() for tool in load("reject").tools)
    return SessionConfig(
        tools=tools,
        client_tools=frozenset(tool.name for tool in tools),
        body_language=case.body_language,
        constraints=Constraints.NONE,
        unit=unit,
    )


def units(case: Case, unit: Unit) -> list[TokenSampled]:
    if unit is Unit.PIECE:
        assert isinstance(case.input, str)
        return [TokenSampled(piece=piece) for piece in re.findall(r".*?\[[A-Z]+\]|.+", case.input, re.DOTALL)]
    ids: list[int] = []
    for piece in case.pieces:
        ids += [CODEC.control_ids[piece]] if isinstance(piece, Control) else CODEC.encode_text(piece)
    return [TokenSampled(token_id=token_id) for token_id in ids]


def play(case: Case, unit: Unit) -> list[Effect]:
    """Everything that happens while the model writes the case, and at the safe point after it."""
    session = Session(config(case, unit), CODEC if unit is Unit.TOKEN else TextCodec())
    effects: list[Effect] = []
    for event in units(case, unit):
        effects += session.safe_point()
        effects += session.receive(event)
    if session.can_step:
        effects += session.safe_point()
    return effects


def errors(effects: list[Effect]) -> list[str]:
    """The types of the errors that the model is told of, and notices of forged blocks."""
    found = []
    for effect in effects:
        if isinstance(effect, InterruptCommitted) and effect.status is Status.ERROR:
            found.append(json.loads(effect.payload)["type"])
        elif isinstance(effect, Notice) and effect.code is NoticeCode.FORGED:
            found.append(effect.code.value)
    return found


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for _, case in CASES])
def test_the_session_says_what_is_wrong(case: Case, unit: Unit):
    wanted = [case.session_error] if case.session_error else []
    if unit is Unit.PIECE and case.session_error == "forged":
        wanted *= 2  # a model that cannot be masked is told, too [SEC-053]
    assert errors(play(case, unit)) == wanted
