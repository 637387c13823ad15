"""Faults of the wire: numbers, envelopes, credit, probes, starts, ends, control, taking up again."""

from __future__ import annotations

import dataclasses

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection
from tests.mutants.mutant import answers, mutant, puts, replaces, reports, sends

from asynclm.engine.carrier import Carrier
from asynclm.server import app, control, hub, inference, preparation
from asynclm.server.app import Server
from asynclm.server.attachment import ClientInputs
from asynclm.server.event_stream import EventStream
from asynclm.server.inference import InferenceService
from asynclm.server.registry import Registry
from asynclm.server.streams import Streams
from asynclm.server.token_run import TokenRun
from asynclm.session.commit import Committer
from asynclm.session.effects import CallDispatched, CallEmitted, CallSettled, Finished, InterruptCommitted, Tokens
from asynclm.session.ending import Ending
from asynclm.session.events import CancelRequested
from asynclm.session.machine import Session
from asynclm.session.outbox import Outbox, Phase
from asynclm.session.probes import Probes
from asynclm.session.reader import Reader
from asynclm.session.state import FinishReason, State
from asynclm.v1 import control_pb2, session_pb2
from asynclm.wire import client_events, start
from asynclm.wire.client_events import ResumeAsked
from asynclm.wire.enums import EnumMap
from asynclm.wire.errors import StatusError
from asynclm.wire.start import StartRequest
from asynclm.wire.values import Capability, OnDisconnect

# --- envelopes ---------------------------------------------------------------------------------------------------


@mutant(violates=["WIRE-050"])
def a_number_is_skipped():
    """Events are numbered 1, 2, 3, 5 …"""

    @replaces(inference, "to_server_event")
    def _(original, report, sequence, time_ms, **kwargs):
        return original(report, sequence + (sequence > 3), time_ms, **kwargs)


@mutant(violates=["SES-073"])
def something_comes_after_finished():
    """A notice is sent after Finished."""

    @replaces(inference, "_send_events")
    async def _(original, opened, context):
        await original(opened, context)
        last = opened.record.stream.last_sequence
        index = opened.record.finished.token_index
        time_ms = opened.record.timings.total_ms
        notice = session_pb2.Notice(message="that was it")
        await context.write(
            session_pb2.ServerEvent(sequence=last + 1, token_index=index, time_ms=time_ms, notice=notice)
        )


@mutant(violates=["WIRE-052"])
def the_clock_goes_back():
    """CallSettled has the time 0."""

    @replaces(inference, "to_server_event")
    def _(original, report, sequence, time_ms, **kwargs):
        return original(report, sequence, 0 if isinstance(report, CallSettled) else time_ms, **kwargs)


@mutant(violates=["WIRE-051"])
def token_index_is_one_off():
    """CallEmitted has the token index after the next."""

    @reports(CallEmitted)
    def _(report):
        return (dataclasses.replace(report, token_index=report.token_index + 1),)


@mutant(violates=["WIRE-053", "SES-091", "WIRE-051"])
def settles_before_it_commits():
    """CallSettled comes before its InterruptCommitted."""

    @replaces(Committer, "_enter")
    def _(original, self, interrupt, ids, index):
        return original(self, interrupt, ids, index)[::-1]


@mutant(violates=["WIRE-053", "CALL-010", "WIRE-051"])
def dispatches_before_it_emits():
    """CallDispatched comes before the Tokens and the CallEmitted of its call."""

    @replaces(Outbox, "add")
    def _(original, self, phase, effect):
        original(self, Phase.WOKEN if isinstance(effect, CallDispatched) else phase, effect)


@mutant(violates=["WIRE-054", "WIRE-056", "WIRE-055", "SES-095", "WIRE-070", "WIRE-072"])
def injected_tokens_are_sent_as_sampled():
    """The ids of an interrupt are sent as Tokens, too."""

    @reports(InterruptCommitted)
    def _(report):
        return Tokens(token_index=report.token_index, ids=report.ids, text=""), report


@mutant(violates=["WIRE-055"])
def tokens_run_over_control_tokens():
    """Tokens are joined over control tokens."""

    @replaces(TokenRun, "add")
    def _(original, self, later, time_ms, size):
        self._open = True
        return original(self, dataclasses.replace(later, in_block=self._last.in_block), time_ms, size)

    @replaces(Carrier, "flush")  # nobody takes one before its neighbour is there
    def _(flush, self, running, *, stepping=False):
        if running.over or not running.machine.can_step or any(type(t.report) is not Tokens for t in running.outbox):
            flush(self, running, stepping=stepping)
        else:
            self._done(running)


