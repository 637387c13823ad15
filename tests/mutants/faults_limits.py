"""Faults of limits: what is not bounded, or bounded by another measure."""

from __future__ import annotations

from tests.mutants.mutant import mutant, puts, replaces

from asynclm.engine import base
from asynclm.server import preparation
from asynclm.session import config, inbound, payloads
from asynclm.session.config import Limits
from asynclm.session.inbound import Inbound
from asynclm.session.queue import Accepted
from asynclm.wire import start, started, tools
from asynclm.wire.start import StartRequest


@mutant(violates=["LIM-004", "SEC-034"])
def limits_can_be_raised():
    """A limit in Start may be above the server's own."""

    @replaces(StartRequest, "limits_in_force")
    def _(original, self, allowed):
        return Limits(**{**vars(allowed), **self.limits})


@mutant(violates=["LIM-002", "LIM-003", "WIRE-014"])
def limits_of_started_are_the_servers():
    """Started tells the server's limits in place of those in force."""

    @replaces(started, "limits_to_pb")
    def _(original, limits):
        return original(Limits())


@mutant(violates=["LIM-006"])
def payloads_are_counted_in_characters():
    """The size of a payload is counted in characters."""
    puts(inbound, "payload_bytes", len)


@mutant(violates=["LIM-001", "ERR-032", "INT-022", "CALL-053"])
def payloads_of_any_size():
    """max_payload_bytes is not looked at."""

    @replaces(Inbound, "_too_large")
    def _(original, self, size):
        return None


@mutant(violates=["INT-022", "LIM-008", "LIM-001"])
def queues_of_any_length():
    """max_queued is not looked at."""

    @replaces(Inbound, "_queue_full")
    def _(original, self):
        return None


@mutant(violates=["LIM-008"])
def everything_queued_counts():
    """Results count against max_queued."""
    puts(Accepted, "refusable", property(lambda self: True))


@mutant(violates=["LIM-007"])
def payloads_of_any_depth():
    """JSON in a payload may be nested to any depth."""
    puts(payloads, "MAX_DEPTH", 10_000)


@mutant(violates=["LIM-007"])
def schemas_of_any_depth():
    """A tool's schema may be nested to any depth."""
    puts(tools, "MAX_DEPTH", 10_000)


@mutant(violates=["LIM-010"])
def any_number_of_labels():
    """A session may have any number of labels, of any size."""
    puts(start, "MAX_LABELS", 1 << 30)
    puts(start, "MAX_LABEL_BYTES", 1 << 30)


@mutant(violates=["LIM-015"])
def stop_strings_of_any_kind():
    """Stop strings are not checked."""

    @replaces(config, "_check_stop")
    def _(original, stop):
        original(tuple(text for text in stop if text)[:1])


@mutant(violates=["LIM-016"])
def any_number_of_top_logprobs():
    """top_logprobs is not bounded."""
    puts(base, "MAX_TOP_LOGPROBS", 1 << 20)


@mutant(violates=["ERR-043"])
def prompts_of_any_length():
    """A prompt over the context length is taken."""

    @replaces(preparation, "check_prompt")
    def _(original, length, limits, request):
        return None
