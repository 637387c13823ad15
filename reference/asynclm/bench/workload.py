"""What sessions decode in benchmarks: tools, and streams of tokens that follow their grammar, half of them in calls."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from asynclm.bench.transcripts import prose
from asynclm.cml.blocks import Argument, Call, Invocation, Literal, Text
from asynclm.cml.bodies import render_body
from asynclm.cml.codec import Codec
from asynclm.cml.control import BodyLanguage
from asynclm.cml.literals import render_literal
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.constraints import Constraint
from asynclm.session.config import Limits, SessionConfig
from asynclm.session.effects import CallDispatched, Notice
from asynclm.session.events import TokenSampled
from asynclm.session.machine import Session

_STRING = {"type": "string"}
_STRINGS = {"type": "array", "items": _STRING}
_INTEGER = {"type": "integer", "minimum": 0}


def _tool(name: str, required: str, **properties: Any) -> ToolSpec:
    schema = {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }
    return ToolSpec(name=name, parameters=schema)


TOOLS = (
    _tool("search", "query", query=_STRING, limit=_INTEGER, language={"enum": ["en", "de", "fr"]}),
    _tool("send_email", "to subject body", to=_STRING, subject=_STRING, body=_STRING),
    _tool("fetch", "url", url=_STRING),
    _tool(
        "calendar.create_event", "title", title=_STRING, start=_STRING, attendees={"type": "array", "items": _STRING}
    ),
    _tool("read_rows", "path", path=_STRING, start=_INTEGER, limit=_INTEGER),
    _tool("summarize", "text", text=_STRING, sentences=_INTEGER, options={"type": "object"}),
)
"""Tools of the usual kinds; the client runs them."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A stream to be decoded.

    Attributes:
        ids: the tokens.
        calls: calls that end among them.
        inside: tokens inside blocks, sampled under a grammar's mask.
    """

    ids: tuple[int, ...]
    calls: int
    inside: int


class IllegalPlanError(RuntimeError):
    """A planned stream breaks the grammar or the protocol, so that measuring with it would show nothing."""


def session_config(prompt_tokens: int, new_tokens: int, **settings: Any) -> SessionConfig:
    """The settings of a session that decodes so many tokens under GRAMMAR, and waits for no result."""
    limits = Limits(max_new_tokens=new_tokens, max_pending_calls=new_tokens, context_length=1 << 20)
    names = frozenset(tool.name for tool in TOOLS)
    return SessionConfig(tools=TOOLS, client_tools=names, limits=limits, prompt_tokens=prompt_tokens, **settings)


def plan(random: Random, codec: Codec, constraint: Constraint, length: int) -> Planned:
    """A stream of so many tokens: text and calls of `TOOLS` in turn, as many tokens of the one as of the other.

    Raises:
        IllegalPlanError: a token is not allowed by the mask of its place, or a call is not dispatched.
    """
    ids: list[int] = []
    number = 0
    while len(ids) < length:
        call = codec.encode([_call(random, f"c{number}")], BodyLanguage.PYTHON)
        number += 1
        text = codec.encode([Text(prose(random, 60, 60))], BodyLanguage.PYTHON)
        ids += call
        ids += text[: len(call) - 2]  # the call's opening token is sampled outside
    return _checked(ids[:length], codec, constraint)


def _checked(ids: list[int], codec: Codec, constraint: Constraint) -> Planned:
    machine = Session(session_config(1, len(ids) + 1), codec)
    follower = constraint.session()
    calls = inside = 0
    for place, token_id in enumerate(ids):
        machine.safe_point()
        mask = machine.mask()
        if not follower.bits(mask)[token_id // 32] >> np.uint32(token_id % 32) & 1:
            raise IllegalPlanError(f"token {place} of the plan, id {token_id}, is masked")
        if mask.block_rule is not None:
            inside += 1
            follower.accept(token_id)
        for effect in machine.receive(TokenSampled(token_id=token_id)):
            if isinstance(effect, Notice):
                raise IllegalPlanError(f"token {place} of the plan: {effect.message}")
            calls += isinstance(effect, CallDispatched)
    return Planned(tuple(ids), calls, inside)


def _call(random: Random, call_id: str) -> Call:
    tool = random.choice(TOOLS)
    required = tool.parameters["required"]
    given = [(n, s) for n, s in tool.parameters["properties"].items() if n in required or random.random() < 0.5]
    arguments = tuple(Argument(name, Literal(render_literal(_value(random, name, schema)))) for name, schema in given)
    invocation = Invocation(tool.name, arguments)
    return Call(call_id, render_body(BodyLanguage.PYTHON, invocation), invocation)


def _value(random: Random, name: str, schema: Any) -> Any:
    if "enum" in schema:
        return random.choice(schema["enum"])
    if schema["type"] == "integer":
        return random.randint(1, 500)
    if schema["type"] == "array":
        return [prose(random, 1, 2) for _ in range(3)]
    if schema["type"] == "object":
        return {"style": prose(random, 1, 3), "bullets": True}
    if name in ("url", "path", "to"):
        return {"url": "https://example.com/reports/", "path": "data/2026/rows-", "to": "desk-"}[name] + str(
            random.randint(1, 999)
        )
    return prose(random, 2, 24 if name in ("body", "text") else 8)
