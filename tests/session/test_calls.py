"""The rules of calls, one test each (spec: calls)."""

from __future__ import annotations

import json

import pytest
from tests.session.player import ANY_OBJECT, CLIENT_TOOLS, TOOLS, Player, every, names, only

from asynclm.cml.blocks import Reference
from asynclm.cml.control import BodyLanguage, Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.session import effects as fx
from asynclm.session.config import ExecutionMode, OnEnd
from asynclm.session.events import InterruptReceived
from asynclm.session.state import (
    CancelOrigin,
    CancelOutcome,
    Delivery,
    NoticeCode,
    RejectReason,
    Result,
    Scheduling,
    UndeliveredReason,
)


def error_of(effects: list[fx.Effect], source: str) -> dict[str, object]:
    """The error payload of the one interrupt that a commit gives."""
    committed = only(fx.InterruptCommitted, effects)
    assert (committed.source, committed.status) == (source, Status.ERROR)
    payload = json.loads(committed.payload)
    assert isinstance(payload, dict)
    return payload


# --- identity --------------------------------------------------------------------------------------------------


def test_every_call_block_takes_the_next_index() -> None:
    """[CALL-001]: malformed, duplicate and anonymous blocks too."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]f([END][CALL]f()[END][CALL]a[HEAD]f()[END][CALL]b[HEAD]nope()[END]")
    emitted = every(fx.CallEmitted, player.log)
    assert [(e.index, e.id) for e in emitted] == [(0, "a"), (1, None), (2, None), (3, None), (4, "b")]


def test_a_readable_new_id_is_registered_whatever_else_is_wrong() -> None:
    """[CALL-002], [CALL-023]."""
    player = Player()
    player.write("[CALL]a[HEAD]f([END]")
    assert error_of(player.safe_point(), "a")["type"] == "syntax"
    assert player.row(0).result is Result.ERROR


def test_an_id_stays_registered_after_its_call_is_settled() -> None:
    """[CALL-003]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    player.write("x[CALL]a[HEAD]f()[END]")
    assert error_of(player.safe_point(), "@runtime")["type"] == "duplicate_id"


def test_a_duplicate_id_leaves_the_first_call_untouched() -> None:
    """[CALL-004], [SES-093]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]a[HEAD]f()[END]")
    payload = error_of(player.safe_point(), "@runtime")
    assert (payload["type"], payload["id"], payload["call"]) == ("duplicate_id", "a", 1)
    assert payload["retryable"] is True
    assert (player.row(1).result, player.row(1).delivery) == (Result.ERROR, Delivery.NOT_AWAITED)
    player.send("a", "1")
    player.safe_point()
    assert player.row(0).result is Result.OK


@pytest.mark.parametrize("bad", ["9a", "all", "cml", ""])
def test_an_invalid_id_is_told_by_runtime(bad: str) -> None:
    """[CALL-005]."""
    player = Player()
    player.write(f"[CALL]{bad}[HEAD]f()[END]")
    payload = error_of(player.safe_point(), "@runtime")
    assert (payload["type"], payload["call"]) == ("invalid_id", 0)
    assert not every(fx.CallDispatched, player.log)


@pytest.mark.parametrize(("call_id", "body"), [("r", "f(x=true.y)"), ("r", "f(x=within)"), (None, "f(x=true.y)")])
def test_a_reserved_word_in_a_body_is_no_invalid_id(call_id: str | None, body: str) -> None:
    """[CML-032], [CALL-005]: the call's own id is valid, or it has none."""
    player = Player()
    player.write(f"[CALL]{call_id}[HEAD]{body}[END]" if call_id else f"[CALL]{body}[END]")
    assert error_of(player.safe_point(), call_id or "@runtime")["type"] == "syntax"


