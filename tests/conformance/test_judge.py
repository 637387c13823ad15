"""Holding what came against what was written down."""

from __future__ import annotations

from typing import Any

import pytest

from asynclm.conformance.v1 import suite_pb2
from asynclm.v1 import control_pb2, session_pb2, types_pb2
from asynclm_conformance.cases.model import SessionCase
from asynclm_conformance.cases.reading import read_cases
from asynclm_conformance.faults import RpcStatus
from asynclm_conformance.judge.case import judge
from asynclm_conformance.judge.published import published_differences
from asynclm_conformance.judge.script import script_mismatch
from asynclm_conformance.judge.trace import trace_mismatch
from asynclm_conformance.judge.witness import witnessed
from asynclm_conformance.matching.values import absence, difference, fault_difference, order_difference
from asynclm_conformance.play.log import WireLog
from asynclm_conformance.play.player import Play, PlayedSession
from asynclm_conformance.play.stream import SessionStream

CASE = """\
about: Something.
cases:
- id: one
  title: A
  feature: CORE
  verifies: [INT-002]
  main:
    script: [{cml: 'Hi [CALL]a[HEAD]f()[END]'}, {cml: ' on'}, {end: true}]
    trace:
    - {after: 1, call_emitted: {id: a, index: 0}, contains: {raw: f}}
    - {after: 1, call_dispatched: {id: a}, json: {arguments: {x: 1}}}
    - {after: 2, interrupt_committed: {source: a, status: ERROR}, because: INT-040,
       json_has: {payload: {type: timeout}}}
"""
(ONE,) = read_cases(CASE, "file")
SESSION = ONE.sessions["main"]
UNITS = (3, 1, 1, 1, 3, 1, 3, 1)
THROUGH = [0, 10, 13, 14]


def tokens(text: str, count: int, control: Any = None, **more: Any) -> session_pb2.ServerEvent:
    return session_pb2.ServerEvent(tokens=session_pb2.Tokens(ids=range(count), text=text, control=control, **more))


def committed(payload: str = '{"type": "timeout", "message": ""}', **more: Any) -> session_pb2.ServerEvent:
    body: dict[str, Any] = {"source": "a", "status": types_pb2.STATUS_ERROR, "payload": payload, "ids": [1, 2]}
    return session_pb2.ServerEvent(sequence=9, interrupt_committed=session_pb2.InterruptCommitted(**body | more))


def stream() -> list[session_pb2.ServerEvent]:
    return [
        session_pb2.ServerEvent(sequence=1, started=session_pb2.Started(session_id="s")),
        tokens("Hi ", 4, types_pb2.CONTROL_TOKEN_CALL),
        tokens("a", 2, types_pb2.CONTROL_TOKEN_HEAD),
        tokens("f()", 4, types_pb2.CONTROL_TOKEN_END),
        session_pb2.ServerEvent(call_emitted=session_pb2.CallEmitted(index=0, id="a", raw="f()")),
        session_pb2.ServerEvent(call_dispatched=session_pb2.CallDispatched(id="a", arguments='{"x":1}')),
        tokens(" on", 3),
        committed(),
        tokens("", 1, end_of_sequence=True),
    ]


def judged(events: list[session_pb2.ServerEvent], session: SessionCase = SESSION) -> str:
    mismatch = trace_mismatch(session, events, THROUGH)
    return "" if mismatch is None else f"{mismatch.message} | {mismatch.want} | {mismatch.got}"


