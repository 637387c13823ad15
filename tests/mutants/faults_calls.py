"""Faults of calls: identity, checks, dispatch, references, results, cancelling, declarations."""

from __future__ import annotations

import dataclasses
import json

from tests.mutants.mutant import mutant, puts, replaces, reports

from asynclm.cml import toolspec
from asynclm.cml.control import Status
from asynclm.cml.parser import BlockParser
from asynclm.server import preparation
from asynclm.session import arguments, cancelling, desk, references
from asynclm.session.calls import CallRegistry
from asynclm.session.cancelling import Cancelling
from asynclm.session.commit import Committer
from asynclm.session.config import ExecutionMode
from asynclm.session.copying import Copying
from asynclm.session.desk import CallDesk
from asynclm.session.effects import CallCancelRequested, CallDispatched, CallEmitted, CancelAnswered
from asynclm.session.inbound import Inbound
from asynclm.session.state import CancelOutcome, ErrorType, RejectReason
from asynclm.session.timers import TimerKind
from asynclm.session.transitions import CallState
from asynclm.session.waits import Waits
from asynclm.wire import start, tools

# --- identity ----------------------------------------------------------------------------------------------------


@mutant(violates=["CALL-001"])
def malformed_blocks_take_no_index():
    """A malformed call block shares the index of the call after it."""
    reported = []

    @reports(CallEmitted)
    def _(report):
        reported.append(report)
        return (dataclasses.replace(report, index=max(0, report.index - 1)),) if not report.function else (report,)


@mutant(violates=["CALL-002", "CML-066", "CALL-023", "ERR-020"], also={"*": "a malformed call is told of by its id"})
def ids_of_malformed_blocks_are_lost():
    """The id of a malformed call block is not read."""
    puts(BlockParser, "open_id", property(lambda self: None))


@mutant(
    violates=["CALL-003", "CALL-004", "INT-022", "CALL-051", "CALL-070"],
    also={"*": "a call that settled is not found by its id any more"},
)
def settled_ids_are_free_again():
    """The id of a settled call can be used again."""

    @replaces(CallRegistry, "close")
    def _(original, self, record):
        original(self, record)
        self._by_id.pop(record.id, None)


@mutant(violates=["CALL-004", "CALL-003", "ERR-024"])
def duplicates_replace_the_first_call():
    """A call whose id is taken is run, and has the id from then on."""

    @replaces(CallDesk, "emit")
    def _(original, self, block):
        self._core.calls._by_id.pop(block.id, None)
        return original(self, block)


@mutant(violates=["CALL-006"])
def malformed_blocks_are_not_emitted():
    """CallEmitted is not sent for blocks that are malformed."""

    @reports(CallEmitted)
    def _(report):
        return (report,) if report.function else ()


@mutant(violates=["CALL-006"])
def references_are_not_told():
    """CallEmitted does not name the references."""

    @reports(CallEmitted)
    def _(report):
        return (dataclasses.replace(report, references=()),)


# --- dispatch ----------------------------------------------------------------------------------------------------


@mutant(violates=["CALL-010", "CALL-016", "SEC-021"], also={"*": "a call is dispatched later than they look"})
def dispatches_at_the_trap():
    """A call is dispatched when decoding stops, at a trap or end of sequence."""

    class Renamed:
        SYNC_PARALLEL = ExecutionMode.ASYNC

    puts(desk, "ExecutionMode", Renamed)  # the mode in which a call is not released at its [END]

    @replaces(Waits, "enter")
    def _(original, self, trap, *, implicit):
        self._desk.release()
        original(self, trap, implicit=implicit)

    @replaces(Waits, "end")
    def _(end, self, *args, **kwargs):
        self._desk.release()
        end(self, *args, **kwargs)


@mutant(violates=["CALL-011"], also={"*": "a held call is dispatched later than they look"})
def held_calls_wait_for_the_next_call():
    """A held call is dispatched when the next block closes, not when its last reference resolves."""

    @replaces(CallDesk, "pump")
    def _(original, self):
        return None

    @replaces(CallDesk, "emit")
    def _(emit, self, block):
        for call in self._core.calls.held:
            self._advance(call)
        return emit(self, block)


@mutant(violates=["SEC-022", "CALL-010"])
def dispatches_twice():
    """CallDispatched is sent twice."""

    @reports(CallDispatched)
    def _(report):
        return report, report