def test_call_emitted_has_the_raw_body_and_its_references() -> None:
    """[CALL-006]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    effects = player.write("[CALL] b [HEAD] g(x=a.k[0], y=1) [END]")
    emitted = only(fx.CallEmitted, effects)
    assert (emitted.id, emitted.function, emitted.raw) == ("b", "g", "g(x=a.k[0], y=1)")
    assert emitted.references == (Reference("a", ("k", 0)),)


@pytest.mark.parametrize(
    ("block", "raw"),
    [
        ("[CALL] 1a [HEAD]  f(x=1) [END]", "f(x=1)"),
        ("[CALL] a [HEAD] f( [END]", "f("),
        ("[CALL] f(x [END]", "f(x"),
        ("[CALL]a[HEAD]f()[HEAD]g()[END]", "f() g()"),
        ("[CALL]a[HEAD] f([CALL]", "f("),
        ("[CALL]a[HEAD][END]", ""),
    ],
)
def test_the_body_of_a_malformed_block_is_told_without_its_head(block: str, raw: str) -> None:
    """[CALL-007], [CALL-008]."""
    player = Player()
    emitted = only(fx.CallEmitted, player.write(block))
    assert (emitted.function, emitted.raw, emitted.references) == ("", raw, ())


# --- dispatch --------------------------------------------------------------------------------------------------


def test_a_call_is_dispatched_with_its_end_token() -> None:
    """[CALL-010], [CALL-012]."""
    player = Player()
    effects = player.write("[CALL]a[HEAD]g(x=1.50, y='q', z=[1, {\"k\": None}])[END]")
    assert names(effects)[-3:] == ["Tokens", "CallEmitted", "CallDispatched"]
    dispatched = only(fx.CallDispatched, effects)
    assert dispatched.arguments == '{"x": 1.50, "y": "q", "z": [1,{"k":null}]}'
    assert (dispatched.client_owned, dispatched.timeout_ms) == (False, 2_000)


def test_a_held_call_is_dispatched_when_its_last_reference_resolves() -> None:
    """[CALL-011], [CALL-036]: before the interrupt is committed."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][CALL]c[HEAD]g(x=a, y=b.k)[END]")
    assert not every(fx.CallDispatched, player.send("a", " 1.0e3 "))
    effects = player.send("b", '{"k": "v", "l": 2}')
    assert names(effects) == ["InterruptAccepted", "CallDispatched"]
    assert only(fx.CallDispatched, effects).arguments == '{"x": 1.0e3, "y": "v"}'


def test_time_out_is_the_tools_or_the_sessions_whichever_is_shorter() -> None:
    """[CALL-014]."""
    player = Player(limits={"max_call_time_ms": 900})
    assert only(fx.CallDispatched, player.write("[CALL]a[HEAD]f()[END]")).timeout_ms == 900
    assert only(fx.CallDispatched, player.write("[CALL]b[HEAD]g()[END]")).timeout_ms == 900
    player = Player()
    assert only(fx.CallDispatched, player.write("[CALL]a[HEAD]f()[END]")).timeout_ms == 300_000


def test_a_finished_session_dispatches_nothing() -> None:
    """[CALL-015]: a held call stays undispatched when the session ends."""
    player = Player(on_end=OnEnd.DETACH)
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]g(x=a)[END][EOS]")
    assert [d.index for d in every(fx.CallDispatched, player.log)] == [0]
    assert player.row(1).reason is UndeliveredReason.DETACHED