@mutant(violates=["WIRE-057"])
def control_words_stand_in_the_text():
    """The text of Tokens has the control words."""

    @reports(Tokens)
    def _(report):
        text = report.text + (report.control.value if report.control is not None else "")
        return (dataclasses.replace(report, text=text),)


@mutant(violates=["WIRE-057", "CML-055", "SCR-004"])
def held_text_is_not_sent():
    """Text that was held back does not come with the token that completes it."""

    @replaces(Reader, "decode")
    def _(original, self, event):
        held = self._decoder.pending
        items = original(self, event)
        return tuple(item for item in items if not isinstance(item, str)) if held else items


# --- client events -----------------------------------------------------------------------------------------------


@mutant(
    violates=["WIRE-033"],
    also={"isolation/a-fault-of-another session-basics/a-fault-stays-at-home": "the fault is a gap"},
)
def gaps_are_passed_over():
    """A gap in client_seq is taken."""

    @replaces(ClientInputs, "is_next")
    def _(original, self, number):
        return True if number > self.last else original(self, number)


@mutant(violates=["WIRE-032"])
def events_are_applied_twice():
    """A client event whose number was the last to be applied is applied again."""

    @replaces(ClientInputs, "is_next")
    def _(original, self, number):
        return True if number == self.last else original(self, number)


@mutant(violates=["WIRE-010", "WIRE-034"])
def second_starts_are_passed_over():
    """A second Start changes nothing."""

    @replaces(InferenceService, "_apply")
    def _(original, self, event, number, opened):
        if not isinstance(event, StartRequest | ResumeAsked):
            original(self, event, number, opened)


@mutant(violates=["WIRE-010"])
def starts_have_any_number():
    """The number of Start is not looked at."""

    @replaces(InferenceService, "_read_first")
    async def _(original, self, requests, kind):
        first = await original(self, requests, kind)
        if kind == "start":
            first.client_seq = 1
        return first


@mutant(violates=["WIRE-038", "WIRE-034"])
def two_names_of_a_call_are_taken():
    """Of source and call_index, the source counts."""

    @replaces(client_events, "_interrupt")
    def _(original, pb):
        if pb.interrupt.HasField("source"):
            pb.interrupt.ClearField("call_index")
        return original(pb)


@mutant(violates=["WIRE-039", "WIRE-034"])
def cancels_of_nothing_are_taken():
    """A cancel that names no call is answered with NOT_FOUND."""

    @replaces(client_events, "_cancel")
    def _(original, pb):
        if pb.cancel_call.WhichOneof("call") is None:
            return CancelRequested(id="", client_seq=pb.client_seq)
        return original(pb)


@mutant(violates=["WIRE-007"])
def unknown_enum_values_are_absent():
    """An unknown enum value counts as absent."""

    @replaces(EnumMap, "given")
    def _(original, self, number, field):
        return original(self, number if number in self._members else 0, field)


# --- credit ------------------------------------------------------------------------------------------------------


@mutant(
    violates=["WIRE-070", "SES-021", "WIRE-036", "TRAP-012"],
    also={
        "empty-traps/queued-word golden/report limits/ended-by-its-length-with-results": "credit ends within a block",
        "masks/unfinished-text-masks-nothing session-basics/states-follow-the-blocks": "credit ends within a block",
        "trap-timeouts/from-its-end": "credit ends within a block",
    },
)
def blocks_need_no_credit():
    """A block that is open is written to its end, with or without credit."""

    @replaces(Session, "_look")
    def _(original, self):
        core = self._core
        credit = core.credit
        if credit is not None and credit <= 0 and core.cell.state in (State.IN_CALL, State.IN_TRAP):
            core.credit = 1
        original(self)
        core.credit = credit


@mutant(violates=["WIRE-072"])
def grants_replace_the_credit():
    """A Grant sets the credit."""

    @replaces(Session, "_grant")
    def _(original, self, event):
        original(self, event)
        if self._core.credit is not None:
            self._core.credit = event.tokens


@mutant(violates=["WIRE-073"])
def grants_on_unlimited_credit_are_passed_over():
    """A Grant on unlimited credit changes nothing."""

    @replaces(Session, "_grant")
    def _(original, self, event):
        if self._core.credit is not None:
            original(self, event)