@mutant(violates=["CALL-012"])
def arguments_are_a_list():
    """CallDispatched has the values of the arguments without their names."""

    @reports(CallDispatched)
    def _(report):
        return (dataclasses.replace(report, arguments=json.dumps(list(json.loads(report.arguments).values()))),)


@mutant(violates=["CALL-014"])
def time_out_runs_from_emission():
    """A call's time-out runs from CallEmitted."""

    @replaces(CallDesk, "_dispatch")
    def _(original, self, call, final):
        original(self, call, final)
        if call.timer is not None:
            due = call.timer.due_ms - self._core.now_ms + call._emitted_ms
            self._core.timers.cancel(call.timer)
            call.timer = self._core.timers.start(TimerKind.CALL, max(due, self._core.now_ms), call.index)


@mutant(violates=["CALL-014", "CALL-092"])
def tools_time_outs_are_passed_over():
    """Every call has max_call_time_ms, whatever its tool declares."""

    @replaces(CallDesk, "_dispatch")
    def _(original, self, call, final):
        call.tool = dataclasses.replace(call.tool, timeout_ms=None)
        original(self, call, final)


@mutant(violates=["CALL-014"])
def time_outs_have_no_bound():
    """A tool's time-out may be longer than max_call_time_ms."""
    desk.min = max


# --- validation --------------------------------------------------------------------------------------------------


@mutant(violates=["CALL-020"])
def references_are_judged_before_limits():
    """A call over a limit that also has a bad reference fails as dependency."""
    over_limit, bad_reference = CallDesk._over_limit, CallDesk._bad_reference
    puts(CallDesk, "_over_limit", bad_reference)
    puts(CallDesk, "_bad_reference", over_limit)


@mutant(
    violates=["CALL-021", "ERR-030", "CALL-095", "CALL-023", "CALL-093"],
    also={
        "anonymous/failure-told-by-runtime forgery/in-engine-errors": "the error is one of the arguments",
        "validation/message-names-the-argument validation/every-error-goes-on": "one error is one of the arguments",
    },
)
def arguments_are_not_checked():
    """A call is dispatched whatever its tool's schema says of the arguments."""
    puts(arguments, "violation", lambda tool, text: None)


@mutant(violates=["CALL-021", "CALL-101", "CALL-102"])
def substituted_arguments_are_not_checked():
    """Arguments with references in them are not held against the schema."""

    @replaces(CallDesk, "_unfit")
    def _(original, self, call, final):
        return None if call.values else original(self, call, final)


@mutant(violates=["SEC-020", "CALL-020", "ERR-029"])
def functions_are_found_in_any_case():
    """A function is found by its name in capital letters, too."""

    class Loose(dict):
        def get(self, key, default=None):
            return super().get(key) or super().get(key.lower(), default)

    @replaces(CallDesk, "__init__")
    def _(original, self, core, hold):
        original(self, core, hold)
        self._tools = Loose(self._tools)


@mutant(violates=["CALL-024", "LIM-001"])
def any_number_of_calls_is_pending():
    """max_pending_calls is not looked at."""

    @replaces(CallDesk, "_over_limit")
    def _(original, self, call, invocation):
        fault = original(self, call, invocation)
        return None if fault is not None and "pending" in fault[1] else fault


@mutant(violates=["CALL-025"])
def arguments_of_any_size():
    """max_argument_bytes is not looked at for literals."""
    puts(arguments, "literal_bytes", lambda invocation: 0)


@mutant(violates=["CALL-060", "ERR-020"], also={"*": "the session is over after a call that failed a check"})
def a_bad_call_ends_the_session():
    """A call that failed a check ends the session."""

    @replaces(CallDesk, "fail")
    def _(original, self, call, kind, message, *, claimed=None):
        raise RuntimeError(message)


@mutant(violates=["CALL-061", "CALL-023", "CALL-041", "SES-091"])
def failures_of_named_calls_are_told_by_runtime():
    """A named call that failed a check is told of by @runtime, and settles at once."""

    @replaces(CallDesk, "fail")
    def _(original, self, call, kind, message, *, claimed=None):
        if call.id is None:
            original(self, call, kind, message, claimed=claimed)
            return
        payload = desk.error_payload(kind, message, call_id=call.id, call=call.index)
        call.resolve(Status.ERROR, payload, self._core.now_ms)
        self._core.accept("@runtime", Status.ERROR, payload)
        self._settle_unawaited(call)


# --- references --------------------------------------------------------------------------------------------------