def test_decoding_goes_on_while_calls_run() -> None:
    """[CALL-016]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END] and on")
    assert player.text == " and on"


def test_json_bodies() -> None:
    """[CALL-012] under json_call, references apart from data."""
    player = Player(body_language=BodyLanguage.JSON)
    player.write('[CALL]a[HEAD]{"name": "f", "arguments": {}}[END]')
    player.send("a", '{"e": "kim@example.org"}')
    effects = player.write('[CALL]b[HEAD]{"name": "g", "arguments": {"n": 1}, "refs": {"to": "a.e"}}[END]')
    assert only(fx.CallDispatched, effects).arguments == '{"n": 1, "to": "kim@example.org"}'


# --- validation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("nope(", "syntax"),
        ("nope(x=zero)", "unknown_function"),
        ("f(x=1, x=2)", "syntax"),
        ("f(1)", "syntax"),
        ("typed(1, n=2)", "syntax"),
        ("typed(1, 's', 3)", "syntax"),
        ("typed(n=zero)", "dependency"),
        ("typed(n='x')", "invalid_arguments"),
        ("typed(s='x')", "invalid_arguments"),
        ("typed(n=1, more=2)", "invalid_arguments"),
        ("cml.nope()", "unknown_function"),
        ("cml.cancel()", "invalid_arguments"),
        ("cml.cancel(id=1)", "invalid_arguments"),
        ("cml.cancel(id=x)", "invalid_arguments"),
        ("cml.cancel(id='x', why='y')", "invalid_arguments"),
    ],
)
def test_faults_of_a_call(body: str, kind: str) -> None:
    """[CALL-020], [CALL-021], [CALL-022], [CALL-023], [CALL-060]."""
    player = Player()
    player.write(f"[CALL]a[HEAD]{body}[END]")
    payload = error_of(player.safe_point(), "a")
    assert payload["type"] == kind
    assert set(payload) == {"type", "message", "retryable"}
    assert payload["retryable"] is (kind in ("syntax", "invalid_arguments"))
    assert not every(fx.CallDispatched, player.log)
    player.write("goes on")


def test_positional_arguments_bind_to_the_parameter_order() -> None:
    """[CML-025]."""
    player = Player()
    effects = player.write("[CALL]a[HEAD]typed(1, 's')[END]")
    assert only(fx.CallDispatched, effects).arguments == '{"n": 1, "s": "s"}'


def test_the_pending_limit_comes_before_references_and_after_the_name() -> None:
    """[CALL-020], [CALL-024]."""
    player = Player(limits={"max_pending_calls": 2})
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][CALL]c[HEAD]f(x=zero)[END]")
    assert error_of(player.safe_point(), "c")["type"] == "limit"
    player.write("[CALL]d[HEAD]nope()[END]")
    assert error_of(player.safe_point(), "d")["type"] == "unknown_function"


def test_settled_calls_make_room_and_anonymous_ones_take_none() -> None:
    """[CALL-024], [CALL-040]."""
    player = Player(limits={"max_pending_calls": 1})
    player.write("[CALL]f()[END][CALL]f()[END][CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    player.write("[CALL]b[HEAD]f()[END]")
    assert [d.id for d in every(fx.CallDispatched, player.log)] == [None, None, "a", "b"]


def test_arguments_over_the_limit() -> None:
    """[CALL-025], [CALL-034]: `limit` as written, `dependency` where a reference made them so."""
    player = Player(limits={"max_argument_bytes": 20})
    player.write(f'[CALL]a[HEAD]f(x="{"y" * 30}")[END]')
    assert error_of(player.safe_point(), "a")["type"] == "limit"
    player.write("[CALL]b[HEAD]f()[END][CALL]c[HEAD]f(x=b)[END][CALL]d[HEAD]f(x=b.k, y=b.k)[END]")
    player.send("b", json.dumps({"k": "0123456", "l": "0123456789"}))
    player.write("x")
    faults = {c.source: json.loads(c.payload)["type"] for c in every(fx.InterruptCommitted, player.log)[-2:]}
    assert faults == {"c": "dependency", "d": "dependency"}


def test_arguments_at_the_limit_are_taken() -> None:
    """[CALL-025], [CALL-034]: 20 bytes of literals; 20 bytes in all after substitution."""
    player = Player(limits={"max_argument_bytes": 20})
    effects = player.write(f'[CALL]a[HEAD]f(x="{"y" * 18}")[END]')
    assert every(fx.CallDispatched, effects)
    player.write("[CALL]b[HEAD]f()[END][CALL]c[HEAD]f(x=b)[END][CALL]d[HEAD]f(xy=b)[END]")
    effects = player.send("b", '"01234567890"')
    assert [(d.id, len(d.arguments)) for d in every(fx.CallDispatched, effects)] == [("c", 20)]
    player = Player(limits={"max_payload_bytes": 10})
    player.write("[CALL]a[HEAD]f()[END]")
    assert names(player.send("a", '"01234567"')) == ["InterruptAccepted"]


@pytest.mark.parametrize("value", ["1", "9" * 5_000])
def test_arguments_that_cannot_be_checked_are_invalid(value: str) -> None:
    """[CALL-022]: a schema that never ends, a number that no integer type takes: both are JSON."""
    loop = ToolSpec(name="loop", parameters={"type": "object", "properties": {"x": {"$ref": "#/properties/x"}}})
    player = Player(
        tools=(loop,),
        client_tools=frozenset(),
        limits={"max_block_tokens": 6_000, "max_new_tokens": 6_000, "context_length": 9_000},
    )
    player.write(f"[CALL]a[HEAD]loop(x={value})[END]")
    assert error_of(player.safe_point(), "a")["type"] == "invalid_arguments"


def test_arguments_with_references_are_checked_after_substitution() -> None:
    """[CALL-021]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]typed(n=a.n)[END][CALL]c[HEAD]typed(n=a.s)[END]")
    effects = player.send("a", '{"n": 3, "s": "three"}')
    assert [d.id for d in every(fx.CallDispatched, effects)] == ["b"]
    player.safe_point()
    assert json.loads(player.committed[-1][1])["type"] == "invalid_arguments"


