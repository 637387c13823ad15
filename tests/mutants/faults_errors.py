"""Faults of how errors are told: statuses, details, messages, what tools did wrong."""

from __future__ import annotations

import dataclasses
import json

import grpc
from tests.mutants.mutant import mutant, puts, replaces

from asynclm.server import inference, preparation
from asynclm.session import arguments
from asynclm.session.desk import CallDesk
from asynclm.session.inbound import Inbound
from asynclm.session.state import RejectReason
from asynclm.tools import run
from asynclm.wire import client_events, errors


@mutant(violates=["ERR-003"], also={"*": "a status names the field at fault"})
def statuses_without_fields():
    """INVALID_ARGUMENT names no fields in its details."""

    @replaces(errors, "fault_status")
    def _(original, fault):
        return original(dataclasses.replace(fault, violations=()))


@mutant(violates=["ERR-004"], also={"*": "a status tells its reason"})
def statuses_without_reasons():
    """No status carries a reason."""

    @replaces(errors, "fault_status")
    def _(original, fault):
        return original(dataclasses.replace(fault, reason=""))


@mutant(violates=["ERR-004"], also={"*": "a status tells its reason in the domain `asynclm`"})
def reasons_of_another_domain():
    """The reasons of statuses have another domain."""
    puts(errors, "DOMAIN", "asynclm.example")


@mutant(violates=["ERR-004", "ERR-043"])
def long_prompts_are_bad_fields():
    """A prompt over the context length is refused with another reason."""
    puts(preparation, "PROMPT_TOO_LONG", "BAD_FIELD")


@mutant(violates=["ERR-004", "WIRE-034", "WIRE-010", "WIRE-038", "WIRE-039"])
def misplaced_events_are_bad_fields():
    """A client event out of place is refused with another reason."""
    puts(inference, "BAD_EVENT", "BAD_FIELD")
    puts(client_events, "BAD_EVENT", "BAD_FIELD")


@mutant(violates=["ERR-002", "CALL-093", "ERR-043"])
def messages_say_nothing():
    """The message of a status does not name the field."""

    @replaces(errors, "fault_status")
    def _(original, fault):
        return original(dataclasses.replace(fault, message="bad request"))


@mutant(violates=["ERR-044", "WIRE-012", "SCR-010", "SCR-011"])
def unknown_models_are_bad_fields():
    """An unknown model is refused with INVALID_ARGUMENT."""

    @replaces(preparation.Preparation, "_unknown_model")
    def _(original, self, name):
        fault = original(self, name)
        fault.code = grpc.StatusCode.INVALID_ARGUMENT
        return fault


@mutant(violates=["ERR-029", "CALL-062"])
def unknown_functions_are_told_without_the_known():
    """The error of an unknown function does not list the functions that there are."""

    @replaces(CallDesk, "_unknown")
    def _(original, self, function):
        return "there is no such function"


@mutant(violates=["ERR-030", "CALL-062"])
def wrong_arguments_are_told_without_their_names():
    """The error of wrong arguments does not name the argument."""

    @replaces(arguments, "violation")
    def _(original, tool, text):
        return "the arguments do not fit" if original(tool, text) else None


@mutant(violates=["ERR-037", "INT-019"])
def exceptions_are_tool_errors():
    """A tool that raised has the type tool_error."""

    @replaces(run, "exception_payload")
    def _(original, error):
        return json.dumps(json.loads(original(error)) | {"type": "tool_error"})


@mutant(violates=["CALL-056"])
def stack_traces_are_shown():
    """The error of a tool that raised has a stack trace."""

    @replaces(run, "exception_payload")
    def _(original, error):
        told = json.loads(original(error))
        trace = f'Traceback (most recent call last):\n  File "tools.py", line 1, in tool\n{told["message"]}'
        return json.dumps(told | {"message": trace})


@mutant(violates=["ERR-027", "INT-022"])
def unknown_ids_are_bad_sources():
    """A result for an id that no call has is rejected with BAD_SOURCE."""

    @replaces(Inbound, "_reject")
    def _(original, self, event, reason, message):
        original(self, event, RejectReason.BAD_SOURCE if reason is RejectReason.UNKNOWN_ID else reason, message)


@mutant(violates=["ERR-034", "INT-022"])
def held_calls_are_unknown():
    """A result for a held call is rejected with UNKNOWN_ID."""

    @replaces(Inbound, "_reject")
    def _(original, self, event, reason, message):
        original(self, event, RejectReason.UNKNOWN_ID if reason is RejectReason.NOT_DISPATCHED else reason, message)


@mutant(violates=["CALL-077"])
def cancelled_payloads_speak_of_the_tool():
    """The payload of a cancelled call does not say that the call was cancelled."""
    from asynclm.session import desk

    @replaces(desk, "error_payload")
    def _(original, kind, message, **kwargs):
        return original(kind, "cancelled" if kind.value == "cancelled" else message, **kwargs)
