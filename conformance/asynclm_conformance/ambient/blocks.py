"""What blocks say, read anew: the call that was emitted, the condition that is waited for."""

from __future__ import annotations

from typing import Any

from asynclm.cml.blocks import CmlError, Invocation, Literal
from asynclm.cml.bodies import parse_body
from asynclm.cml.control import BodyLanguage
from asynclm.cml.ids import WHITESPACE
from asynclm.cml.traps import parse_trap
from asynclm.v1 import session_pb2, types_pb2
from asynclm.wire.ledger import reference_to_pb, trap_to_pb
from asynclm_conformance.ambient.payloads import members
from asynclm_conformance.ambient.report import Event, Facts, Violations
from asynclm_conformance.ambient.tokens import CALL, TRAP, Closed

_NOTHING_MORE = frozenset({"tokens", "interrupt_committed", "finished"})


class Blocks:
    """Holds what the engine made of a block against what stands in it."""

    def __init__(self, facts: Facts, found: Violations) -> None:
        self._require = found.require
        json = facts.started.body_language == types_pb2.BODY_LANGUAGE_JSON_CALL
        self._language = BodyLanguage.JSON if json else BodyLanguage.PYTHON
        self._sync = facts.started.mode == types_pb2.EXECUTION_MODE_SYNC
        self._call: Closed | None = None
        self._ended = False
        self._traps: list[types_pb2.Trap] = []

    def before(self, event: Event) -> None:
        """Looks for what a closed block brings about [CALL-006, TRAP-001, SES-060]."""
        if self._call is not None and event.kind not in ("notice", "call_emitted"):
            self._require(False, "CALL-006", "a call block closed without CallEmitted")
            self._call = None
        if self._traps and event.kind in _NOTHING_MORE:
            self._require(False, "TRAP-001", f"the trap {self._traps[0]} was not entered".replace("\n", " "))
            self._traps = []

    def closed(self, block: Closed, *, spent: bool) -> None:
        """A block closed; `spent`: no token may follow, so that nothing is waited for."""
        if block.opened == CALL:
            self._call = block
        elif block.opened == TRAP and block.ended and not spent:
            condition = self._condition(block)
            self._traps = [] if condition is None else [condition]

    def _condition(self, block: Closed) -> types_pb2.Trap | None:
        if block.heads:
            return None
        try:
            return trap_to_pb(parse_trap(block.text))
        except CmlError:
            return None

    @property
    def call_due(self) -> bool:
        """Whether a call block closed that was not emitted yet."""
        return self._call is not None

    def said_again(self) -> None:
        """The call is one that a hosted model said again, and is left out [CALL-110]; or text was."""
        self._call = None

    # --- calls -----------------------------------------------------------------------------------------------

    def emitted(self, body: session_pb2.CallEmitted) -> None:
        """A call was emitted [CALL-006]."""
        block, self._call = self._call, None
        self._ended = block is not None and block.ended
        require = self._require
        require(block is not None, "CALL-006", "CallEmitted without the end of a call block")
        if block is None:
            return
        invocation = self._read(body.raw)
        if body.function:
            raw = block.text.strip(WHITESPACE)
            require(body.raw.strip(WHITESPACE) == raw, "CALL-006", f"raw is {body.raw!r}, written was {raw!r}")
            named = invocation is not None and invocation.function == body.function
            require(named, "CALL-006", f"function {body.function!r} is not that of the body")
        if body.function or body.references:
            references = [reference_to_pb(r) for r in invocation.references] if invocation is not None else []
            require(list(body.references) == references, "CALL-006", "the references are not those of the body")

    def waits_for(self, call_id: str) -> None:
        """Under SYNC the `[END]` of a named call is a trap on it [SES-060, SES-066]."""
        if self._sync and self._ended:
            self._traps = [types_pb2.Trap(quantifier=types_pb2.QUANTIFIER_ALL, ids=[call_id])]

    def literals(self, raw: str) -> dict[str, Any]:
        """The arguments of a body by name that are values already."""
        invocation = self._read(raw)
        if invocation is None:
            return {}
        values = {a.name: a.value.json for a in invocation.arguments if a.name and isinstance(a.value, Literal)}
        return {name: (members(f'{{"v":{value}}}') or {}).get("v") for name, value in values.items()}

    def _read(self, raw: str) -> Invocation | None:
        try:
            return parse_body(self._language, raw)
        except CmlError:
            return None

    # --- traps -----------------------------------------------------------------------------------------------

    def entered(self, event: Event) -> None:
        """A trap was entered, with the condition that was written [TRAP-001]."""
        body: session_pb2.TrapEntered = event.body
        due, self._traps = self._traps, []
        rule = ("SES-060" if self._ended else "SES-066") if body.implicit else "TRAP-001"
        self._require(body.trap in due, rule, "the condition is not the one that was written")
