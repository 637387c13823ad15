"""Enumerations: one table for each, between the Python enum and its protobuf counterpart."""

from __future__ import annotations

import enum
from typing import Any, Generic, TypeVar

from asynclm.cml.control import BodyLanguage, Control, Quantifier, Status
from asynclm.cml.toolspec import SideEffects
from asynclm.prompt.template import Role
from asynclm.session.config import Constraints, DeliveryPolicy, ExecutionMode, Granularity, OnEnd, Unit
from asynclm.session.state import (
    CancelOrigin,
    CancelOutcome,
    Delivery,
    FinishReason,
    NoticeCode,
    RejectReason,
    Result,
    Scheduling,
    State,
    UndeliveredReason,
)
from asynclm.v1 import session_pb2, types_pb2
from asynclm.wire.errors import FieldError, WireError
from asynclm.wire.values import Capability, Instructions, OnDisconnect

E = TypeVar("E", bound=enum.Enum)


def _wire_name(member: enum.Enum) -> str:
    return str(member.value).upper() if isinstance(member, enum.StrEnum) else member.name


class EnumMap(Generic[E]):
    """Both directions of one enumeration; a missing or left-over member fails at import.

    Args:
        python: the Python enum.
        wire: the generated enum (the stubs and the runtime disagree on its class), whose zero value means "not given".
        prefix: the prefix of the generated names.
    """

    def __init__(self, python: type[E], wire: Any, prefix: str) -> None:
        numbers = {name: number for name, number in wire.items() if number != 0}
        names = {f"{prefix}_{_wire_name(member)}": member for member in python}
        if numbers.keys() != names.keys():
            raise RuntimeError(f"{python.__name__} and its enum in proto/ differ: {numbers.keys() ^ names.keys()}")
        self.python = python
        self._prefix = prefix
        # By their values, because an enum's own hash is a call of a Python function.
        self._numbers: dict[Any, Any] = {member._value_: numbers[name] for name, member in names.items()}
        self._members: dict[int, E] = {numbers[name]: member for name, member in names.items()}

    def number(self, member: E | None) -> Any:
        """The wire's number; 0 for None."""
        return 0 if member is None else self._numbers[member._value_]

    def member(self, number: int) -> E:
        """The Python member.

        Raises:
            WireError: the number is 0 or unknown.
        """
        found = self._members.get(number)
        if found is None:
            raise WireError(f"{self._prefix} has no member {number} in this revision of the protocol")
        return found

    def optional(self, number: int) -> E | None:
        """The Python member, or None for 0.

        Raises:
            WireError: the number is unknown.
        """
        return None if number == 0 else self.member(number)

    def given(self, number: int, field: str) -> E | None:
        """The member that a peer gave in a request, or None if it gave none.

        Raises:
            FieldError: the number is unknown; names `field` and what is allowed.
        """
        if number == 0:
            return None
        if number not in self._members:
            allowed = ", ".join(_wire_name(member) for member in self._members.values())
            raise FieldError(field, f"is {number}; allowed: {allowed}")
        return self._members[number]


CONTROL = EnumMap(Control, types_pb2.ControlToken, "CONTROL_TOKEN")
STATUS = EnumMap(Status, types_pb2.Status, "STATUS")
SCHEDULING = EnumMap(Scheduling, types_pb2.Scheduling, "SCHEDULING")
STATE = EnumMap(State, types_pb2.State, "STATE")
RESULT = EnumMap(Result, types_pb2.Result, "RESULT")
DELIVERY = EnumMap(Delivery, types_pb2.Delivery, "DELIVERY")
UNDELIVERED_REASON = EnumMap(UndeliveredReason, types_pb2.UndeliveredReason, "UNDELIVERED_REASON")
REJECT_REASON = EnumMap(RejectReason, types_pb2.RejectReason, "REJECT_REASON")
CANCEL_ORIGIN = EnumMap(CancelOrigin, types_pb2.CancelOrigin, "CANCEL_ORIGIN")
CANCEL_OUTCOME = EnumMap(CancelOutcome, session_pb2.CancelOutcome.Outcome, "OUTCOME")
FINISH_REASON = EnumMap(FinishReason, types_pb2.FinishReason, "FINISH_REASON")
NOTICE_CODE = EnumMap(NoticeCode, types_pb2.NoticeCode, "NOTICE_CODE")
QUANTIFIER = EnumMap(Quantifier, types_pb2.Quantifier, "QUANTIFIER")
SIDE_EFFECTS = EnumMap(SideEffects, types_pb2.SideEffects, "SIDE_EFFECTS")
EXECUTION_MODE = EnumMap(ExecutionMode, types_pb2.ExecutionMode, "EXECUTION_MODE")
ON_END = EnumMap(OnEnd, types_pb2.OnEnd, "ON_END")
ON_DISCONNECT = EnumMap(OnDisconnect, types_pb2.OnDisconnect, "ON_DISCONNECT")
CONSTRAINTS = EnumMap(Constraints, types_pb2.Constraints, "CONSTRAINTS")
BODY_LANGUAGE = EnumMap(BodyLanguage, types_pb2.BodyLanguage, "BODY_LANGUAGE")
GRANULARITY = EnumMap(Granularity, types_pb2.Granularity, "GRANULARITY")
DELIVERY_POLICY = EnumMap(DeliveryPolicy, types_pb2.DeliveryPolicy, "DELIVERY_POLICY")
UNIT = EnumMap(Unit, types_pb2.Unit, "UNIT")
ROLE = EnumMap(Role, types_pb2.Role, "ROLE")
INSTRUCTIONS = EnumMap(Instructions, session_pb2.Instructions, "INSTRUCTIONS")
CAPABILITY = EnumMap(Capability, session_pb2.Capability, "CAPABILITY")
