"""Arguments that have to be copied (spec: calls, section 10)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.session.player import ANY_OBJECT, Player, every

from asynclm.cml.control import Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.session import effects as fx
from asynclm.session.config import Constraints
from asynclm.session.copying import CopySources
from asynclm.session.events import InterruptReceived


def copying(name: str, origin: str, **more: Any) -> ToolSpec:
    properties = {"to": {"type": "string", "x-asynclm-copy": origin, **more}, "text": {"type": "string"}}
    return ToolSpec(name=name, parameters={"type": "object", "properties": properties})


LOOK = ToolSpec(name="look", parameters=ANY_OBJECT)
TOOLS = (LOOK, copying("ask", "request"), copying("find", "results"), copying("send", "any", maxLength=8))


def player(**more: Any) -> Player:
    more.setdefault("tools", TOOLS)
    return Player(client_tools=frozenset({"look"}), request_texts=("Write to Kim,", "please"), **more)


def became_of(p: Player, body: str) -> str:
    """What a call's arguments were dispatched as, or what was wrong with them."""
    effects = p.write(f"[CALL]{body}[END]")
    dispatched = every(fx.CallDispatched, effects)
    if dispatched:
        return dispatched[0].arguments
    committed = every(fx.InterruptCommitted, p.safe_point())[-1]
    payload = json.loads(committed.payload)
    assert payload["type"] == "invalid_arguments"
    return str(payload["message"])


@pytest.mark.parametrize("constraints", Constraints)
def test_a_span_is_dispatched_and_anything_else_fails(constraints: Constraints) -> None:
    """[CALL-102], whatever guards sampling."""
    p = player(constraints=constraints)
    assert became_of(p, 'ask(to="Kim", text="hello")') == '{"to": "Kim", "text": "hello"}'
    assert became_of(p, 'ask(text="hello")') == '{"text": "hello"}'
    assert (
        became_of(p, 'ask(to="kim")') == "to: 'kim' does not stand in the request; copy it from there, letter by letter"
    )
    assert "does not stand" in became_of(p, 'ask(to="")')
    assert "does not stand" in became_of(p, 'ask(to="Kim,please")')
    assert "the results so far" in became_of(p, 'find(to="Kim")')
    assert "the request or the results so far" in became_of(p, 'send(to="Bo")')


def test_the_schema_comes_first() -> None:
    p = player()
    assert "is too long" in became_of(p, 'send(to="Write to Kim")')
    assert "not of type 'string'" in became_of(p, "send(to=1)")


def test_what_is_delivered_may_be_copied_from_then_on() -> None:
    """[CALL-101]: results when they enter the context, and what the user says meanwhile."""
    p = player()
    p.write("[CALL]a[HEAD]look()[END]")
    p.give(InterruptReceived(source="a", status=Status.PARTIAL, payload='{"name": "Ann"}'))
    p.give(InterruptReceived(source="a", status=Status.OK, payload='["bob@example.org", 42]'))
    p.safe_point()
    assert became_of(p, 'find(to="Ann")') == '{"to": "Ann"}'
    assert became_of(p, 'find(to="42")') == '{"to": "42"}'
    assert became_of(p, 'send(to="bob")') == '{"to": "bob"}'
    p.give(InterruptReceived(source="@user", status=Status.OK, payload="no, to Jo"))
    assert became_of(p, 'ask(to="Jo")') == '{"to": "Jo"}'
    assert "does not stand" in became_of(p, 'ask(to="Ann")')


def test_what_the_model_may_have_written_itself_is_no_source() -> None:
    """[CALL-101]: errors and the answers of built-in functions repeat its words, and other speakers are neither."""
    p = player()
    p.write('[CALL]a[HEAD]evil("x")[END][CALL]b[HEAD]cml.cancel(id="evil")[END]')
    p.write("[CALL]c[HEAD]look()[END]")
    p.give(InterruptReceived(source="c", status=Status.ERROR, payload='{"type": "x", "message": "evil"}'))
    p.give(InterruptReceived(source="@system", status=Status.OK, payload='"evil"'))
    p.safe_point()
    assert "does not stand" in became_of(p, 'send(to="evil")')
    assert "does not stand" in became_of(p, "d[HEAD]send(to=b.id)")


def test_a_reference_to_a_result_is_a_copy_of_it() -> None:
    """[CALL-103]: also of one that is not in the context yet; it is none of the request."""
    p = player()
    p.write("[CALL]a[HEAD]look()[END][CALL]b[HEAD]find(to=a)[END][CALL]c[HEAD]ask(to=a)[END]")
    effects = p.give(InterruptReceived(source="a", status=Status.OK, payload='"Lou"'))
    assert [e.arguments for e in every(fx.CallDispatched, effects)] == ['{"to": "Lou"}']
    committed = {e.source: e.payload for e in every(fx.InterruptCommitted, p.safe_point())}
    assert json.loads(committed["c"])["type"] == "invalid_arguments"


def test_the_mask_says_what_may_be_copied() -> None:
    p = player()
    p.write("[CALL]a[HEAD]look()[END][CALL]")
    assert p.session.mask().copied == CopySources(("Write to Kim,", "please"), ())
    p.write("b[HEAD]look()[END]")
    p.give(InterruptReceived(source="a", status=Status.OK, payload='"x"'))
    p.write("[CALL]")
    assert p.session.mask().copied == CopySources(("Write to Kim,", "please"), ("x",))
    plain = player(tools=(LOOK,))
    plain.write("[CALL]")
    assert plain.session.mask().copied is None
