"""What every event has to hold by itself: enums that are told, and an owner for what is sent to hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.ambient.report import Event, Violations

_ENUMS: Mapping[str, tuple[tuple[str, Any, str], ...]] = {
    "call_cancel_requested": (("origin", types_pb2.CancelOrigin, "CALL-073"),),
    "cancel_outcome": (
        ("outcome", session_pb2.CancelOutcome.Outcome, "CALL-070"),
        ("origin", types_pb2.CancelOrigin, "CALL-070"),
    ),
    "state_changed": (("state", types_pb2.State, "SES-049"),),
    "probed": (("state", types_pb2.State, "WIRE-080"),),
    "interrupt_accepted": (
        ("status", types_pb2.Status, "INT-020"),
        ("scheduling", types_pb2.Scheduling, "INT-030"),
    ),
    "interrupt_committed": (("status", types_pb2.Status, "INT-044"),),
    "interrupt_rejected": (("reason", types_pb2.RejectReason, "INT-021"),),
    "finished": (("reason", types_pb2.FinishReason, "SES-074"),),
}
"""Fields of events that say nothing if they are left open, and the requirement that they be told."""

_ROWS = (("result", types_pb2.Result), ("delivery", types_pb2.Delivery))


class Shapes:
    """Looks at each event by itself."""

    def __init__(self, found: Violations) -> None:
        self._require = found.require

    def see(self, event: Event) -> None:
        """Takes one event."""
        for field, enum, requirement in _ENUMS.get(event.kind, ()):
            self._told(event.body, field, enum, requirement, event.name)
        if event.kind == "call_settled":
            self._require(event.body.HasField("row"), "SES-092", "CallSettled without a row")
            self._row(event.body.row)
        if event.kind == "finished":
            self._require(event.body.HasField("usage"), "SES-074", "Finished without usage")

    def _row(self, row: types_pb2.CallRow) -> None:
        for field, enum in _ROWS:
            self._told(row, field, enum, "SES-091", "the row")

    def _told(self, body: Any, field: str, enum: Any, requirement: str, where: str) -> None:
        number = getattr(body, field)
        known = number != 0 and number in enum.values()
        self._require(known, requirement, f"{field} of {where} is {number}, which is no {enum.DESCRIPTOR.name}")
