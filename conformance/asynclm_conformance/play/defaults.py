"""What a case need not say: the message, the tools and the settings of its sessions."""

from __future__ import annotations

import json
from typing import Any

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.cases.model import SessionCase

_ANY = {"type": "object"}
_TYPED = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "s": {"type": "string"}},
    "required": ["n"],
    "additionalProperties": False,
}


def _tool(name: str, parameters: dict[str, Any], **more: Any) -> types_pb2.ToolSpec:
    return types_pb2.ToolSpec(name=name, parameters_json=json.dumps(parameters), **more)


TOOLS = (
    _tool("f", _ANY),
    _tool("g", _ANY),
    _tool("typed", _TYPED, parameter_order=["n", "s"]),
    _tool("stuck", _ANY, cancellable=False, side_effects=types_pb2.SIDE_EFFECTS_LOCAL),
    _tool("brief", _ANY, timeout_ms=50, idempotent=True, side_effects=types_pb2.SIDE_EFFECTS_NONE),
)
"""The client's tools: anything goes into `f` and `g`; `typed` takes an integer and, if it is there, a string; `stuck`
cannot be cancelled; `brief` has 50 ms."""


def start_of(session: SessionCase, model: str) -> session_pb2.Start:
    """The Start of a session, with what the case leaves open filled in."""
    spec = session.spec
    start = session_pb2.Start()
    start.CopyFrom(spec.start)
    if not start.HasField("model") and model:
        start.model = model
    if spec.bare:
        return start
    if not start.messages and not start.HasField("prompt_ids"):
        start.messages.add(role=types_pb2.ROLE_USER).parts.add(text="Go on.")
    if not start.tools and not spec.no_tools:
        start.tools.extend(TOOLS)
    if not start.instructions:
        start.instructions = session_pb2.INSTRUCTIONS_NONE
    if not start.constraints and not spec.weights:
        start.constraints = types_pb2.CONSTRAINTS_NONE
    if not start.HasField("credit") and not spec.unlimited and not spec.generate:
        start.credit = 0
    return start