@mutant(violates=["WIRE-073", "WIRE-070", "WIRE-072", "ERR-001"])
def grants_of_nothing_are_taken():
    """A Grant that is not positive counts as one."""

    @replaces(inference, "client_event_from_pb")
    def _(original, pb):
        if pb.HasField("grant"):
            pb.grant.tokens = max(1, pb.grant.tokens)
        return original(pb)


@mutant(violates=["WIRE-071", "WIRE-014"])
def absent_credit_is_none():
    """Without a word about it, a session has no credit."""

    @replaces(StartRequest, "session_config")
    def _(original, self, **kwargs):
        return original(dataclasses.replace(self, credit=self.credit or 0), **kwargs)


# --- probes ------------------------------------------------------------------------------------------------------


@mutant(violates=["WIRE-081"], also={"*": "what comes before the state at rest is a race then, in any case"})
def probes_do_not_wait_for_the_queue():
    """A probe is answered at once while something is queued, though steps can run."""

    @replaces(Probes, "ask")
    def _(original, self, nonce):
        original(self, nonce)
        if len(self._core.queue):
            self.answer()


@mutant(violates=["WIRE-080"])
def probes_count_nothing():
    """Probed does not tell what is queued."""

    @replaces(Probes, "answer")
    def _(original, self):
        queue = self._core.queue
        self._core.queue = ()
        original(self)
        self._core.queue = queue


@mutant(violates=["WIRE-084", "INT-040"])
def probes_let_when_idle_go():
    """A probe lets WHEN_IDLE interrupts go."""

    @replaces(Probes, "ask")
    def _(original, self, nonce):
        original(self, nonce)
        self._core.queue.release()


@mutant(violates=["WIRE-083"])
def last_probes_are_not_answered():
    """A probe that waits when the session finishes is not answered."""

    @replaces(Ending, "finish")
    def _(original, self, *args, **kwargs):
        self._probes._waiting.clear()
        original(self, *args, **kwargs)


# --- starts and ends ---------------------------------------------------------------------------------------------


@mutant(violates=["WIRE-013"])
def two_prompts_are_taken():
    """Of messages and prompt_ids, the ids count."""

    @replaces(start, "_prompt")
    def _(original, pb):
        if pb.HasField("prompt_ids") and pb.messages:
            del pb.messages[:]
        return original(pb)


@mutant(violates=["WIRE-022"])
def prompt_ids_are_not_checked():
    """prompt_ids outside the vocabulary are taken."""

    @replaces(preparation, "_encode_prompt")
    def _(original, request, *args):
        return list(request.prompt_ids) if request.prompt_ids is not None else original(request, *args)


@mutant(violates=["WIRE-014", "SES-095", "LIM-001"])
def started_counts_no_prompt():
    """Started does not tell the number of prompt tokens."""

    @sends("started")
    def _(body):
        body.prompt_tokens = 0


@mutant(violates=["WIRE-014", "SES-019"])
def started_tells_other_settings():
    """Started tells the execution mode that is the default, not the one in force."""

    @sends("started")
    def _(body):
        body.mode = 1


@mutant(violates=["WIRE-015"])
def ends_are_faults():
    """The rpc of a session that LENGTH ended has a status other than OK."""

    @replaces(inference, "_send_events")
    async def _(original, opened, context):
        await original(opened, context)
        if opened.record.finished is not None and opened.record.finished.reason is FinishReason.LENGTH:
            raise StatusError(grpc.StatusCode.OUT_OF_RANGE, "max_new_tokens was reached")


@mutant(violates=["SES-074", "SES-095"])
def finished_has_no_usage():
    """Finished does not tell the usage."""

    @reports(Finished)
    def _(report):
        return (dataclasses.replace(report, usage=dataclasses.replace(report.usage, sampled_tokens=0)),)


@mutant(
    violates=["WIRE-017", "WIRE-016", "ERR-040", "WIRE-102"],
    also={"client-events/a-gap client-events/nothing-in-it": "a faulty stream is dropped by the server"},
)
def dropped_sessions_go_on():
    """A session whose stream is dropped goes on, whatever on_disconnect says."""

    @replaces(Streams, "_disconnect")
    def _(original, self, record, message):
        return None