@mutant(violates=["CALL-030"], also={"validation/every-error-goes-on": "a reference to itself is one of the errors"})
def a_call_may_wait_for_itself():
    """A reference to the call's own id is held, not failed."""

    @replaces(CallDesk, "_bad_reference")
    def _(original, self, call, invocation):
        if call.id is not None and any(reference.id == call.id for reference in invocation.references):
            return None
        return original(self, call, invocation)


@mutant(
    violates=["CALL-031", "CML-028"],
    also={
        "references/after-settlement references/step-selects-nothing": "a reference has an index",
        "references/value-over-the-limit": "a reference has an index",
    },
)
def indexes_count_from_one():
    """In a reference, [1] selects the first element."""

    @replaces(references, "select")
    def _(original, payload, path):
        return original(payload, tuple(step - 1 if isinstance(step, int) else step for step in path))


@mutant(violates=["CALL-032"])
def substituted_values_are_written_anew():
    """The value of a reference is parsed and written again."""

    @replaces(references, "select")
    def _(original, payload, path):
        return json.dumps(json.loads(original(payload, path)))


@mutant(violates=["CALL-034", "ERR-025", "CALL-011", "CALL-084", "TRAP-004"])
def failed_references_are_null():
    """A call whose reference failed is dispatched with null in its place."""

    @replaces(CallDesk, "_substitute")
    def _(original, self, call, reference, source):
        if original(self, call, reference, source) is not None:
            call.values[reference] = "null"
        return


@mutant(violates=["CALL-035", "CALL-011"])
def references_take_partial_results():
    """A partial result resolves references."""

    @replaces(Inbound, "_receive_result")
    def _(original, self, event):
        original(self, event)
        call = self._find(event)
        if event.status is Status.PARTIAL and call is not None and call.state is CallState.DISPATCHED:
            cell = call._cell
            call.status, call.payload, cell.state = Status.OK, event.payload, CallState.RESOLVED
            self._desk.pump()
            call.status, call.payload, cell.state = None, "", CallState.DISPATCHED


@mutant(violates=["CALL-036", "CALL-011"], also={"*": "a held call is dispatched later than they look"})
def references_wait_for_the_commit():
    """A reference resolves when the result is in the context, not when it is accepted."""

    @replaces(CallDesk, "_advance")
    def _(original, self, call):
        sources = [self._core.calls.by_id(reference.id) for reference in call.invocation.references]
        if all(source.interrupt is None or source.interrupt.token_index is not None for source in sources):
            original(self, call)

    @replaces(Committer, "_enter")
    def _(enter, self, interrupt, ids, index):
        told = enter(self, interrupt, ids, index)
        self._waits._desk.pump()
        return told


# --- anonymous calls ---------------------------------------------------------------------------------------------


@mutant(violates=["CALL-041", "SES-092", "CALL-042"], also={"*": "an anonymous call settles when it is dispatched"})
def anonymous_calls_settle_at_the_end():
    """An anonymous call settles when the session ends."""

    @replaces(CallDesk, "_settle_unawaited")
    def _(original, self, call):
        if call.dispatched_ms is None:
            original(self, call)


@mutant(violates=["CALL-042", "CALL-044", "CALL-045", "INT-022", "INT-023", "INT-027"])
def anonymous_results_are_injected():
    """What comes back from an anonymous call is injected."""

    @replaces(Inbound, "_take_unawaited")
    def _(original, self, event, call, status):
        self._core.accept("@runtime", status, event.payload, client_seq=event.client_seq)

    @replaces(Inbound, "_refuse_host")
    def _(original, self, event, call, status):
        if call is not None and call.id is None and call.dispatched_ms is not None:
            return None
        return original(self, event, call, status)


@mutant(violates=["CALL-046", "INT-023"])
def refused_results_end_time_outs():
    """What a client sends for an anonymous call is refused, and ends its time-out all the same."""

    @replaces(Inbound, "_reject")
    def _(original, self, event, reason, message):
        original(self, event, reason, message)
        call = self._find(event)
        if call is not None and call.id is None and call.timer is not None:
            self._desk.stop_timer(call)


@mutant(violates=["CALL-044", "INT-022"])
def anonymous_results_are_refused_for_other_reasons():
    """What a client sends for an anonymous call is judged as if somebody waited for it."""

    @replaces(Inbound, "_refuse_host")
    def _(original, self, event, call, status):
        refusal = original(self, event, call, status)
        if refusal is not None and call is not None and call.id is None:
            if call.dispatched_ms is None:
                return RejectReason.NOT_DISPATCHED, "held"
            if status in (Status.CANCELLED, Status.TIMEOUT):
                return RejectReason.BAD_STATUS, "only the engine decides it"
        return refusal