def test_a_trace_that_fits_has_nothing_to_tell() -> None:
    assert judged(stream()) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda events: events.pop(7), "interrupt_committed did not come"),
        (lambda events: events.insert(4, events.pop(5)), "call_dispatched in place of call_emitted"),
        (lambda events: events.insert(6, events.pop(7)), "interrupt_committed at the wrong place | after line 2"),
        (lambda events: events.append(committed()), "interrupt_committed came uncalled"),
        (lambda events: events[5].call_dispatched.ClearField("id"), "call_dispatched.id | 'a' | absent"),
        (lambda events: setattr(events[5].call_dispatched, "arguments", '{"x":1,"y":2}'), "call_dispatched.arguments"),
        (lambda events: setattr(events[5].call_dispatched, "arguments", "{"), "call_dispatched.arguments"),
        (lambda events: setattr(events[4].call_emitted, "raw", "g()"), "a text with 'f'"),
        (lambda events: setattr(events[7].interrupt_committed, "payload", "{}"), "interrupt_committed.payload.type"),
        (lambda events: setattr(events[7].interrupt_committed, "payload", "[1]"), "interrupt_committed.payload"),
        (lambda events: setattr(events[7].interrupt_committed, "status", types_pb2.STATUS_OK), "STATUS_ERROR"),
        (
            lambda events: events.insert(5, session_pb2.ServerEvent(trap_entered=session_pb2.TrapEntered())),
            "trap_entered in",
        ),
        (lambda events: events.insert(5, session_pb2.ServerEvent()), "an unknown event"),
    ],
)
def test_what_does_not_fit_a_trace_is_told(change: Any, told: str) -> None:
    events = stream()
    change(events)
    assert told in judged(events)


def test_a_mismatch_names_the_requirement_that_its_entry_cites() -> None:
    events = stream()
    events[7].interrupt_committed.payload = "{}"
    mismatch = trace_mismatch(SESSION, events, THROUGH)
    assert mismatch is not None
    assert (mismatch.requirement, mismatch.sequence) == ("INT-040", 9)


def test_any_legal_order_will_do_and_the_first_is_told_of() -> None:
    other = CASE.replace("    trace:", "    or_else: [{trace: [{finished: {}}]}]\n    trace:")
    (case,) = read_cases(other, "file")
    finished = [session_pb2.ServerEvent(finished=session_pb2.Finished())]
    assert judged(finished, case.sessions["main"]) == ""
    assert judged(stream(), case.sessions["main"]) == ""
    assert "call_emitted did not come" in judged([], case.sessions["main"])


def test_notices_count_where_their_code_is_named_and_kinds_where_they_are_watched() -> None:
    head = CASE.split("    trace:")[0]
    (named,) = read_cases(head + "    trace: [{notice: {code: STRAY}}]\n    watch: [finished, notice]\n", "file")
    (coded,) = read_cases(head + "    trace: [{notice: {code: STRAY}}]\n    watch: [finished]\n", "file")
    stray = session_pb2.ServerEvent(notice=session_pb2.Notice(code=types_pb2.NOTICE_CODE_STRAY))
    masked = session_pb2.ServerEvent(notice=session_pb2.Notice(code=types_pb2.NOTICE_CODE_MASKED))
    for case in (named, coded):
        assert judged([*stream(), stray], case.sessions["main"]) == ""
    assert "NOTICE_CODE_MASKED" in judged([masked, stray], named.sessions["main"])
    assert judged([masked, stray], coded.sessions["main"]) == ""
    assert judged([*stream(), masked]) == ""


def test_places_in_pieces_are_told_by_the_token_index() -> None:
    started = session_pb2.ServerEvent(started=session_pb2.Started(unit=types_pb2.UNIT_PIECE))
    events = stream()
    events[0] = started
    for event, index in zip(events, (0, 0, 4, 6, 10, 10, 10, 13, 14), strict=True):
        event.token_index = index
        if event.HasField("tokens"):
            del event.tokens.ids[:]
    assert judged(events) == ""
    events[7].token_index = 12
    assert "at the wrong place" in judged(events)


# --- scripts --------------------------------------------------------------------------------------------------------


def played(events: list[session_pb2.ServerEvent], *, stops: bool = False) -> str:
    mismatch = script_mismatch(SESSION.pieces, UNITS, events, stops=stops)
    return "" if mismatch is None else mismatch.message