@mutant(
    violates=["WIRE-018", "WIRE-097", "WIRE-098", "WIRE-090", "WIRE-092", "WIRE-030", "WIRE-033"],
    also={"bindings/same-ids": "the session is resumed"},
)
def detach_is_cancel():
    """A session with on_disconnect DETACH is finished when its stream is dropped."""

    @replaces(Streams, "leave")
    def _(original, self, opened):
        started = dataclasses.replace(opened.started, on_disconnect=OnDisconnect.CANCEL)
        original(self, dataclasses.replace(opened, started=started))


@mutant(violates=["WIRE-101"])
def generate_takes_anything():
    """Generate passes over the client's tools and credit."""
    puts(inference, "_check_generate", lambda request: None)


@mutant(violates=["WIRE-100", "SES-083"])
def generate_is_not_half_closed():
    """A Generate session waits for a client that cannot speak."""

    @replaces(Streams, "half_close")
    def _(original, self, record):
        if record.resumable:
            original(self, record)


# --- control -----------------------------------------------------------------------------------------------------


@mutant(violates=["WIRE-113"])
def unknown_sessions_are_empty():
    """GetSession of an unknown session is answered with OK."""

    @replaces(control.ControlService, "GetSession")
    async def _(original, self, request, context):
        if self._hub.registry.get(request.session_id) is None:
            return control_pb2.GetSessionResponse()
        return await original(self, request, context)


@mutant(violates=["WIRE-112"])
def newest_sessions_come_first():
    """ListSessions lists the newest session first."""

    @replaces(Registry, "records")
    def _(original, self):
        return original(self)[::-1]


@mutant(violates=["WIRE-112"])
def pages_leave_one_out():
    """Between one page and the next a session is left out."""

    @replaces(control.ControlService, "ListSessions")
    async def _(original, self, request, context):
        page = await original(self, request, context)
        if page.next_page_token:
            ids = [record.session_id for record in self._hub.registry.records()]
            page.next_page_token = ids[ids.index(page.next_page_token) + 1]
        return page


@mutant(violates=["WIRE-110"])
def server_info_has_no_grammar():
    """GetServerInfo does not tell the grammar's hash."""

    @answers("server_info_to_pb")
    def _(answer):
        answer.grammar_hash = ""


@mutant(violates=["WIRE-110"])
def server_info_has_no_tools():
    """GetServerInfo does not list the server's tools."""

    @answers("server_info_to_pb")
    def _(answer):
        del answer.tools[:]


@mutant(
    violates=["WIRE-114"],
    also={
        "disconnects/cancel* generate/broken-off": "a session that may be over is aborted at the end",
    },
)
def aborts_of_unknown_sessions_fail():
    """AbortSessions of an unknown or finished session is NOT_FOUND."""

    @replaces(control.ControlService, "AbortSessions")
    async def _(original, self, request, context):
        for session_id in request.session_ids:
            record = self._hub.registry.get(session_id)
            if record is None or record.finished is not None:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"no session {session_id} runs")
        return await original(self, request, context)


@mutant(violates=["WIRE-004"])
def services_have_no_health():
    """Health is reported for the empty name only."""

    @replaces(Server, "_set_health")
    async def _(original, self, services, status):
        await original(self, [service for service in services if not service], status)


@mutant(violates=["WIRE-004"])
def health_is_told_once():
    """Health is SERVING for whoever asks first, and NOT_SERVING after that."""
    told: list[str] = []

    @replaces(health.HealthServicer, "Check")
    async def _(original, self, request, context):
        answer = await original(self, request, context)
        if not request.service and answer.status == health_pb2.HealthCheckResponse.SERVING:
            told.append(request.service)
            if len(told) > 1:
                answer = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        return answer


@mutant(violates=["WIRE-004"])
def any_service_is_healthy():
    """Health is SERVING for services that are not there."""

    @replaces(health.HealthServicer, "Check")
    async def _(original, self, request, context):
        known = request.service in self._server_status
        return await original(self, request if known else health_pb2.HealthCheckRequest(), context)


@mutant(violates=["WIRE-001"])
def reflection_is_missing():
    """There is no server reflection."""
    puts(app.reflection, "enable_server_reflection", lambda names, server: None)


@mutant(violates=["WIRE-001"])
def reflection_knows_no_types():
    """Reflection is asked in vain for what a service looks like."""

    @replaces(app.reflection, "enable_server_reflection")
    def _(original, names, server):
        original([reflection.SERVICE_NAME], server, pool=DescriptorPool())