@mutant(violates=["CALL-043", "CML-067"], also={"*": "an anonymous call that failed a check is told of by @runtime"})
def anonymous_failures_are_silent():
    """Nothing tells of an anonymous call that failed a check."""

    @replaces(CallDesk, "fail")
    def _(original, self, call, kind, message, *, claimed=None):
        if call.id is not None:
            original(self, call, kind, message, claimed=claimed)
            return
        call.resolve(Status.ERROR, "{}", self._core.now_ms)
        self._settle_unawaited(call)


# --- results -----------------------------------------------------------------------------------------------------


@mutant(violates=["CALL-050", "SEC-007", "INT-022", "CALL-064"])
def clients_answer_for_the_server():
    """A client may send the result of a call that the server runs."""

    @replaces(Inbound, "_refuse_host")
    def _(original, self, event, call, status):
        if call is not None and not call.client_owned:
            event = dataclasses.replace(event, from_client=False)
        return original(self, event, call, status)


@mutant(violates=["CALL-051", "ERR-033"])
def second_results_are_taken():
    """A second terminal result is accepted and injected."""

    @replaces(Inbound, "_receive_result")
    def _(original, self, event):
        call = self._find(event)
        if call is not None and call.id is not None and call.client_owned and call.resolved:
            self._core.accept(call.id, event.status or Status.OK, event.payload, client_seq=event.client_seq)
        else:
            original(self, event)


@mutant(violates=["CALL-053", "ERR-032"])
def too_large_a_result_leaves_the_call_open():
    """A result that is too large is refused, and its call goes on waiting."""

    @replaces(Inbound, "_fail_unusable")
    def _(original, self, *args):
        return None


@mutant(violates=["CALL-054"])
def hosts_are_not_told_of_time_outs():
    """No CallCancelRequested is sent when a call's time is over."""

    @reports(CallCancelRequested)
    def _(report):
        return () if report.origin.value == "deadline" else (report,)


@mutant(violates=["CALL-054", "ERR-038", "CALL-014"], also={"*": "a call ends by its time-out"})
def time_outs_end_nothing():
    """When a call's time is over its host is told, and the call goes on waiting."""

    @replaces(CallDesk, "time_out")
    def _(original, self, call):
        call.timer = None


# --- cancelling --------------------------------------------------------------------------------------------------


@mutant(violates=["CALL-070", "INT-020", "CALL-071"])
def cancels_are_not_answered():
    """A cancel of a call that is not there has no CancelOutcome."""

    @reports(CancelAnswered)
    def _(report):
        return () if report.outcome is CancelOutcome.NOT_FOUND else (report,)


@mutant(violates=["CALL-071", "ERR-028"])
def unknown_calls_are_too_late():
    """The cancel of a call that is not there is answered with TOO_LATE."""

    @reports(CancelAnswered)
    def _(report):
        late = report.outcome is CancelOutcome.NOT_FOUND
        return (dataclasses.replace(report, outcome=CancelOutcome.TOO_LATE if late else report.outcome),)


@mutant(violates=["CALL-072", "CALL-073"])
def too_late_is_cancelled():
    """The cancel of a resolved call is answered with CANCELLED."""

    @replaces(Cancelling, "_cancel")
    def _(original, self, call, origin):
        outcome = original(self, call, origin)
        return CancelOutcome.CANCELLED if outcome is CancelOutcome.TOO_LATE else outcome


@mutant(violates=["CALL-073"])
def cancelled_held_calls_stay():
    """The cancel of a held call is answered, and the call stays held."""

    @replaces(Cancelling, "_cancel")
    def _(original, self, call, origin):
        return CancelOutcome.CANCELLED if call.state is CallState.HELD else original(self, call, origin)


@mutant(violates=["CALL-074", "CALL-076", "CALL-079", "SES-046", "SES-072", "SEC-024"])
def everything_can_be_cancelled():
    """A call is cancelled although its tool cannot be."""

    @replaces(CallDesk, "emit")
    def _(original, self, block):
        call = original(self, block)
        if call.tool is not None:
            call.tool = dataclasses.replace(call.tool, cancellable=True)
        return call


