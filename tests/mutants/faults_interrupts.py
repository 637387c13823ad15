"""Faults of interrupts: safe points, checks, order, scheduling, holding back."""

from __future__ import annotations

import dataclasses
import json

from tests.mutants.mutant import mutant, puts, replaces, reports

from asynclm.cml.control import Status
from asynclm.session import desk, inbound
from asynclm.session.calls import CallRecord
from asynclm.session.commit import Committer
from asynclm.session.core import Core
from asynclm.session.effects import InterruptAccepted, InterruptCommitted, InterruptRejected
from asynclm.session.events import InterruptReceived
from asynclm.session.hold import Hold
from asynclm.session.inbound import Inbound
from asynclm.session.machine import Session
from asynclm.session.queue import Accepted, InterruptQueue
from asynclm.session.state import RejectReason, Scheduling, State
from asynclm.session.stream import Stream

# --- safe points -------------------------------------------------------------------------------------------------


@mutant(violates=["INT-004", "INT-001", "SES-020"])
def injects_inside_blocks():
    """What is queued is committed inside blocks, too."""

    @replaces(Committer, "safe_point")
    def _(original, self):
        if self._core.cell.state in (State.IN_CALL, State.IN_TRAP) and len(self._core.queue):
            self._commit(self._core.queue.batch())
        else:
            original(self)


@mutant(violates=["INT-004", "INT-001", "SES-020", "INT-050"])
def injects_within_a_character():
    """What is queued is committed between the bytes of one character."""

    @replaces(Committer, "safe_point")
    def _(original, self):
        if self._core.cell.state is State.IN_TEXT_SEQUENCE and len(self._core.queue):
            self._commit(self._core.queue.batch())
        else:
            original(self)


@mutant(
    violates=["INT-005", "INT-001", "SES-020"],
    also={"*": "an interrupt is committed before they grant the credit for it"},
)
def commits_without_a_step():
    """An interrupt is committed as soon as it is accepted, with or without credit."""

    @replaces(Session, "receive")
    def _(original, self, event):
        effects = original(self, event)
        if isinstance(event, InterruptReceived) and self.state is State.DECODING and not self.can_step:
            self._committer.safe_point()
            effects += self._core.out.take()
        return effects


@mutant(violates=["INT-002", "INT-040", "TRAP-021"])
def commits_one_at_a_time():
    """A safe point commits one interrupt and leaves the rest."""

    @replaces(InterruptQueue, "batch")
    def _(original, self):
        return original(self)[:1]


# --- checks ------------------------------------------------------------------------------------------------------


@mutant(violates=["INT-012", "INT-011", "SEC-007"])
def clients_speak_as_runtime():
    """A client may send @runtime interrupts."""

    @replaces(Inbound, "_refuse_speaker")
    def _(original, self, event, source):
        return None if source == "@runtime" else original(self, event, source)


@mutant(violates=["INT-012", "INT-011", "INT-022", "SEC-007"])
def clients_decide_time_outs():
    """A client may end its call with the status timeout or cancelled."""
    puts(inbound, "_ENGINES_OWN", ())


@mutant(violates=["INT-013", "INT-022", "INT-026"])
def progress_of_any_shape():
    """The payload of progress may be any JSON."""

    @replaces(inbound, "json_fault")
    def _(original, status, payload):
        return original(Status.OK if status is Status.PROGRESS else status, payload)


@mutant(violates=["INT-013"])
def errors_of_any_shape():
    """The payload of an error may be any JSON."""

    @replaces(inbound, "json_fault")
    def _(original, status, payload):
        return original(Status.OK if status is Status.ERROR else status, payload)


@mutant(violates=["INT-014", "INT-043", "WIRE-058", "CML-038", "INT-021", "ERR-027", "CALL-032", "INT-045"])
def payloads_are_written_anew():
    """A JSON payload is parsed and written again."""

    @replaces(Inbound, "_receive_result")
    def _(original, self, event):
        try:
            payload = json.dumps(json.loads(event.payload))
        except (ValueError, RecursionError):
            payload = event.payload
        original(self, dataclasses.replace(event, payload=payload))


@mutant(violates=["INT-015", "INT-022", "BIND-020", "CML-038"])
def empty_messages_are_refused():
    """An empty message of the user is rejected."""

    @replaces(Inbound, "_refuse_speaker")
    def _(original, self, event, source):
        empty = (RejectReason.BAD_PAYLOAD, "payload: empty")
        return original(self, event, source) or (None if event.payload else empty)


@mutant(violates=["INT-016"], also={"*": "what @runtime says names the call"})
def runtime_names_no_call():
    """What @runtime says of a call does not name it by its index."""

    @replaces(desk, "error_payload")
    def _(original, *args, call=None, **kwargs):
        return original(*args, **kwargs)