def test_the_sampled_text_and_tokens_are_the_scripts() -> None:
    assert played(stream()) == ""
    for cut in range(len(stream())):
        assert played(stream()[:cut]) == ""
    assert played([*stream(), tokens("", 1, end_of_sequence=True)]) == "", "an exhausted script goes on ending"


@pytest.mark.parametrize(
    ("place", "event", "told"),
    [
        (1, tokens("Ho ", 4, types_pb2.CONTROL_TOKEN_CALL), "the sampled text is not the script's"),
        (1, tokens("Hi ", 5, types_pb2.CONTROL_TOKEN_CALL), "a control token at the wrong place"),
        (1, tokens("Hi ", 4, types_pb2.CONTROL_TOKEN_TRAP), "the sampled text is not the script's"),
        (1, tokens("Hi ", 4), "the sampled text is not the script's"),
    ],
)
def test_what_was_not_in_the_script_is_told(place: int, event: session_pb2.ServerEvent, told: str) -> None:
    events = stream()
    events[place] = event
    assert played(events) == told


def test_stop_strings_keep_text_back_but_change_none() -> None:
    events = stream()
    events[6] = tokens("n", 3)
    assert played(events) == "the sampled text is not the script's"
    assert played(events, stops=True) == ""
    events[6] = tokens("x", 3)
    assert played(events, stops=True) == "the sampled text is not the script's"


# --- values and statuses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "actual", "where"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": 1}, {"a": "1"}, None),
        ({"a": None}, {"b": 1}, None),
        ({"a": None}, {"a": []}, None),
        ({"a": None}, {"a": 1}, "x.a"),
        ({"a": [1, 2]}, {"a": [1]}, "x.a"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, "x.a[0].b"),
        ({"a": {}}, {"a": 1}, "x.a"),
        ({"a": True}, {"a": 1}, "x.a"),
        ({"a": ""}, {}, "x.a"),
        ([], [1], "x"),
    ],
)
def test_only_what_is_given_counts(given: Any, actual: Any, where: str | None) -> None:
    found = difference(given, actual, "x")
    assert (found and found[0]) == where


def test_a_status_is_held_to_code_reason_field_and_what_it_mentions() -> None:
    status = RpcStatus("NOT_FOUND", "no m; there are a, b", "UNKNOWN_MODEL", "asynclm", ("start.model",))
    for fault in (
        suite_pb2.Fault(code="NOT_FOUND"),
        suite_pb2.Fault(code="NOT_FOUND", reason="UNKNOWN_MODEL", field="model", mentions=["a, b"]),
    ):
        assert fault_difference(fault, status) is None
    for fault in (
        suite_pb2.Fault(code="INVALID_ARGUMENT"),
        suite_pb2.Fault(code="NOT_FOUND", reason="OTHER"),
        suite_pb2.Fault(code="NOT_FOUND", field="tools"),
        suite_pb2.Fault(code="NOT_FOUND", mentions=["c"]),
    ):
        assert fault_difference(fault, status) is not None
    foreign = RpcStatus("NOT_FOUND", reason="UNKNOWN_MODEL", domain="example.org")
    assert fault_difference(suite_pb2.Fault(code="NOT_FOUND", reason="UNKNOWN_MODEL"), foreign) is not None


# --- witnesses ------------------------------------------------------------------------------------------------------


