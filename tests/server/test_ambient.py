"""The ambient checks find faults: a sound stream passes, and each way of spoiling it is reported by its rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.server.ambient import check
from tests.server.harness import PROMPT, Harness, RawSession, Serve

from asynclm.cml.control import Control, Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import SamplingParams
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptStep, ScriptText
from asynclm.session import effects as fx
from asynclm.session.config import Constraints
from asynclm.session.events import CancelRequested, CreditGranted, FinishRequested, InterruptReceived, ProbeRequested
from asynclm.session.state import CancelOutcome, Delivery, FinishReason, RejectReason, Result, Scheduling, State
from asynclm.wire.start import StartRequest
from asynclm.wire.values import ReceivedEvent, Started

CALL, HEAD, END, TRAP = (ScriptControl(c) for c in (Control.CALL, Control.HEAD, Control.END, Control.TRAP))
F = ToolSpec(name="f", parameters={"type": "object"})
Events = list[ReceivedEvent]


def call(name: str, body: str) -> tuple[ScriptStep, ...]:
    return (CALL, ScriptText(name), HEAD, ScriptText(body), END)


SCRIPT: tuple[ScriptStep, ...] = (
    ScriptText("Hi "),
    *call("a", "f()"),
    *call("b", "f(v=a.x)"),
    CALL, ScriptText("f()"), END,
    ScriptText("on it. "),
    TRAP, ScriptText("a"), END,
    ScriptText("so "),
    TRAP, ScriptText("a"), END,
    TRAP, ScriptText("zz"), END,
    *call("c", "f()"),
    ScriptEnd(),
    *call("d", "f()"),
    ScriptEnd(),
)  # fmt: skip


@dataclasses.dataclass
class Recording:
    """A session that is over, as its client saw it."""

    start: StartRequest
    session: RawSession

    def broken(self, events: Sequence[ReceivedEvent]) -> set[str]:
        return {violation.rule for violation in check(events, self.start, self.session.sent)}


async def record(serve: Serve) -> Recording:
    """A session in which nearly everything happens once."""
    h: Harness = await serve()
    await h.load("s", *SCRIPT)
    s = RawSession(h.inference.Session())
    await s.call.wait_for_connection()
    start = StartRequest(model="script:s", messages=PROMPT, tools=(F,), constraints=Constraints.NONE, credit=22)
    await s.send(start)
    await s.send(ProbeRequested(nonce="in the second block"))
    await s.until(fx.Probed)
    await s.send(InterruptReceived(source="nobody", payload="1"))
    await s.send(InterruptReceived(source="@user", payload="later", scheduling=Scheduling.WHEN_IDLE))
    await s.send(InterruptReceived(source="a", payload="[1]", status=Status.PARTIAL))
    await s.send(InterruptReceived(source="@system", payload="by the way", scheduling=Scheduling.SILENT))
    await s.send(CreditGranted(tokens=100))
    await s.until(fx.TrapEntered)  # left at once: somebody has spoken
    await s.until(fx.TrapEntered)
    await s.send(InterruptReceived(source="a", payload='{"x": 1}'))
    await s.until(fx.StateChanged)
    await s.send(InterruptReceived(source="c", payload='"quiet"', scheduling=Scheduling.SILENT))
    await s.send(CancelRequested(id="b"))
    await s.until(fx.StateChanged)
    await s.until(fx.StateChanged)
    await s.send(InterruptReceived(source="@system", payload="unheard", scheduling=Scheduling.SILENT))
    await s.send(FinishRequested())
    await s.all()
    return Recording(start, s)


Spoil = Callable[[Events], Events]
SPOILED: list[Any] = []


def spoils(*rules: str) -> Callable[[Spoil], Spoil]:
    """Registers a way to spoil a stream, and the rules of which one has to be named."""

    def register(spoil: Spoil) -> Spoil:
        SPOILED.append(pytest.param(spoil, set(rules), id=spoil.__name__))
        return spoil

    return register


def at(events: Events, kind: type, number: int = 0, **values: Any) -> int:
    """The place of the n-th event of a kind whose report has these values."""
    found = [
        place
        for place, event in enumerate(events)
        if isinstance(event.report, kind) and all(getattr(event.report, k) == v for k, v in values.items())
    ]
    return found[number]


def numbered(events: Events) -> Events:
    """The same events with whole numbers and indices, so that only what was spoiled shows."""
    index, whole = 0, []
    for sequence, event in enumerate(events, 1):
        report = event.report
        if not isinstance(report, Started):
            report = dataclasses.replace(report, token_index=index)
        whole.append(dataclasses.replace(event, sequence=sequence, token_index=index, report=report))
        index += len(getattr(report, "ids", ()))
    return whole


def without(events: Events, place: int) -> Events:
    return numbered(events[:place] + events[place + 1 :])


def twice(events: Events, place: int) -> Events:
    return numbered([*events[: place + 1], *events[place:]])


def changed(events: Events, place: int, **values: Any) -> Events:
    report: Any = events[place].report
    event = dataclasses.replace(events[place], report=dataclasses.replace(report, **values))
    return [*events[:place], event, *events[place + 1 :]]


def moved(events: Events, place: int, to: int) -> Events:
    rest = events[:place] + events[place + 1 :]
    return numbered([*rest[:to], events[place], *rest[to:]])


def last(events: Events, **values: Any) -> Events:
    return changed(events, len(events) - 1, **values)


def end(events: Events) -> fx.Finished:
    report = events[-1].report
    assert isinstance(report, fx.Finished)
    return report


@spoils("WIRE-050")
def loses_an_event(events: Events) -> Events:
    place = at(events, fx.Probed)
    return events[:place] + events[place + 1 :]


@spoils("WIRE-052")
def turns_the_clock_back(events: Events) -> Events:
    return [dataclasses.replace(events[0], time_ms=1), *events[1:]]


@spoils("WIRE-051")
def stamps_an_index_that_is_past(events: Events) -> Events:
    place = at(events, fx.CallSettled, 1)
    return [*events[:place], dataclasses.replace(events[place], token_index=0), *events[place + 1 :]]


@spoils("SES-073")
def goes_on_after_the_end(events: Events) -> Events:
    return numbered([*events, events[at(events, fx.Probed)]])


@spoils("SES-073")
def never_ends(events: Events) -> Events:
    return events[:-1]


@spoils("WIRE-055")
def runs_past_a_control_token(events: Events) -> Events:
    place = at(events, fx.Tokens, control=Control.CALL)
    first, second = events[place].report, events[place + 1].report
    joined = dataclasses.replace(events[place], report=dataclasses.replace(first, ids=first.ids + second.ids))
    return numbered([*events[:place], joined, *events[place + 2 :]])


@spoils("INT-004")
def commits_inside_a_block(events: Events) -> Events:
    place = at(events, fx.InterruptCommitted)
    return moved(events, place, at(events, fx.Tokens, control=Control.HEAD) + 1)


@spoils("INT-004")
def commits_before_the_trap_is_left(events: Events) -> Events:
    place = at(events, fx.InterruptCommitted, source="a", status=Status.OK)
    return moved(events, place, at(events, fx.TrapEntered, 1) + 1)


@spoils("INT-044")
def commits_twice(events: Events) -> Events:
    return twice(events, at(events, fx.InterruptCommitted, source="@system"))


@spoils("SES-092")
def settles_twice(events: Events) -> Events:
    return twice(events, at(events, fx.CallSettled))


@spoils("SES-092")
def never_settles(events: Events) -> Events:
    return without(events, at(events, fx.CallSettled))


@spoils("SES-090")
def loses_a_row_of_the_ledger(events: Events) -> Events:
    return last(events, calls=end(events).calls[1:])


@spoils("SES-090")
def loses_an_interrupt_of_the_ledger(events: Events) -> Events:
    return last(events, interrupts=end(events).interrupts[:-1])


@spoils("SES-094", "INT-045")
def loses_a_payload_that_was_not_delivered(events: Events) -> Events:
    rows = tuple(dataclasses.replace(row, payload="") for row in end(events).interrupts)
    return last(events, interrupts=rows)


@spoils("SES-090")
def tells_another_result_at_the_end(events: Events) -> Events:
    rows = [dataclasses.replace(row, result=Result.ERROR) for row in end(events).calls]
    return last(events, calls=tuple(rows))


@spoils("INT-040")
def commits_an_update_after_its_result(events: Events) -> Events:
    partial = at(events, fx.InterruptCommitted, status=Status.PARTIAL)
    return moved(events, partial, at(events, fx.InterruptCommitted, source="a", status=Status.OK) + 1)


@spoils("INT-002", "TRAP-021", "INT-040")
def leaves_one_in_the_queue(events: Events) -> Events:
    return without(events, at(events, fx.InterruptCommitted, source="@system"))


@spoils("INT-002")
def keeps_a_result_back_while_text_runs(events: Events) -> Events:
    place = at(events, fx.InterruptCommitted, source="@system")
    texts = at(events, fx.Tokens, text="on it. ")
    return moved(events, place, texts + 1)


@spoils("TRAP-020", "TRAP-001")
def leaves_a_trap_that_was_not_entered(events: Events) -> Events:
    return without(events, at(events, fx.TrapEntered))


@spoils("TRAP-002", "TRAP-012")
def stays_in_a_trap(events: Events) -> Events:
    return without(events, at(events, fx.TrapExited))


@spoils("TRAP-010")
def leaves_a_trap_too_early(events: Events) -> Events:
    return moved(events, at(events, fx.TrapExited, 1), at(events, fx.TrapEntered, 1) + 1)


@spoils("TRAP-043", "TRAP-010")
def does_not_say_that_a_trap_was_empty(events: Events) -> Events:
    return changed(events, at(events, fx.TrapExited, empty=True), empty=False)


@spoils("SES-049")
def hides_the_end_of_sequence(events: Events) -> Events:
    return without(events, at(events, fx.StateChanged))


@spoils("SES-042")
def does_not_say_that_it_goes_on(events: Events) -> Events:
    place = at(events, fx.StateChanged, state=State.DECODING)
    return without(events, place)


@spoils("WIRE-053", "CALL-006")
def emits_a_call_before_its_tokens(events: Events) -> Events:
    place = at(events, fx.CallEmitted)
    return moved(events, place, place - 1)


@spoils("WIRE-053")
def settles_before_the_commit(events: Events) -> Events:
    place = at(events, fx.CallSettled, 1)
    assert events[place].report.row.delivery is Delivery.DELIVERED
    return moved(events, place, place - 1)


@spoils("WIRE-053", "TRAP-010")
def leaves_the_trap_before_the_interrupt_that_ends_it(events: Events) -> Events:
    place = at(events, fx.TrapExited, 1)
    return moved(events, place, place - 1)


@spoils("CALL-011")
def dispatches_before_its_reference(events: Events) -> Events:
    place = at(events, fx.CallDispatched, id="b")
    return moved(events, place, at(events, fx.CallEmitted, id="b") + 1)


@spoils("CALL-010")
def never_dispatches(events: Events) -> Events:
    return without(events, at(events, fx.CallDispatched, id="a"))


@spoils("SEC-022")
def dispatches_twice(events: Events) -> Events:
    return twice(events, at(events, fx.CallDispatched))


@spoils("CALL-001")
def skips_a_call_index(events: Events) -> Events:
    return changed(events, at(events, fx.CallEmitted), index=7)


@spoils("CALL-006")
def does_not_emit_a_call(events: Events) -> Events:
    return without(events, at(events, fx.CallEmitted, id="c"))


@spoils("SES-095")
def counts_injected_tokens_as_sampled(events: Events) -> Events:
    usage = end(events).usage
    return last(events, usage=dataclasses.replace(usage, sampled_tokens=usage.sampled_tokens + usage.injected_tokens))


@spoils("WIRE-070")
def overspends_the_credit(events: Events) -> Events:
    place = at(events, fx.Tokens, text="on it. ")
    tokens: Any = events[place].report
    return numbered(changed(events, place, ids=tokens.ids * 30))


@spoils("INT-021")
def changes_a_payload_that_it_hands_back(events: Events) -> Events:
    return changed(events, at(events, fx.InterruptRejected), payload="2")


@spoils("INT-022")
def rejects_for_another_reason(events: Events) -> Events:
    return changed(events, at(events, fx.InterruptRejected), reason=RejectReason.NOT_OWNER)


@spoils("INT-020")
def does_not_answer_an_interrupt(events: Events) -> Events:
    return without(events, at(events, fx.InterruptRejected))


@spoils("WIRE-058")
def changes_a_payload_that_it_commits(events: Events) -> Events:
    return changed(events, at(events, fx.InterruptCommitted, source="a", status=Status.OK), payload="{}")


@spoils("CML-054")
def lets_a_payload_close_its_frame(events: Events) -> Events:
    place = at(events, fx.InterruptCommitted)
    ids: Any = events[place].report.ids
    return numbered(changed(events, place, ids=(*ids[:-2], ids[-1], ids[-2])))


@spoils("INT-030")
def takes_silent_for_immediate(events: Events) -> Events:
    return changed(events, at(events, fx.InterruptAccepted, source="@system"), scheduling=Scheduling.IMMEDIATE)


@spoils("CALL-074")
def says_that_it_could_not_cancel(events: Events) -> Events:
    return changed(events, at(events, fx.CancelAnswered), outcome=CancelOutcome.NOT_CANCELLABLE)


@spoils("WIRE-080")
def forgets_the_queue_in_a_probe(events: Events) -> Events:
    return changed(events, at(events, fx.Probed), state=State.TRAPPED)


@spoils("SES-042")
def stops_with_calls_unresolved(events: Events) -> Events:
    place = at(events, fx.StateChanged, state=State.DRAINING)
    return numbered([*events[:place], changed(events, len(events) - 1, reason=FinishReason.STOP)[-1]])


@spoils("SES-076")
def goes_on_after_its_length(events: Events) -> Events:
    started: Any = events[0].report
    short = dataclasses.replace(started, limits=dataclasses.replace(started.limits, max_new_tokens=20))
    return [dataclasses.replace(events[0], report=short), *events[1:]]


@spoils("SES-076")
def ends_for_its_length_too_early(events: Events) -> Events:
    return last(events, reason=FinishReason.LENGTH)


async def test_a_sound_stream_breaks_nothing(serve: Serve) -> None:
    """What the spoiled streams are made of: everything that can be spoiled is in it."""
    recording = await record(serve)
    events = recording.session.events
    assert recording.broken(events) == set()
    assert numbered(events) == events
    kinds = {type(event.report) for event in events}
    assert kinds >= {fx.Tokens, fx.CallEmitted, fx.CallDispatched, fx.CallSettled, fx.TrapEntered, fx.TrapExited}
    assert kinds >= {fx.StateChanged, fx.InterruptRejected, fx.InterruptCommitted, fx.CancelAnswered, fx.Probed}


@pytest.fixture
async def recording(serve: Serve) -> Recording:
    return await record(serve)


@pytest.mark.parametrize(("spoil", "rules"), SPOILED)
async def test_a_spoiled_stream_is_reported(recording: Recording, spoil: Spoil, rules: set[str]) -> None:
    events = spoil(list(recording.session.events))
    assert recording.broken(events) & rules, [str(v) for v in check(events, recording.start, recording.session.sent)]


# --- stop strings and log-probabilities ----------------------------------------------------------------------------


def scored(events: Events, **values: Any) -> Events:
    return changed(events, at(events, fx.Tokens), **values)


def unsaid(events: Events) -> Events:
    """The first tokens that have a text, without it; how tokens are put together into events is chance [WIRE-064]."""
    place = next(n for n, event in enumerate(events) if isinstance(event.report, fx.Tokens) and event.report.text)
    return changed(events, place, text="")


def too_many(events: Events) -> Events:
    tops = events[at(events, fx.Tokens)].report.top_logprobs
    return scored(events, top_logprobs=tuple(top * 2 for top in tops))


STOPPED: tuple[tuple[str, Spoil], ...] = (
    ("SES-103", lambda events: last(events, stop_string=None)),
    ("SES-103", lambda events: last(events, stop_string="other")),
    ("SES-102", lambda events: changed(events, at(events, fx.Tokens, -1), text="stop!")),
    ("WIRE-057", unsaid),
    ("SES-103", lambda events: numbered([*events[:-1], events[at(events, fx.Tokens)], events[-1]])),
    ("SES-100", lambda events: changed(events, at(events, fx.Tokens, -1), ids=tuple(b"we stop!?"))),
    ("WIRE-062", lambda events: scored(events, logprobs=())),
    ("WIRE-062", lambda events: scored(events, ranks=(0, 1, 1))),
    ("WIRE-063", lambda events: scored(events, top_logprobs=())),
    ("WIRE-063", too_many),
)


@pytest.mark.parametrize(("rule", "spoil"), STOPPED)
async def test_a_spoiled_end_by_a_stop_string_is_reported(serve: Serve, rule: str, spoil: Spoil) -> None:
    h: Harness = await serve()
    await h.load("s", ScriptText("so "), CALL, ScriptText("f()"), END, ScriptText("we stop!"), ScriptEnd())
    sampling = SamplingParams(logprobs=True, top_logprobs=1)
    start = StartRequest(model="script:s", messages=PROMPT, tools=(F,), stop=("x", "stop!"), sampling=sampling)
    s = RawSession(h.inference.Session())
    await s.call.wait_for_connection()
    await s.send(start)
    await s.all()
    assert check(s.events, start, s.sent) == []
    assert rule in {violation.rule for violation in check(spoil(list(s.events)), start, s.sent)}