@mutant(violates=["INT-018"])
def every_error_is_retryable():
    """Errors that the engine makes always say that the call can be made again."""

    @replaces(desk, "error_payload")
    def _(original, *args, retryable=False, **kwargs):
        return original(*args, retryable=True, **kwargs)


# --- acceptance --------------------------------------------------------------------------------------------------


@mutant(violates=["INT-020"], also={"client-events/a-gap errors/faults-are-statuses": "they wait for an acceptance"})
def acceptance_is_not_told():
    """InterruptAccepted is not sent for what a client says by a source."""

    @reports(InterruptAccepted)
    def _(report):
        return () if report.source.startswith("@") and report.client_seq else (report,)


@mutant(violates=["INT-021", "ERR-033"])
def rejected_payloads_are_kept():
    """A rejected interrupt is handed back without its payload."""

    @reports(InterruptRejected)
    def _(report):
        return (dataclasses.replace(report, payload=""),)


@mutant(violates=["INT-022"])
def payload_is_judged_before_its_size():
    """BAD_PAYLOAD is told where TOO_LARGE comes first."""

    @replaces(Inbound, "_refuse_payload")
    def _(original, self, event, status):
        fault = inbound.json_fault(status, event.payload)
        return (RejectReason.BAD_PAYLOAD, fault) if fault is not None else original(self, event, status)


@mutant(violates=["INT-022"])
def status_is_judged_before_the_call():
    """BAD_STATUS is told where ALREADY_RESOLVED or NOT_DISPATCHED comes first."""

    @replaces(Inbound, "_refuse_host")
    def _(original, self, event, call, status):
        if call is not None and event.from_client and status in inbound._ENGINES_OWN:
            return RejectReason.BAD_STATUS, f"status {status.value}: only the engine decides it"
        return original(self, event, call, status)


@mutant(violates=["INT-024", "LIM-008"])
def full_queue_refuses_results():
    """A terminal result is rejected for lack of room."""

    @replaces(Inbound, "_refuse_payload")
    def _(original, self, event, status):
        return original(self, event, status) or self._queue_full()


@mutant(violates=["INT-025"])
def numbers_begin_at_one():
    """Accepted interrupts are numbered from 1."""

    @reports(InterruptAccepted)
    def _(report):
        return (dataclasses.replace(report, number=report.number + 1),)


# --- scheduling --------------------------------------------------------------------------------------------------


@mutant(violates=["INT-030", "CALL-031"])
def partials_are_immediate():
    """Where no scheduling is named, partial and progress are IMMEDIATE."""

    @replaces(Inbound, "receive")
    def _(original, self, event):
        original(self, dataclasses.replace(event, scheduling=event.scheduling or Scheduling.IMMEDIATE))


@mutant(violates=["INT-031", "INT-040"])
def when_idle_is_immediate():
    """WHEN_IDLE interrupts are committed at the next safe point."""

    @replaces(InterruptQueue, "add")
    def _(original, self, *args, released, **kwargs):
        return original(self, *args, released=True, **kwargs)


@mutant(violates=["INT-031", "TRAP-003", "SES-103", "SES-014", "TRAP-013", "INT-002", "SES-088"])
def when_idle_never_comes():
    """A trap or end of sequence does not let WHEN_IDLE interrupts go."""

    @replaces(InterruptQueue, "release")
    def _(original, self):
        return None


@mutant(
    violates=["INT-032", "SES-043", "SES-048", "TRAP-014", "TRAP-015", "TRAP-010"],
    also={
        "delivery/silence-waits": "what waits is silent",
        "probes/while-idle": "the session is idle with a SILENT result",
    },
)
def silent_wakes():
    """A SILENT interrupt ends traps, DRAINING and IDLE."""
    puts(Accepted, "wakes", property(lambda self: True))


@mutant(violates=["INT-033", "SES-043", "TRAP-013", "TRAP-014", "INT-030", "WIRE-080"])
def silent_results_resolve_late():
    """A SILENT result resolves its call when it is committed, not when it is accepted."""
    resolved = CallRecord.resolved.fget

    def late(self):
        interrupt = self.interrupt
        waits = interrupt is not None and interrupt.token_index is None and interrupt.reason is None
        return resolved(self) and not (waits and interrupt.scheduling is Scheduling.SILENT)

    puts(CallRecord, "resolved", property(late))


# --- order and batches -------------------------------------------------------------------------------------------


@mutant(violates=["INT-040", "INT-041"])
def batches_are_reversed():
    """A batch is committed last come, first served."""

    @replaces(InterruptQueue, "batch")
    def _(original, self):
        return original(self)[::-1]


