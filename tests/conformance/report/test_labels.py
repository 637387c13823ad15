"""Messages on the wire are told in a few words: the kind, and the fields that tell something."""

from __future__ import annotations

import pytest
from tests.conformance.report.records import LONG, client, conversation, server, tokens

from asynclm.conformance.v1 import results_pb2
from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.report.labels import in_full, label, tokens_label


def words(exchange: results_pb2.Exchange) -> str:
    return "".join(span.text for span in label(exchange))


def test_the_events_of_a_conversation() -> None:
    assert [words(exchange) for exchange in conversation() if exchange.server.WhichOneof("event") != "tokens"] == [
        "start model=“script:case-1” messages=1",
        "started session_id=“s-1” model=“script:case-1” credit=0",
        "grant tokens=23",
        "call_emitted index=0 id=“a” function=“f” raw=“f(x=1)”",
        'interrupt source=“a” payload=“{"v": 1}”',
        'interrupt_committed number=0 source=“a” status=OK payload=“{"v": 1}” ids=[12]',
        "finished reason=STOP calls=0 interrupts=0",
        "the rpc ends: OK",
    ]


@pytest.mark.parametrize(
    ("exchange", "told"),
    [
        (
            server(
                1, trap_entered=session_pb2.TrapEntered(trap=types_pb2.Trap(quantifier=1, ids=["a", "b"], within_ms=50))
            ),
            "trap_entered trap=(quantifier=ALL ids=[“a”, “b”] within_ms=50)",
        ),
        (server(1, trap_exited=session_pb2.TrapExited(timed_out=True)), "trap_exited timed_out=true"),
        (client(2, cancel_call=session_pb2.CancelCall(index=0)), "cancel_call index=0"),
        (client(2, cancel_call=session_pb2.CancelCall(id="a")), "cancel_call id=“a”"),
        (client(2, pause=session_pb2.Pause()), "pause"),
        (server(1), "an event without content"),
        (server(1, notice=session_pb2.Notice(code=99)), "notice code=99"),  # type: ignore[arg-type]
        (client(1, start=session_pb2.Start(prompt_ids=types_pb2.TokenIds(ids=[1, 2]))), "start prompt_ids=2"),
        (
            client(1, start=session_pb2.Start(tools=[types_pb2.ToolSpec(name="f"), types_pb2.ToolSpec(name="g")])),
            "start prompt_ids=0 tools=f, g",
        ),
    ],
)
def test_other_events(exchange: results_pb2.Exchange, told: str) -> None:
    assert words(exchange) == told


def test_control_tokens_are_set_off_from_text_that_spells_them() -> None:
    spans = tokens_label(tokens(1, 0, "[END]", control=types_pb2.CONTROL_TOKEN_END).server.tokens)
    assert [(span.text, span.style) for span in spans] == [("[END]", "plain"), ("[END]", "control")]


def test_tokens_without_text_are_counted() -> None:
    (span,) = tokens_label(session_pb2.Tokens(ids=[1, 2, 3]))
    assert span.text == "(3 ids)"


def test_values_and_whole_messages_are_cut() -> None:
    long = client(1, interrupt=session_pb2.Interrupt(source="a", payload=LONG))
    assert len(words(long)) < 300
    assert in_full(long).endswith("characters)")
    assert len(in_full(long)) < 5000