# --- references ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["zero", "later", "me", "zero.k"])
def test_a_reference_to_no_earlier_call_fails_at_once(reference: str) -> None:
    """[CALL-030]: unknown, later or own id."""
    player = Player()
    player.write(f"[CALL]me[HEAD]f(x={reference})[END]")
    assert error_of(player.safe_point(), "me")["type"] == "dependency"


@pytest.mark.parametrize(
    ("path", "payload", "value"),
    [
        ("", ' {"k": 1} ', '{"k": 1}'),
        (".k", '{"j": "}", "k": [1, 2.50]}', "[1, 2.50]"),
        (".k[1]", '{"k": ["a,]", {"b": []}, 3]}', '{"b": []}'),
        (".k[1].b", '{"k": ["\\"", {"b": -0.0e-5}]}', "-0.0e-5"),
        ("[0][1]", "[[1,2],3]", "2"),
        (".k", '{"k": 1, "k": 2}', "2"),
        (".k", '{"\\u006b": "esc"}', '"esc"'),
        ("[2]", '[ 1 , "x" , null ]', "null"),
        (".k", '{ "j" : { "k" : 1 } , "k" : true }', "true"),
    ],
)
def test_a_reference_selects_the_text_as_it_was_spelled(path: str, payload: str, value: str) -> None:
    """[CALL-031], [CALL-032]."""
    player = Player()
    player.write(f"[CALL]a[HEAD]f()[END][CALL]b[HEAD]g(x=a{path})[END]")
    assert only(fx.CallDispatched, player.send("a", payload)).arguments == f'{{"x": {value}}}'


@pytest.mark.parametrize(
    ("path", "payload"),
    [(".k", "{}"), (".k", "[1]"), ("[0]", "{}"), ("[1]", "[1]"), (".k.l", '{"k": "l"}'), (".k", "3"), ("[0]", '"s"')],
)
def test_a_step_that_selects_nothing_fails_the_call(path: str, payload: str) -> None:
    """[CALL-034]; the machine's rule is the scripts' rule."""
    player = Player()
    player.write(f"[CALL]a[HEAD]f()[END][CALL]b[HEAD]g(x=a{path})[END]")
    player.send("a", payload)
    player.safe_point()
    assert json.loads(player.committed[-1][1])["type"] == "dependency"
    steps = {".k": ("k",), "[0]": (0,), "[1]": (1,), ".k.l": ("k", "l")}[path]
    assert player.session.resolve_reference(Reference("a", steps)) is None


def test_payloads_are_kept_for_references_until_the_end() -> None:
    """[CALL-033]: a settled call can be referred to."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", '"kept"')
    effects = player.write("and much later[CALL]b[HEAD]g(x=a)[END]")
    assert only(fx.CallDispatched, effects).arguments == '{"x": "kept"}'
    assert player.session.resolved_payload("a") == (Status.OK, '"kept"')
    assert player.session.resolve_reference(Reference("a")) == '"kept"'
    assert player.session.resolved_payload("b") is None
    assert player.session.resolved_payload("zero") is None
    assert player.session.resolve_reference(Reference("b")) is None


@pytest.mark.parametrize("status", [Status.ERROR, Status.CANCELLED, Status.TIMEOUT])
def test_any_status_but_ok_fails_the_dependent_call(status: Status) -> None:
    """[CALL-034]."""
    player = Player()
    player.write("[CALL]a[HEAD]g()[END][CALL]b[HEAD]f(x=a)[END]")
    player.host(0, '{"type": "t", "message": "m", "retryable": false}', status)
    player.safe_point()
    assert [source for source, _ in player.committed] == [f"a:{status.value}", "b:error"]
    assert player.session.resolve_reference(Reference("a")) is None


def test_partial_and_progress_resolve_nothing() -> None:
    """[CALL-035]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]g(x=a)[END]")
    assert not every(fx.CallDispatched, player.send("a", "1", Status.PARTIAL))
    assert not every(fx.CallDispatched, player.send("a", '{"message": "m"}', Status.PROGRESS))
    assert every(fx.CallDispatched, player.send("a", "2"))


