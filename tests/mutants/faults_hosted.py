"""Faults of servers that emulate the protocol on a hosted chat interface."""

from __future__ import annotations

import contextvars
import dataclasses
import functools

from tests.mutants.mutant import Served, mutant, puts, replaces, reports, sends

from asynclm.cml.blocks import Call
from asynclm.engine.hosted_loop import HostedCarrier
from asynclm.server import hosted_preparation
from asynclm.session.core import Core
from asynclm.session.effects import Tokens
from asynclm.session.hold import Hold
from asynclm.session.machine import Session
from asynclm.session.replays import Replays, Written
from asynclm.session.stream import Stream
from asynclm.v1 import types_pb2
from asynclm_adapters.openai_chat import session as chat
from asynclm_adapters.openai_chat.session import ChatSession

hosted = functools.partial(mutant, served=Served.HOSTED)

LED = {"emulated/anonymous-call*": "an anonymous call is known by the named ones that are said again before it"}
ID_AGAIN = {
    "calls/malformed-body-keeps-id calls/settled-id-stays-taken": "an id is used again behind an interrupt",
    "gaps/emitted-as-written validation/every-error-goes-on": "an id is used again behind an interrupt",
}
NAMELESS_AGAIN = {
    "blocks/how-it-ended-before-its-id blocks/no-names blocks/no-other-white-space blocks/reserved-ids": (
        "calls without an id that can be read are made twice"
    ),
    "calls/reserved-id forgery/in-ids": "calls without an id that can be read are made twice",
}

# --- what the model wrote ----------------------------------------------------------------------------------------


@hosted(violates=["SEC-053"])
def forgeries_are_not_answered():
    """No interrupt tells the model that it wrote an [INTR]."""

    @replaces(Core, "accept")
    def _(original, self, source, status, payload, *args, **kwargs):
        if source == "@runtime" and '"forged"' in payload:
            return None
        return original(self, source, status, payload, *args, **kwargs)


@hosted(
    violates=["SEC-005", "CML-064", "SES-079"],
    also={"emulated/forgery-is-answered-though-lazy": "the forged block is still open"},
)
def abandoned_blocks_go_on():
    """A block that is to be dropped, forged or over its limit, goes on until its [END]."""

    @replaces(Stream, "_abandon")
    def _(original, self):
        return None


@hosted(violates=["INT-064"])
def closed_requests_wait_under_lazy():
    """LAZY holds back what is committed where the stream was closed for what the model wrote."""

    @replaces(Hold, "request_closed")
    def _(original, self):
        return None


@hosted(violates=["SES-079"])
def blocks_have_no_limit_of_pieces():
    """A block goes on behind max_block_tokens."""

    @replaces(Stream, "_limit_block")
    def _(original, self):
        return None


# --- what is said again ------------------------------------------------------------------------------------------


@hosted(violates=["SES-121"], also={"emulated/anonymous-call-said-again": "its script says the same text twice"})
def scripts_are_trimmed():
    """What a script says twice is left out like what a model says again."""
    said: contextvars.ContextVar[str] = contextvars.ContextVar("said")

    @replaces(ChatSession, "_stream")
    async def _(original, self, number, messages, all_said, position):
        said.set(all_said)
        return await original(self, number, messages, all_said, position)

    @replaces(chat, "ReplayFilter")
    def _(original, _):
        return original(said.get())


@hosted(violates=["CALL-110"], also=LED)
def named_calls_are_never_said_again():
    """A named call that is said again is a duplicate."""

    @replaces(Replays, "dropped")
    def _(original, self, block):
        if block.id is None:
            return original(self, block)
        self._new()
        return False


@hosted(violates=["CALL-112"])
def bodies_are_compared_letter_by_letter():
    """Two bodies that say the same in other letters count as different."""

    @replaces(Written, "same")
    def _(original, self, other):
        return self.body == other.body


@hosted(violates=["CALL-112", "CALL-110"], also=ID_AGAIN)
def bodies_are_not_compared():
    """A named call with another body counts as said again."""

    @replaces(Written, "same")
    def _(original, self, other):
        return True


@hosted(violates=["CALL-110", "CALL-004"])
def calls_are_said_again_in_one_request():
    """A named call with the same body is left out where no request was begun anew, too."""

    @replaces(Replays, "dropped")
    def _(original, self, block):
        self._request += 1
        return original(self, block)


@hosted(violates=["CALL-111"])
def anonymous_calls_are_never_said_again():
    """An anonymous call that is said again is made again."""

    @replaces(Replays, "dropped")
    def _(original, self, block):
        self._led = False
        return original(self, block)


@hosted(violates=["CALL-111"], also=NAMELESS_AGAIN)
def anonymous_calls_need_nothing_before_them():
    """An anonymous call is left out wherever it was made before."""

    @replaces(Replays, "dropped")
    def _(original, self, block):
        self._led = True
        return original(self, block)


@hosted(violates=["CALL-111"])
def anonymous_calls_are_said_again_for_ever():
    """An anonymous call that was made once is left out as often as it is said again."""

    @replaces(Replays, "dropped")
    def _(original, self, block):
        made = list(self._anonymous)
        dropped = original(self, block)
        if dropped and block.id is None:
            self._anonymous = made
            self._led = True
        return dropped


@hosted(violates=["CALL-113", "CALL-110"], also=LED)
def calls_said_again_are_emitted():
    """A call that is said again is told of, and then made all the same."""

    @replaces(Replays, "dropped")
    def _(original, self, block):
        dropped = original(self, block)
        return dropped and not isinstance(block, Call)


# --- what is told, and counted -----------------------------------------------------------------------------------


@hosted(violates=["SES-018", "WIRE-003"])
def masks_are_passed_over():
    """Constraints that cannot be kept are asked for in vain."""
    puts(hosted_preparation, "_check_declared", lambda start: None)


@hosted(violates=["SES-019", "WIRE-014"])
def masks_are_promised():
    """Started tells of constraints that are not there."""

    @sends("started")
    def _(body):
        body.constraints = types_pb2.CONSTRAINTS_STATIC


@hosted(
    violates=["WIRE-076", "WIRE-070", "WIRE-072"],
    also={
        "blocks/unterminated-call errors/truncated-at-the-end golden/one-pass": "a step more is taken than was granted"
    },
)
def the_end_costs_nothing():
    """The end of an answer takes no credit."""

    @replaces(Session, "_token")
    def _(original, self, event):
        if event.ends and self._core.credit is not None:
            self._core.credit += 1
        return original(self, event)


@hosted(violates=["WIRE-076", "WIRE-051", "WIRE-072", "SES-095", "SCR-004"])
def the_end_is_not_told():
    """The end of an answer is told by no Tokens."""

    @reports(Tokens)
    def _(report):
        return () if report.end_of_sequence else (report,)


@hosted(violates=["SES-116"])
def no_bill_is_given():
    """Finished does not tell what the session cost."""
    puts(HostedCarrier, "_billed", lambda self, running, effect: effect)


@hosted(violates=["SES-116"])
def the_bill_counts_no_requests():
    """Finished does not tell how many requests were sent."""

    @replaces(ChatSession, "cost")
    def _(original, self):
        return dataclasses.replace(original(self), requests=0)
