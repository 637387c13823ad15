"""`Started`: what it has to tell, and that it is what `Start` asked for [WIRE-014, LIM-002]."""

from __future__ import annotations

from typing import Any

from asynclm.cml.grammar import grammar_fingerprint
from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.ambient.report import Facts, Violations, member

_DEFAULTS: tuple[tuple[str, Any, int], ...] = (
    ("mode", types_pb2.ExecutionMode, types_pb2.EXECUTION_MODE_ASYNC),
    ("on_end", types_pb2.OnEnd, types_pb2.ON_END_WAIT),
    ("body_language", types_pb2.BodyLanguage, types_pb2.BODY_LANGUAGE_PYTHON_CALL),
)
_MASKS = (
    (session_pb2.CAPABILITY_GRAMMAR, types_pb2.CONSTRAINTS_GRAMMAR),
    (session_pb2.CAPABILITY_STATE_GATES, types_pb2.CONSTRAINTS_GATES),
    (session_pb2.CAPABILITY_STATIC_MASK, types_pb2.CONSTRAINTS_STATIC),
)
"""From the strictest down [SES-019]."""


def as_asked(facts: Facts, found: Violations) -> None:
    """Looks at `Started` beside `Start`."""
    start, started, require = facts.start, facts.started, found.require
    for name, enum, default in _DEFAULTS:
        asked, told = getattr(start, name) or default, getattr(started, name)
        names = f"{name} is {member(enum, told)}; asked for was {member(enum, asked)}"
        require(asked == told, "WIRE-014", names)
    for field in ("session_id", "model", "grammar_hash"):
        require(getattr(started, field), "WIRE-014", f"{field} is empty")
    asked = start.model if start.HasField("model") else started.model
    require(started.model == asked, "WIRE-041", f"model is {started.model!r}; asked for was {asked!r}")
    require(started.grammar_hash == grammar_fingerprint(), "WIRE-119", f"grammar_hash is {started.grammar_hash!r}")
    units = (types_pb2.UNIT_TOKEN, types_pb2.UNIT_PIECE)
    require(started.unit in units, "WIRE-014", f"unit is {member(types_pb2.Unit, started.unit)}")
    credit = start.credit if start.HasField("credit") else None
    require(facts.credit == credit, "WIRE-014", f"credit is {facts.credit}; asked for was {credit}")
    _best(facts, found)
    _delivery(facts, found)
    _tools(facts, found)
    _limits(facts, found)


def _best(facts: Facts, found: Violations) -> None:
    """What is the server's choice where `Start` leaves it open."""
    can = set(facts.started.capabilities)
    strictest = next((mask for capability, mask in _MASKS if capability in can), types_pb2.CONSTRAINTS_NONE)
    resumes = session_pb2.CAPABILITY_RESUME in can
    kept = types_pb2.ON_DISCONNECT_DETACH if resumes else types_pb2.ON_DISCONNECT_CANCEL
    choices = (
        ("constraints", types_pb2.Constraints, strictest, "SES-019"),
        ("on_disconnect", types_pb2.OnDisconnect, kept, "WIRE-019"),
    )
    for name, enum, best, requirement in choices:
        asked, told = getattr(facts.start, name), getattr(facts.started, name)
        names = f"{name} is {member(enum, told)}, not {member(enum, asked or best)}"
        found.require(told == (asked or best), "WIRE-014" if asked else requirement, names)


def _delivery(facts: Facts, found: Violations) -> None:
    """The delivery that was asked for, or else the one that goes with the window, or some other of the server's."""
    start, told = facts.start, facts.started.delivery
    asked = start.delivery or (types_pb2.DELIVERY_POLICY_COALESCE if start.coalesce_ms else told)
    name = member(types_pb2.DeliveryPolicy, told)
    found.require(told and told == asked, "INT-062", f"delivery is {name}; asked for was {start.delivery}")
    if start.delivery or start.coalesce_ms:
        window = facts.window_ms
        found.require(window == start.coalesce_ms, "INT-062", f"coalesce_ms is {window}, not {start.coalesce_ms}")


def _tools(facts: Facts, found: Violations) -> None:
    names = [tool.name for tool in facts.started.tools]
    found.require(len(names) == len(set(names)), "CALL-090", f"tools of one name among {names}")
    for tool in facts.start.tools:
        owned = facts.client_owned(tool.name)
        found.require(owned, "WIRE-014", f"tool {tool.name!r} is the client's; Started says {owned}")
    if facts.start.HasField("server_tools"):
        asked = set(facts.start.server_tools.names)
        own = {tool.name for tool in facts.started.tools if not tool.client_owned}
        found.require(own == asked, "WIRE-014", f"server tools are {sorted(own)}; asked for were {sorted(asked)}")


def _limits(facts: Facts, found: Violations) -> None:
    for name in types_pb2.Limits.DESCRIPTOR.fields_by_name:
        told = facts.limit(name)
        found.require(facts.started.limits.HasField(name), "LIM-002", f"limits.{name} is not told")  # type: ignore[arg-type]
        if facts.start.limits.HasField(name):  # type: ignore[arg-type]
            asked = getattr(facts.start.limits, name)
            found.require(told == asked, "LIM-002", f"limits.{name} is {told}; asked for was {asked}")