def test_a_failure_goes_through_all_that_wait_for_it_in_emission_order() -> None:
    """[CALL-037]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f(x=a)[END][CALL]f(y=b)[END][CALL]c[HEAD]f(x=b)[END]")
    effects = player.send("a", '{"type": "t", "message": "m", "retryable": true}', Status.ERROR)
    accepted = every(fx.InterruptAccepted, effects)
    assert [(a.source, a.status) for a in accepted] == [
        ("a", Status.ERROR),
        ("b", Status.ERROR),
        ("@runtime", Status.ERROR),
        ("c", Status.ERROR),
    ]


def test_one_reference_twice_and_two_into_one_payload() -> None:
    """[CALL-031]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]g(x=a.k, y=a.k, z=a[0])[END]")
    player.send("a", '{"k": 1}')
    player.safe_point()
    assert "a[0]" in json.loads(player.committed[-1][1])["message"]


# --- anonymous calls -------------------------------------------------------------------------------------------


def test_an_anonymous_call_settles_when_it_is_dispatched() -> None:
    """[CALL-041]."""
    player = Player()
    effects = player.write("[CALL]g()[END]")
    assert names(effects)[-3:] == ["CallEmitted", "CallDispatched", "CallSettled"]
    assert (player.row(0).result, player.row(0).delivery) == (Result.NONE, Delivery.NOT_AWAITED)


def test_what_the_host_of_an_anonymous_call_returns_is_not_injected() -> None:
    """[CALL-042]: an error is a notice for the client."""
    player = Player()
    player.write("[CALL]g()[END][CALL]g()[END]")
    assert player.host(0, "1", Status.PARTIAL) == []
    assert player.host(0, "1") == []
    assert [r.index for r in every(fx.CallCancelRequested, player.advance(2_000))] == [1], "what ended has no time-out"
    player = Player()
    player.write("[CALL]g()[END][CALL]g()[END]")
    notice = only(fx.Notice, player.host(1, '{"type": "t", "message": "broke", "retryable": false}', Status.ERROR))
    assert notice.code is NoticeCode.TOOL
    assert "broke" in notice.message
    assert only(fx.InterruptRejected, player.host(1, "2")).reason is RejectReason.ALREADY_RESOLVED
    assert player.safe_point() == []


def test_an_error_of_an_anonymous_call_need_not_be_well_formed() -> None:
    player = Player()
    player.write("[CALL]g()[END]")
    assert "oops" in only(fx.Notice, player.host(0, "oops", Status.ERROR)).message


def test_a_client_learns_that_nobody_awaits_its_anonymous_result() -> None:
    """[CALL-042], [INT-020]."""
    player = Player()
    player.write("[CALL]f()[END]")
    rejected = only(fx.InterruptRejected, player.give(InterruptReceived(call_index=0, payload="1", client_seq=4)))
    assert (rejected.reason, rejected.client_seq, rejected.source) == (RejectReason.ALREADY_RESOLVED, 4, "")