def test_a_stream_shows_what_it_has_seen() -> None:
    settled = session_pb2.ServerEvent(
        call_settled=session_pb2.CallSettled(
            row=types_pb2.CallRow(result=types_pb2.RESULT_OK, delivery=types_pb2.DELIVERY_DELIVERED)
        )
    )
    stopped = session_pb2.ServerEvent(finished=session_pb2.Finished(reason=types_pb2.FINISH_REASON_STOP))
    trapped = [
        session_pb2.ServerEvent(trap_entered=session_pb2.TrapEntered()),
        session_pb2.ServerEvent(trap_exited=session_pb2.TrapExited()),
    ]
    in_text = {suite_pb2.WITNESS_INTERRUPT_IN_TEXT, suite_pb2.WITNESS_DECODED_BESIDE_CALL}
    assert witnessed(stream()) == in_text
    assert witnessed([*stream()[:8], tokens(" and", 2)]) == in_text | {suite_pb2.WITNESS_WENT_ON}
    assert witnessed([*stream()[:6], *trapped, committed(), settled, stopped]) == {
        suite_pb2.WITNESS_TRAP_ENDED,
        suite_pb2.WITNESS_CALL_DELIVERED,
        suite_pb2.WITNESS_STOPPED,
    }
    assert witnessed(stream()[:6]) == set()


def test_what_wakes_a_session_is_not_in_its_text_and_an_end_is_no_word() -> None:
    end = tokens("", 1, end_of_sequence=True)
    draining, decoding = (
        session_pb2.ServerEvent(state_changed=session_pb2.StateChanged(state=state))
        for state in (types_pb2.STATE_DRAINING, types_pb2.STATE_DECODING)
    )
    probed = session_pb2.ServerEvent(probed=session_pb2.Probed())
    woken = [*stream()[:6], end, draining, decoding, probed, committed()]
    assert witnessed([*woken, end]) == set()
    assert witnessed([*woken, tokens(" on", 3)]) == {suite_pb2.WITNESS_WENT_ON}


def test_a_trap_is_ended_by_what_is_committed_next_however_late() -> None:
    entered, exited, probed = (
        session_pb2.ServerEvent(trap_entered=session_pb2.TrapEntered()),
        session_pb2.ServerEvent(trap_exited=session_pb2.TrapExited()),
        session_pb2.ServerEvent(probed=session_pb2.Probed()),
    )
    assert witnessed([*stream()[:6], entered, exited, probed, committed()]) == {suite_pb2.WITNESS_TRAP_ENDED}


def test_a_session_has_the_binding_that_was_published() -> None:
    """[BIND-005]: that of its model or, where its model is not listed, that of any."""
    one, two = (types_pb2.Binding(name=name, eos_ids=[2]) for name in ("one", "two"))
    models = [control_pb2.ModelInfo(name="a", binding=one), control_pb2.ModelInfo(name="b", binding=two)]
    info = control_pb2.GetServerInfoResponse(models=models)

    def wrong(model: str, binding: types_pb2.Binding) -> bool:
        found = published_differences(info, session_pb2.Started(model=model, binding=binding))
        return [requirement for requirement, _ in found] == ["BIND-005"]

    assert not wrong("b", two)
    assert not wrong("script:s", two)
    assert wrong("a", two)
    assert wrong("script:s", types_pb2.Binding(name="two", eos_ids=[2, 3]))
    assert list(published_differences(control_pb2.GetServerInfoResponse(), session_pb2.Started()))


@pytest.mark.parametrize(
    "told",
    [
        {"grammar_hash": ""},
        {"emulated": True},
        {"unit": types_pb2.UNIT_PIECE},
        {"tools": [session_pb2.OfferedTool(name="clock"), session_pb2.OfferedTool(name="unheard")]},
    ],
    ids=lambda told: next(iter(told)),
)
def test_the_server_has_published_what_its_sessions_are_told(told: dict[str, Any]) -> None:
    """[WIRE-110]"""
    binding = types_pb2.Binding(name="one")
    info = control_pb2.GetServerInfoResponse(
        models=[control_pb2.ModelInfo(name="a", binding=binding)],
        grammar_hash="12",
        unit=types_pb2.UNIT_TOKEN,
        tools=[types_pb2.ToolSpec(name="clock")],
    )
    right = {"grammar_hash": "12", "unit": types_pb2.UNIT_TOKEN, "tools": [session_pb2.OfferedTool(name="clock")]}
    right["tools"].append(session_pb2.OfferedTool(name="mine", client_owned=True))  # type: ignore[attr-defined]

    def wrong(fields: dict[str, Any]) -> list[str]:
        started = session_pb2.Started(model="a", binding=binding, **fields)
        return [requirement for requirement, _ in published_differences(info, started)]

    assert wrong(right) == []
    assert wrong(right | told) == ["WIRE-110"]