# --- what is declared --------------------------------------------------------------------------------------------


def declares(change):
    """The capabilities that are told, where all is done as it was."""

    @replaces(hub, "describe")
    def _(original, *args):
        info = original(*args)
        return dataclasses.replace(info, capabilities=frozenset(change(info.capabilities)))


SILENT_ON = frozenset(
    {
        Capability.GENERATE,
        Capability.JSON_CALL,
        Capability.LAZY,
        Capability.LOGPROBS,
        Capability.PROMPT_IDS,
        Capability.STOP_STRINGS,
    }
)


@mutant(
    violates=["WIRE-002", "WIRE-003", "WIRE-023"],
    also={"*": "cases that need what is not declared cannot be tested, and `full` asks for them"},
)
def what_is_done_is_not_declared():
    """Half of what the server can do is missing in its capabilities."""
    declares(lambda declared: declared - SILENT_ON)


WITHOUT_RESUME = {"bindings/same-ids disconnects/detach* resume/*": "cases that need Resume, which `full` asks for"}


@mutant(violates=["WIRE-002", "WIRE-003", "WIRE-019", "ERR-004"], also=WITHOUT_RESUME)
def resume_is_done_undeclared():
    """Resume is offered, and not declared."""
    declares(lambda declared: declared - {Capability.RESUME})


@mutant(violates=["WIRE-025", "SES-083"], also=WITHOUT_RESUME, options=("--resume-grace-seconds", "0"))
def nobody_comes_back_and_all_is_lost():
    """Without Resume, the dropped stream of a session with DETACH cancels it."""

    @replaces(Streams, "half_close")
    def _(original, self, record):
        if record.attached:
            original(self, record)
        else:
            self._disconnect(record, "its client is gone")


@mutant(violates=["WIRE-014"])
def started_tells_no_capabilities():
    """Started does not tell what the server can do."""

    @sends("started")
    def _(body):
        del body.capabilities[:]


@mutant(violates=["WIRE-110", "LIM-001"])
def server_info_has_no_limits():
    """GetServerInfo does not tell the bounds of what a client may send."""

    @answers("server_info_to_pb")
    def _(answer):
        answer.ClearField("server_limits")


@mutant(violates=["WIRE-026", "WIRE-110"])
def server_info_has_no_lengths():
    """GetServerInfo does not tell how long the context of its models is."""

    @answers("server_info_to_pb")
    def _(answer):
        for model in answer.models:
            model.context_length = 0


# --- taking up again ---------------------------------------------------------------------------------------------


@mutant(violates=["WIRE-092", "WIRE-095"])
def a_resumed_stream_begins_anew():
    """A resumed stream sends all kept events, whatever number is asked for."""

    @replaces(EventStream, "attach")
    def _(original, self, after=0):
        return original(self, min(after, self._backlog.first - 1))


@mutant(violates=["WIRE-092", "WIRE-095"])
def a_resumed_stream_skips_an_event():
    """A resumed stream leaves out the first event that was asked for."""

    @replaces(EventStream, "attach")
    def _(original, self, after=0):
        return original(self, min(after + 1, self._backlog.taken) if after else after)


@mutant(violates=["WIRE-091", "WIRE-099"])
def resumed_forgets_the_clients_number():
    """Resumed does not tell the last client_seq."""

    @sends("resumed")
    def _(body):
        body.last_client_seq = 0


@mutant(violates=["WIRE-095"])
def unkept_events_are_not_found():
    """A number that is no longer kept is answered with NOT_FOUND."""

    @replaces(Streams, "resume")
    async def _(original, self, asked):
        try:
            return await original(self, asked)
        except StatusError as fault:
            if fault.reason == "NOT_KEPT":
                fault.code = grpc.StatusCode.NOT_FOUND
            raise


@mutant(violates=["WIRE-096"])
def the_first_stream_wins():
    """A second stream on an attached session is refused."""

    @replaces(Streams, "resume")
    async def _(original, self, asked):
        record = self._registry.get(asked.session_id)
        if record is not None and record.attachment is not None:
            raise StatusError(grpc.StatusCode.ABORTED, "the session has a stream", "SUPERSEDED")
        return await original(self, asked)


@mutant(violates=["WIRE-093", "WIRE-095"])
def acknowledged_events_are_kept():
    """Ack changes nothing."""

    @replaces(EventStream, "acknowledge")
    def _(original, self, number):
        return number <= self._backlog.taken