def test_a_client_learns_it_whatever_else_is_wrong() -> None:
    """[CALL-044], [INT-022]: held or dispatched."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]f(x=a)[END]")
    for _ in range(2):
        for status, payload in ((None, "1"), (Status.CANCELLED, "1"), (None, "no JSON"), (Status.PROGRESS, "1")):
            event = InterruptReceived(call_index=1, status=status, payload=payload)
            assert only(fx.InterruptRejected, player.give(event)).reason is RejectReason.ALREADY_RESOLVED
        player.send("a", "1")


@pytest.mark.parametrize(
    ("body", "kind"),
    [("f(", "syntax"), ("nope()", "unknown_function"), ("typed()", "invalid_arguments"), ("f(x=zero)", "dependency")],
)
def test_an_anonymous_call_that_is_not_run_is_told_by_runtime(body: str, kind: str) -> None:
    """[CALL-043], [CALL-061], [INT-016], [SES-093]."""
    player = Player()
    player.write(f"[CALL]{body}[END]")
    payload = error_of(player.safe_point(), "@runtime")
    assert (payload["type"], payload["call"]) == (kind, 0)
    assert "id" not in payload
    assert (player.row(0).result, player.row(0).delivery) == (Result.ERROR, Delivery.NOT_AWAITED)


# --- results ---------------------------------------------------------------------------------------------------


def test_results_come_from_the_owner_only() -> None:
    """[CALL-050]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]g()[END]")
    assert only(fx.InterruptRejected, player.send("b", "1")).reason is RejectReason.NOT_OWNER
    assert only(fx.InterruptRejected, player.host(0, "1")).reason is RejectReason.NOT_OWNER