def test_a_session_is_told_what_the_server_declares() -> None:
    """[WIRE-014]"""
    declared = [session_pb2.CAPABILITY_RESUME, session_pb2.CAPABILITY_LAZY]
    info = control_pb2.GetServerInfoResponse(models=[control_pb2.ModelInfo(name="a")], capabilities=declared)
    started = session_pb2.Started(model="a", capabilities=declared[::-1])
    assert list(published_differences(info, started)) == []
    del started.capabilities[0]
    ((requirement, (_, want, got)),) = published_differences(info, started)
    assert (requirement, want, got) == ("WIRE-014", "RESUME, LAZY, as in GetServerInfo", "RESUME")


def test_elements_stand_in_order_with_others_between() -> None:
    actual = {"sessions": [{"id": "x", "more": 1}, {"id": "a"}, {"id": "y"}, {"id": "b"}]}
    assert order_difference({"sessions": [{"id": "a"}, {"id": "b"}]}, actual, "List") is None
    assert order_difference({}, actual, "List") is None
    for wrong in (["b", "a"], ["a", "a"], ["c"]):
        found = order_difference({"sessions": [{"id": name} for name in wrong]}, actual, "List")
        assert found is not None
        assert found[0] == "List.sessions"
    assert order_difference({"sessions": [{"id": "a"}]}, {}, "List") is not None


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("name", True),
        ("limits.size", True),
        ("limits.other", False),
        ("limits.none", False),
        ("unit", True),
        ("mode", False),
        ("models.name", True),
        ("models.length", False),
        ("models.parts.kind", True),
        ("models.name.first", False),
        ("tools", False),
        ("tools.name", False),
        ("missing.size", False),
    ],
)
def test_fields_have_to_be_there(path: str, there: bool) -> None:
    actual = {
        "name": "x",
        "limits": {"size": "12", "other": "0", "none": 0},
        "unit": "UNIT_TOKEN",
        "mode": "EXECUTION_MODE_UNSPECIFIED",
        "models": [{"name": "a", "length": 1, "parts": [{"kind": "b"}]}, {"name": "c", "parts": [{"kind": "d"}]}],
        "tools": [],
    }
    found = absence([path], actual, "Get")
    assert (found is None) == there
    assert there or (found is not None and found[0] == f"Get.{path}")


def test_a_text_that_must_not_be_there() -> None:
    text = CASE.replace("json_has: {payload: {type: timeout}}", "lacks: {payload: [Traceback, tim]}")
    (case,) = read_cases(text, "file")
    found = trace_mismatch(case.sessions["main"], stream(), THROUGH)
    assert found is not None
    assert (found.message, found.want) == ("interrupt_committed.payload", "a text without 'tim'")
    (case,) = read_cases(text.replace(", tim]", ", /]"), "file")
    assert trace_mismatch(case.sessions["main"], stream(), THROUGH) is None


def test_a_frame_has_the_ids_of_its_parts() -> None:
    """[CML-054]: where ids are no bytes, their number has to be that of the parts, each encoded on its own."""
    played = SessionStream(None, WireLog(), "main", patience_s=1, step=lambda: 0, answers={})  # type: ignore[arg-type]
    played.events += stream()
    session = PlayedSession(SESSION, played, units=UNITS, opened=True, cut=len(played.events))

    def cited(ids: int) -> list[str]:
        session.frames = {9: ids}
        failures = judge(ONE, Play({"main": session}, WireLog(), control_pb2.GetServerInfoResponse()))
        return [failure.want for failure in failures if failure.requirement == "CML-054"]

    assert cited(2) == []
    assert cited(3) == ["3 ids"]
