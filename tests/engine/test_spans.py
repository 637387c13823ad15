"""Copied arguments under the grammar: what may be written is a span of what was asked or found, or a reference."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from asynclm.cml.binding import bind
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine import spans
from asynclm.engine.constraints import Constraint, SessionConstraint, compile_constraint
from asynclm.session.copying import CopySources
from asynclm.session.mask import BlockRule, Kind, Mask

TOKENIZER = ByteTokenizer()
CODEC = bind(TOKENIZER)
INSIDE = frozenset({Kind.TEXT, Kind.HEAD, Kind.END})
PING = ToolSpec(name="send_ping")


def copied(origin: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "x-asynclm-copy": origin, **more}


def tool(name: str, **properties: Any) -> ToolSpec:
    parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    return ToolSpec(name=name, parameters=parameters)


SEND = tool("send", to=copied("request"), text={"type": "string"}, about=copied("results"))
FIND = tool("find", what=copied("any"))
TOOLS = (SEND, PING, FIND)
SOURCES = CopySources(
    request=('write to "Kim"\nand Zoë \U0001f600', "soon\x00 \\ \ud800later"), results=("42", "Raum 7")
)
PYTHON = Constraint(CODEC, TOKENIZER, TOOLS)
JSON = Constraint(CODEC, TOKENIZER, TOOLS, BodyLanguage.JSON)


def takes(session: SessionConstraint, text: str, sources: CopySources = SOURCES, block: int = 1) -> bool:
    """Whether a call may be written; `bits` and `allows` agree all the way."""
    mask = Mask(INSIDE, BlockRule.CALL, block, sources)
    for token_id in [*CODEC.encode_text(text), CODEC.control_ids[Control.END]]:
        bits = session.bits(mask)
        assert session.allows(mask, token_id) == bool(bits[token_id // 32] >> (token_id % 32) & 1)
        if not session.allows(mask, token_id):
            return False
        session.accept(token_id)
    return True


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("Kim", True),
        ('write to "Kim"\nand', True),
        ("Zoë \U0001f600", True),
        ("soon\x00 \\", True),
        (" \\ ", True),
        ("later", True),
        ("", False),
        ("kim", False),
        ("soonlater", False),
        ("\U0001f600soon", False),
        ("42", False),
        ("nd Zoe", False),
    ],
)
@pytest.mark.parametrize("language", BodyLanguage)
def test_what_is_copied_is_a_span_of_one_text(value: str, fits: bool, language: BodyLanguage) -> None:
    spelled = json.dumps(value, ensure_ascii=False)
    call = (
        f"send(to={spelled})"
        if language is BodyLanguage.PYTHON
        else f'{{"name":"send","arguments":{{"to":{spelled}}}}}'
    )
    constraint = PYTHON if language is BodyLanguage.PYTHON else JSON
    assert takes(constraint.session(), call) is fits


@pytest.mark.parametrize(
    ("call", "fits"),
    [
        ('send(to="Kim", text="anything", about="Raum")', True),
        ('send(to="Kim", about="Kim")', False),
        ('send(to="4")', False),
        ("send(to=mail.sender[0])", True),
        ('find(what="Raum 7")', True),
        ('find(what="write")', True),
        ('find(what="Raum 8")', False),
        ("send_ping()", True),
        ('cml.cancel(id="a")', True),
        ("nothing()", False),
    ],
)
def test_origins_and_other_tools(call: str, fits: bool) -> None:
    assert takes(PYTHON.session(), call) is fits


@pytest.mark.parametrize(
    ("call", "fits"),
    [
        ('{"name":"send","arguments":{"text":"x"},"refs":{"to":"mail.sender"}}', True),
        ('{"name":"find","arguments":{},"refs":{"what":"mail"}}', True),
        ('{"name":"find","arguments":{}}', False),
        ('{"name":"find","arguments":{"what":"x"}}', False),
    ],
)
def test_with_nothing_to_copy_references_are_left(call: str, fits: bool) -> None:
    assert takes(JSON.session(), call, CopySources()) is fits


def test_with_nothing_to_copy_a_python_call_takes_references() -> None:
    assert takes(PYTHON.session(), "send(to=mail)", CopySources())
    assert not takes(PYTHON.session(), 'send(to="', CopySources())


def test_what_comes_between_two_blocks_may_be_copied_in_the_second() -> None:
    session = PYTHON.session()
    assert not takes(session, 'find(what="new")', SOURCES, 1)
    later = CopySources(SOURCES.request, (*SOURCES.results, "the news"))
    assert takes(session, 'find(what="new")', later, 2)
    assert takes(session, 'find(what="Raum")', later, 3)


def test_the_rules_are_compiled_anew_only_where_texts_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    session, made = PYTHON.session(), []
    real = Constraint.copying
    monkeypatch.setattr(Constraint, "copying", lambda self, sources: made.append(sources) or real(self, sources))
    for block, sources in enumerate((SOURCES, SOURCES, CopySources(("a",)), SOURCES)):
        takes(session, "send_ping()", sources, block)
    assert made == [SOURCES, CopySources(("a",)), SOURCES]


def test_tools_that_copy_nothing_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Constraint, "copying", None)
    assert takes(Constraint(CODEC, TOKENIZER, (PING,)).session(), "send_ping()", None)  # type: ignore[arg-type]


def test_traps_copy_nothing() -> None:
    session = PYTHON.session()
    assert session.allows(Mask(INSIDE, BlockRule.TRAP, 1, SOURCES), ord("a"))


def test_texts_that_are_too_long_are_left_to_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MOST_CHARACTERS", 30)
    assert takes(PYTHON.session(), 'send(to="anything", about="Raum 7")')
    assert not takes(PYTHON.session(), 'send(to=""')
    assert not takes(PYTHON.session(), 'send(to="a", about="b")')


def test_texts_that_do_not_compile_are_left_to_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "span_rules", lambda *_: iter(["copy_any: nonsense_that_is_no_rule"]))
    assert takes(PYTHON.session(), 'send(to="anything")')


def test_texts_up_to_the_limit_compile() -> None:
    words = " ".join(f"word{number}" for number in range(8_000))[: spans.MOST_CHARACTERS]
    session = PYTHON.session()
    assert takes(session, f'send(to="{words[5_000:5_100]}")', CopySources((words,)))
    assert not takes(session, 'send(to="word word")', CopySources((words,)), 2)


def test_what_else_the_schema_asks_of_a_copy_is_named() -> None:
    spec = tool("f", a=copied("any", maxLength=5, description="x"), b={"type": "integer", "not": {"const": 3}})
    constraint = compile_constraint(CODEC, TOKENIZER, (spec, PING))
    assert set(constraint.unenforced) == {"f: parameters/properties/a/maxLength", "f: parameters/properties/b/not"}
    assert takes(constraint.session(), 'f(a="Kim")')
    assert PYTHON.unenforced == ()


def test_a_mask_may_be_computed_on_another_thread() -> None:
    """As the engine does while the forward pass runs: the block begins on one thread and goes on upon another."""
    session, given = PYTHON.session(), []
    mask = Mask(INSIDE, BlockRule.CALL, 1, SOURCES)
    for token_id in CODEC.encode_text('find(what="Rau'):
        worker = threading.Thread(target=lambda: given.append(session.bits(mask)))
        worker.start()
        worker.join()
        assert given[-1][token_id // 32] >> (token_id % 32) & 1
        session.accept(token_id)