def test_a_second_terminal_result_is_handed_back() -> None:
    """[CALL-051], [ERR-033]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    for status in (None, Status.PARTIAL, Status.ERROR):
        rejected = only(fx.InterruptRejected, player.send("a", "2", status))
        assert (rejected.reason, rejected.payload) == (RejectReason.ALREADY_RESOLVED, "2")


@pytest.mark.parametrize("from_client", [True, False])
def test_a_terminal_result_over_the_limit_ends_its_call(from_client: bool) -> None:
    """[CALL-053], [ERR-032]."""
    player = Player(limits={"max_payload_bytes": 10})
    player.write(f"[CALL]a[HEAD]{'f' if from_client else 'g'}()[END]")
    big = '"' + "é" * 5 + '"'
    effects = player.send("a", big) if from_client else player.host(0, big)
    assert names(effects) == ["InterruptRejected", "InterruptAccepted"]
    rejected = only(fx.InterruptRejected, effects)
    assert (rejected.reason, rejected.payload, rejected.source) == (RejectReason.TOO_LARGE, big, "a")
    assert error_of(player.safe_point(), "a")["type"] == "payload"


@pytest.mark.parametrize(("function", "kind"), [("f", "too large"), ("g", "too large"), ("g", "not JSON")])
def test_a_result_that_cannot_be_taken_fails_what_waits_for_it(function: str, kind: str) -> None:
    """[CALL-034], [CALL-037], [CALL-053], [CALL-063]."""
    player = Player(limits={"max_payload_bytes": 10})
    player.write(f"[CALL]a[HEAD]{function}()[END][CALL]b[HEAD]f(x=a)[END]")
    payload = "0123456789a" if kind == "too large" else "{"
    effects = player.send("a", payload) if function == "f" else player.host(0, payload)
    assert [a.source for a in every(fx.InterruptAccepted, effects)] == ["a", "b"]


def test_an_update_over_the_limit_ends_nothing() -> None:
    """[INT-023]."""
    player = Player(limits={"max_payload_bytes": 10})
    player.write("[CALL]a[HEAD]f()[END]")
    assert names(player.send("a", '"0123456789"', Status.PARTIAL)) == ["InterruptRejected"]
    assert names(player.send("a", "1")) == ["InterruptAccepted"]


def test_a_clients_bad_payload_leaves_its_call_pending() -> None:
    """[INT-013], [INT-023]: the client has it back and may send another."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    assert only(fx.InterruptRejected, player.send("a", "{")).reason is RejectReason.BAD_PAYLOAD
    assert names(player.send("a", "{}")) == ["InterruptAccepted"]


def test_a_hosts_bad_payload_ends_its_call() -> None:
    """[CALL-055]: the host has nothing better to send."""
    player = Player()
    player.write("[CALL]a[HEAD]g()[END]")
    effects = player.host(0, "NaN")
    assert names(effects) == ["InterruptRejected", "InterruptAccepted"]
    assert only(fx.InterruptRejected, effects).payload == "NaN"
    assert error_of(player.safe_point(), "a")["type"] == "payload"
    player.write("[CALL]b[HEAD]g()[END]")
    assert names(player.host(1, "{", Status.PARTIAL)) == ["InterruptRejected"]
    assert names(player.host(1, "1")) == ["InterruptAccepted"]


@pytest.mark.parametrize("function", ["g", "stuck"])
def test_a_time_out_resolves_the_call_and_stops_its_host(function: str) -> None:
    """[CALL-054]: whatever the tool says of cancelling."""
    player = Player(limits={"max_call_time_ms": 1_000})
    player.write(f"[CALL]a[HEAD]{function}()[END][CALL]b[HEAD]f(x=a)[END]")
    assert player.advance(999) == []
    effects = player.advance(1)
    assert names(effects) == ["InterruptAccepted", "InterruptAccepted", "CallCancelRequested"]
    assert only(fx.CallCancelRequested, effects).origin is CancelOrigin.DEADLINE
    player.safe_point()
    assert [source for source, _ in player.committed] == ["a:timeout", "b:error"]
    assert json.loads(player.committed[0][1])["retryable"] is (function == "g")
    assert player.row(0).result is Result.TIMED_OUT
    assert only(fx.InterruptRejected, player.host(0, "1")).reason is RejectReason.ALREADY_RESOLVED


def test_a_time_out_of_an_anonymous_call_injects_nothing() -> None:
    """[CALL-042], [CALL-054]."""
    player = Player()
    player.write("[CALL]g()[END]")
    assert names(player.advance(2_000)) == ["CallCancelRequested"]
    assert player.safe_point() == []


# --- cancelling ------------------------------------------------------------------------------------------------


def test_cancel_of_a_dispatched_call() -> None:
    """[CALL-070], [CALL-073], [CALL-075], [CALL-076], [CALL-077]."""
    player = Player()
    player.write("[CALL]a[HEAD]g()[END][CALL]b[HEAD]f(x=a)[END]")
    effects = player.cancel("a")
    assert names(effects) == ["InterruptAccepted", "InterruptAccepted", "CallCancelRequested", "CancelAnswered"]
    answer = only(fx.CancelAnswered, effects)
    assert (answer.outcome, answer.index, answer.id, answer.client_seq) == (CancelOutcome.CANCELLED, 0, "a", 7)
    assert (answer.side_effects, answer.idempotent) == ("external", True)
    player.safe_point()
    assert [source for source, _ in player.committed] == ["a:cancelled", "b:error"]
    assert "call" in json.loads(player.committed[0][1])["message"]
    assert player.row(0).result is Result.CANCELLED
    assert only(fx.InterruptRejected, player.host(0, "1")).reason is RejectReason.ALREADY_RESOLVED


def test_cancel_of_a_held_call_needs_no_host() -> None:
    """[CALL-073]: whether its tool is cancellable or not."""
    player = Player()
    player.write("[CALL]a[HEAD]g()[END][CALL]b[HEAD]stuck(x=a)[END]")
    effects = player.cancel("b")
    assert names(effects) == ["InterruptAccepted", "CancelAnswered"]
    assert only(fx.CancelAnswered, effects).outcome is CancelOutcome.CANCELLED
    assert not every(fx.CallDispatched, player.host(0, "1"))


@pytest.mark.parametrize(
    ("target", "outcome"),
    [("zero", CancelOutcome.NOT_FOUND), ("s", CancelOutcome.NOT_CANCELLABLE), ("d", CancelOutcome.TOO_LATE)],
)
def test_cancels_that_change_nothing(target: str, outcome: CancelOutcome) -> None:
    """[CALL-071], [CALL-072], [CALL-074]."""
    player = Player()
    player.write("[CALL]s[HEAD]stuck()[END][CALL]d[HEAD]f()[END]")
    player.send("d", '"done"')
    answer = only(fx.CancelAnswered, player.cancel(target))
    assert (answer.outcome, answer.idempotent) == (outcome, False)
    player.safe_point()
    assert player.committed == [("d", '"done"')]
    assert only(fx.CancelAnswered, player.cancel("d")).outcome is CancelOutcome.TOO_LATE
    player.host(0, "1")
    player.safe_point()
    assert player.row(0).result is Result.OK


def test_the_model_takes_a_call_back() -> None:
    """[CALL-078], [CALL-079]."""
    player = Player(limits={"max_pending_calls": 1})
    player.write("[CALL]a[HEAD]g()[END]")
    effects = player.write('[CALL]c[HEAD]cml.cancel(id="a")[END]')
    assert only(fx.CancelAnswered, effects).client_seq == 0
    assert names(effects)[-6:] == [
        "InterruptAccepted",
        "InterruptAccepted",
        "Tokens",
        "CallEmitted",
        "CallCancelRequested",
        "CancelAnswered",
    ]
    assert only(fx.CancelAnswered, effects).origin is CancelOrigin.MODEL
    player.safe_point()
    assert [source for source, _ in player.committed] == ["a:cancelled", "c"]
    assert json.loads(player.committed[1][1]) == {"id": "a", "outcome": "cancelled"}


def test_a_call_that_the_model_takes_back_fails_what_waits_for_it() -> None:
    """[CALL-037], [CALL-078]."""
    player = Player()
    player.write("[CALL]a[HEAD]g()[END][CALL]b[HEAD]f(x=a)[END]")
    effects = player.write('[CALL]cml.cancel(id="a")[END]')
    assert [a.source for a in every(fx.InterruptAccepted, effects)] == ["a", "b"]


@pytest.mark.parametrize("mode", list(ExecutionMode))
def test_an_anonymous_cancel_tells_nobody(mode: ExecutionMode) -> None:
    """[CALL-079]: nor is it held in any mode."""
    player = Player(mode=mode)
    player.write('[CALL]cml.cancel(id="zero")[END]')
    assert (player.row(0).result, player.row(0).delivery) == (Result.OK, Delivery.NOT_AWAITED)
    assert only(fx.CancelAnswered, player.log).outcome is CancelOutcome.NOT_FOUND
    assert player.safe_point() == []


def test_a_cancel_cannot_take_itself_back() -> None:
    player = Player()
    player.write('[CALL]c[HEAD]cml.cancel("c")[END]')
    assert only(fx.CancelAnswered, player.log).outcome is CancelOutcome.NOT_CANCELLABLE
    player.safe_point()
    assert json.loads(player.committed[0][1])["outcome"] == "not_cancellable"


def test_cancel_of_anonymous_calls_by_index() -> None:
    """[CALL-080]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]g()[END][CALL]stuck()[END][CALL]g(x=a)[END][CALL]f([END]")
    answers = [only(fx.CancelAnswered, player.cancel(index=i)) for i in (1, 1, 2, 3, 4, 9)]
    assert [a.outcome for a in answers] == [
        CancelOutcome.CANCELLED,
        CancelOutcome.TOO_LATE,
        CancelOutcome.NOT_CANCELLABLE,
        CancelOutcome.CANCELLED,
        CancelOutcome.TOO_LATE,
        CancelOutcome.NOT_FOUND,
    ]
    assert [r.index for r in every(fx.CallCancelRequested, player.log)] == [1]
    assert (player.row(1).result, player.row(3).result) == (Result.NONE, Result.CANCELLED)
    assert not every(fx.CallCancelRequested, player.advance(2_000)), "what was stopped does not time out"
    player.safe_point()
    assert [source for source, _ in player.committed] == ["@runtime:error"], "only the malformed one is told"


def test_a_scheduled_result_of_a_client_by_index() -> None:
    """[WIRE-038]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    event = InterruptReceived(call_index=0, payload="1", scheduling=Scheduling.WHEN_IDLE)
    assert only(fx.InterruptAccepted, player.give(event)).source == "a"


def test_tool_names_are_listed_for_the_model() -> None:
    """[CALL-062], [ERR-029]."""
    player = Player(tools=(*TOOLS, ToolSpec(name="x.y", parameters=ANY_OBJECT)), client_tools=CLIENT_TOOLS)
    player.write("[CALL]a[HEAD]nope()[END]")
    message = str(error_of(player.safe_point(), "a")["message"])
    assert all(name in message for name in ("nope", "f", "g", "x.y", "cml.cancel"))