@mutant(violates=["CALL-075", "CALL-051"])
def results_after_a_cancel_are_taken():
    """A result that comes after CANCELLED is accepted as a message."""

    @replaces(Inbound, "_receive_result")
    def _(original, self, event):
        call = self._find(event)
        if call is not None and call.status is Status.CANCELLED and event.from_client and call.id is not None:
            self._core.accept(call.id, Status.OK, event.payload, client_seq=event.client_seq)
        else:
            original(self, event)


@mutant(violates=["CALL-076", "SEC-024"])
def outcomes_forget_the_flags():
    """CancelOutcome does not say what the tool declares."""

    @reports(CancelAnswered)
    def _(report):
        return (dataclasses.replace(report, side_effects="", idempotent=False),)


@mutant(
    violates=["CALL-079"],
    also={"cancelling/itself security/sessions-are-apart": "the outcome of `cml.cancel` is how they see it"},
)
def outcomes_are_told_in_capitals():
    """cml.cancel tells its outcome in upper case."""

    @replaces(CallDesk, "answer_builtin")
    def _(original, self, call, payload):
        told = json.loads(payload)
        original(self, call, json.dumps(told | {"outcome": told["outcome"].upper()}))


@mutant(violates=["CALL-082"])
def cancel_takes_references():
    """cml.cancel with an argument of a wrong shape is an unknown call, not a failed one."""

    @replaces(Cancelling, "run_builtin")
    def _(original, self, call):
        values = {argument.name: argument.value for argument in call.invocation.arguments}
        value = values.get("id")
        if isinstance(value, cancelling.Literal) and isinstance(json.loads(value.json), str) and len(values) == 1:
            original(self, call)
            return
        payload = json.dumps({"id": "", "outcome": "not_found"})
        self._desk.answer_builtin(call, payload)


# --- declarations ------------------------------------------------------------------------------------------------


@mutant(violates=["CALL-090"])
def last_tool_of_a_name_wins():
    """Two tools of one name are taken; the last one counts."""

    @replaces(start, "tools_from_pb")
    def _(original, items, field="tools"):
        found = {item.name: item for item in items}
        return original(found.values(), field)


@mutant(violates=["CALL-091", "CALL-093", "CALL-100"])
def any_schema_is_taken():
    """A tool's parameters are not checked for being a JSON schema."""

    @replaces(tools, "_schema")
    def _(original, text, field):
        try:
            schema = json.loads(text)
            toolspec.ToolSpec(name="x", parameters=schema)
        except (ValueError, TypeError, AttributeError):
            return {"type": "object"}
        return original(text, field)


@mutant(violates=["CALL-102"])
def copied_arguments_are_not_checked():
    """An argument that has to be copied may be anything."""

    @replaces(Copying, "violation")
    def _(original, self, tool, text, carried):
        return None


@mutant(violates=["CALL-039"])
def held_calls_are_checked_late():
    """With SYNC_PARALLEL, what references are filled in with is checked when the call is let go."""

    @replaces(CallDesk, "_unfit_filled_in")
    def _(original, self, call, final):
        return original(self, call, final) if call.released else None

    @replaces(CallDesk, "release")
    def _(original, self, *, named=True):
        for call in self._core.calls.held:
            call.final = None
        original(self, named=named)


@mutant(violates=["CALL-105"])
def what_cannot_be_copied_may_be_copied():
    """A prompt in ids is taken beside a tool that copies from the request."""
    puts(preparation, "_check_copies", lambda start, tools: None)


@mutant(violates=["CALL-034", "CALL-037", "ERR-025", "CALL-025", "TRAP-004"])
def dependents_of_failed_calls_are_refused_late():
    """A call that waits for a failed one is told of as cancelled."""

    @replaces(CallDesk, "fail")
    def _(original, self, call, kind, message, *, claimed=None):
        known = call.invocation is not None and all(
            self._core.calls.by_id(reference.id) not in (None, call) for reference in call.invocation.references
        )
        if kind is ErrorType.DEPENDENCY and call.id is not None and known:
            self.withdraw(call, message)
        else:
            original(self, call, kind, message, claimed=claimed)


@mutant(violates=["CALL-044", "INT-022", "INT-027"])
def anonymous_results_are_unknown():
    """A result for an anonymous call is rejected with UNKNOWN_ID."""

    @replaces(Inbound, "_reject")
    def _(original, self, event, reason, message):
        call = self._find(event)
        anonymous = call is not None and call.id is None
        original(self, event, RejectReason.UNKNOWN_ID if anonymous else reason, message)