@mutant(violates=["INT-041"])
def updates_come_when_they_came():
    """Partial and progress are not drawn to the result of their call."""

    @replaces(InterruptQueue, "batch")
    def _(original, self):
        return [i for i in self._queued.values() if i.scheduling is not Scheduling.WHEN_IDLE or i.released]


@mutant(violates=["INT-042"])
def batches_fit_whole_or_not_at_all():
    """Of a batch that does not fit the context nothing is committed."""

    @replaces(Committer, "_commit")
    def _(original, self, batch):
        core = self._core
        size = sum(len(core.codec.frame(i.source, i.status, i.payload)) for i in batch)
        if core.context_used + size > core.config.limits.context_length:
            return False
        return original(self, batch)


@mutant(violates=["INT-043", "WIRE-051"])
def commits_are_told_one_off():
    """InterruptCommitted has the token index after its [INTR]."""

    @reports(InterruptCommitted)
    def _(report):
        return (dataclasses.replace(report, token_index=report.token_index + 1),)


@mutant(violates=["INT-044", "INT-040", "INT-045", "WIRE-080", "INT-020"])
def messages_are_delivered_twice():
    """A message is committed at two safe points."""

    @replaces(InterruptQueue, "commit")
    def _(original, self, interrupt, token_index):
        first, payload = interrupt.token_index is None, interrupt.payload
        original(self, interrupt, token_index)
        if first and interrupt.call_index is None:
            interrupt.payload = payload
            self._queued[interrupt.number] = interrupt


@mutant(violates=["INT-046", "SES-076", "SES-077", "SES-088"])
def injected_tokens_count_against_length():
    """Injected tokens count against max_new_tokens."""
    spent = Stream._spent.fget

    def counted(self):
        self._core.sampled += self._core.injected
        try:
            return spent(self)
        finally:
            self._core.sampled -= self._core.injected

    puts(Stream, "_spent", property(counted))


@mutant(violates=["INT-046", "WIRE-070"], also={"*": "credit runs out early behind an interrupt"})
def injected_tokens_cost_credit():
    """Each injected token costs one credit."""

    @replaces(Committer, "_commit")
    def _(original, self, batch):
        core, before = self._core, self._core.injected
        fits = original(self, batch)
        if core.credit is not None:
            core.credit = max(0, core.credit - (core.injected - before))
        return fits


# --- holding back ------------------------------------------------------------------------------------------------


@mutant(violates=["INT-050", "INT-051", "INT-052", "INT-057"])
def granularity_is_passed_over():
    """Interrupts are committed anywhere in text."""

    @replaces(Hold, "holds")
    def _(original, self, batch, *, waited):
        self._boundary = True
        return original(self, batch, waited=waited)


@mutant(violates=["INT-051", "INT-050"])
def sentences_end_at_words():
    """With SENTENCE, the end of a word is enough."""

    @replaces(Hold, "holds")
    def _(original, self, batch, *, waited):
        self._boundary = self._boundary or not self._last.isalnum()
        return original(self, batch, waited=waited)


@mutant(violates=["INT-052"])
def granularity_holds_for_ever():
    """granularity_hold is not looked at."""

    @replaces(Core, "__init__")
    def _(original, self, config, codec, now_ms):
        original(self, dataclasses.replace(config, granularity_hold=1 << 40), codec, now_ms)


@mutant(
    violates=["INT-053", "INT-056", "INT-058", "INT-059", "WIRE-081", "SCR-021", "SES-097"],
    also={"delivery/people-end-the-window": "a window is open"},
)
def coalesce_is_passed_over():
    """Results are not gathered."""

    @replaces(Hold, "result_accepted")
    def _(original, self):
        return None


@mutant(violates=["INT-053"])
def each_result_opens_the_window_anew():
    """The window runs from the last result, not from the first."""

    @replaces(Hold, "result_accepted")
    def _(original, self):
        if self._window is not None:
            self._core.timers.cancel(self._window)
            self._window = None
        original(self)


@mutant(violates=["INT-060", "INT-061"])
def lazy_is_passed_over():
    """With LAZY, results are committed at the next safe point."""

    @replaces(Hold, "__init__")
    def _(original, self, core):
        original(self, core)
        self._lazy = False


@mutant(violates=["INT-061"])
def people_wait_with_results():
    """A message waits for the window, and under LAZY for a trap."""
    InterruptQueue.speaks_now = property(lambda self: False)


@mutant(violates=["INT-056", "INT-059", "SCR-021", "INT-060"])
def decodes_while_it_gathers():
    """Decoding goes on behind a trap while the window is open."""
    Core.awaiting_commit = property(lambda self: False, lambda self, value: None)
