from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.cml.attempts import attempt
from tests.cml.strategies import FEW, FRAGMENTS, invocations, names, texts

from asynclm.cml import bodies as module
from asynclm.cml.blocks import Argument, CmlError, CmlErrorCode, Invocation, Literal, Reference
from asynclm.cml.bodies import bind_positional, parse_body, render_body
from asynclm.cml.control import BodyLanguage
from asynclm.cml.literals import render_literal

PYTHON, JSON = BodyLanguage.PYTHON, BodyLanguage.JSON
B, R, I = CmlErrorCode.BAD_BODY, CmlErrorCode.REPEATED_ARGUMENT, CmlErrorCode.RESERVED_ID  # noqa: E741

python_like = st.lists(
    st.sampled_from([*"f(a=1,b)'\" [.]{:}\n", "f(", "x=", "True", "a.b[0]", "'s'", '"s"', "null", *FRAGMENTS]),
    max_size=12,
).map("".join)
json_like = st.lists(
    st.sampled_from(
        [
            '{"name":"f"',
            '"name":',
            '"arguments":{',
            '"refs":{',
            '"a":',
            '"b"',
            "1",
            "1.50",
            *"{}[],: ",
            '"a.b"',
            '"\\ud83d"',
            *FRAGMENTS,
        ]
    ),
    max_size=12,
).map("".join)


def outcome(language: BodyLanguage, text: str) -> Any:
    found = attempt(parse_body, language, text)
    if isinstance(found, Invocation):
        return found
    assert 0 <= found.offset <= len(text)
    return found.code, found.offset


@settings(max_examples=FEW)
@given(st.data(), st.sampled_from(BodyLanguage))
def test_what_is_written_is_read_back(data: st.DataObject, language: BodyLanguage) -> None:
    invocation = data.draw(invocations(language))
    body = render_body(language, invocation)
    assert parse_body(language, body) == parse_body(language, f"\n {body}\t\r") == invocation


@given(st.one_of(texts, python_like, json_like), st.sampled_from(BodyLanguage))
def test_any_text_is_a_body_with_one_canonical_form_or_an_error_in_the_text(text: str, language: BodyLanguage) -> None:
    found = outcome(language, text)
    if isinstance(found, Invocation):
        assert parse_body(language, render_body(language, found)) == found


@given(st.one_of(json_like, invocations(JSON).map(lambda i: render_body(JSON, i))))
@example('{"name":"f","arguments":{"a":"\\ud83d"}}')
@example('{"name":"f","arguments":{"\\ud83d":1}}')
@example('{"name":"f","arguments":{"a":1},"refs":{"a":"b"}}')
@example('{"name":"f","arguments":{"a":' + "[" * 65 + "]" * 65 + "}}")
def test_the_fast_way_says_what_the_slow_one_says(text: str) -> None:
    fast = module._parse_json_fast(text)
    if fast is not None:
        assert fast == module._parse_json(text)


@given(
    names,
    st.dictionaries(names.filter(lambda n: n not in ("None", "True", "False")), st.integers() | st.text("ab ,)('\"")),
)
def test_python_call_reads_what_python_reads(function: str, keywords: dict[str, object]) -> None:
    text = f"{function}({', '.join(f'{name}={value!r}' for name, value in keywords.items())})"
    found = parse_body(PYTHON, text)
    assert found == Invocation(function, tuple(Argument(n, Literal(render_literal(v))) for n, v in keywords.items()))
    if function.isidentifier() and function not in ("True", "False", "None"):
        with_python = _ast_keywords(text)
        assert with_python is None or with_python == keywords


def _ast_keywords(text: str) -> dict[str | None, object] | None:
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:  # a Python keyword as a name
        return None
    assert isinstance(call, ast.Call)
    return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


def arguments(**values: str | Reference) -> tuple[Argument, ...]:
    return tuple(Argument(n, v if isinstance(v, Reference) else Literal(v)) for n, v in values.items())


@pytest.mark.parametrize(
    ("text", "invocation"),
    [
        ("f()", Invocation("f")),
        (" f ( ) ", Invocation("f")),
        ("a.b.c(x=1)", Invocation("a.b.c", arguments(x="1"))),
        ("all(within=2, true=3)", Invocation("all", arguments(within="2", true="3"))),
        ("f(x = 1 , y='q')", Invocation("f", arguments(x="1", y='"q"'))),
        ("f(x=True, y=None, z=false)", Invocation("f", arguments(x="true", y="null", z="false"))),
        ("f(x=a, y=b.c[0].d)", Invocation("f", arguments(x=Reference("a"), y=Reference("b", ("c", 0, "d"))))),
        ("f(x=a\n)", Invocation("f", arguments(x=Reference("a")))),
        ("f(1, a, [ ], x={'k': 1.50})", Invocation("f", (
            Argument(None, Literal("1")), Argument(None, Reference("a")), Argument(None, Literal("[]")),
            Argument("x", Literal('{"k":1.50}')),
        ))),
        ('cml.cancel(id="a")', Invocation("cml.cancel", arguments(id='"a"'))),
        ('f(x="[END] [CALL]")', Invocation("f", arguments(x='"[END] [CALL]"'))),
    ],
)  # fmt: skip
def test_python_call(text: str, invocation: Invocation) -> None:
    assert parse_body(PYTHON, text) == invocation


@pytest.mark.parametrize(
    ("text", "code", "offset"),
    [
        ("", B, 0),
        ("  ", B, 2),
        ("f", B, 0),
        ("f.(x=1)", B, 0),
        ("f .g()", B, 0),
        ("1f()", B, 0),
        ("é()", B, 0),
        ("x" * 65 + "()", B, 0),
        ("f(", B, 2),
        ("f(x", B, 3),
        ("f(x=", B, 4),
        ("f(x=1", B, 5),
        ("f(x=1,", B, 6),
        ("f(x=1,)", B, 6),
        ("f(,)", B, 2),
        ("f(x==1)", B, 4),
        ("f(x=1 y=2)", B, 6),
        ("f(x=1))", B, 6),
        ("f(x=1); g()", B, 6),
        ("f(x=g())", B, 5),
        ("f(x=1+1)", B, 5),
        ("f(x=-a)", B, 4),
        ("f(x=(1, 2))", B, 4),
        ("f(x=[a])", B, 5),
        ("f(x={'k': a})", B, 10),
        ("f(x=a. b)", B, 5),
        ("f(x=a[ 0])", B, 5),
        ("f(x=a[-1])", B, 5),
        ("f(x=01)", B, 5),
        ("f(x=1_000)", B, 5),
        ("f(x=0x10)", B, 5),
        ("f(x=1j)", B, 5),
        ("f(x=f'a')", B, 5),
        ("f(x='''a''')", B, 6),
        ("f(x='a' 'b')", B, 8),
        ("f(*a)", B, 2),
        ("f(x=1, 2)", B, 7),
        ("f(x=1, a)", B, 7),
        ("f(x=nan) # c", B, 9),
        ("f(x=" + "y" * 65 + ")", B, 4 + 64),
        ("f(" + "y" * 65 + "=1)", B, 2 + 64),
        ("f(x=1, x=2)", R, 7),
        ("f(x=[1], y=2, x=[3])", R, 14),
        ("f(x={'k': 1, 'k': 2})", R, 13),
        ("f(x=within)", I, 4),
        ("f(cml.x)", I, 2),
        ("f(x=true.y)", I, 4),
    ],
)  # fmt: skip
def test_what_is_no_python_call_is_refused_where_it_goes_wrong(text: str, code: CmlErrorCode, offset: int) -> None:
    assert outcome(PYTHON, text) == (code, offset)


@pytest.mark.parametrize(
    ("text", "invocation"),
    [
        ('{"name":"f"}', Invocation("f")),
        (' { "name" : "f" , "arguments" : { } } ', Invocation("f")),
        ('{"arguments":{"x":1},"name":"f"}', Invocation("f", arguments(x="1"))),
        ('{"refs":{"y":"a[0].b"},"name":"f","arguments":{"x":"a"}}',
         Invocation("f", arguments(x='"a"', y=Reference("a", (0, "b"))))),
        ('{"name":"any name, é","arguments":{"a key":[1.50, {}]}}',
         Invocation("any name, é", (Argument("a key", Literal("[1.50,{}]")),))),
        ('{"name":"","arguments":{"":null}}', Invocation("", (Argument("", Literal("null")),))),
    ],
)  # fmt: skip
def test_json_call(text: str, invocation: Invocation) -> None:
    assert parse_body(JSON, text) == invocation


@pytest.mark.parametrize(
    ("text", "code", "offset"),
    [
        ("", B, 0),
        ("f()", B, 0),
        ("[]", B, 0),
        ("{}", B, 0),
        ('{"arguments":{}}', B, 0),
        ('{"name":1}', B, 8),
        ('{"name":"f","arguments":[]}', B, 24),
        ('{"name":"f","arguments":"{}"}', B, 24),
        ('{"name":"f","refs":[]}', B, 19),
        ('{"name":"f","refs":{"x":1}}', B, 24),
        ('{"name":"f","refs":{"x":"a b"}}', B, 24),
        ('{"name":"f","refs":{"x":"all"}}', I, 24),
        ('{"name":"f","more":1}', B, 12),
        ('{"name":"f"} {}', B, 13),
        ('{"name":"f",}', B, 12),
        ('{"name":"f","name":"g"}', R, 12),
        ('{"name":"f","arguments":{"x":1,"x":2}}', R, 31),
        ('{"name":"f","arguments":{"x":1},"refs":{"x":"a"}}', R, 40),
        ('{"name":"f","refs":{"x":"a"},"arguments":{"x":1}}', R, 42),
        ('{"name":"f","arguments":{"x":NaN}}', B, 29),
        ('{"name":"f","arguments":{"x":"\\ud83d"}}', B, 29),
        ('{"name":"\\ud83d"}', B, 8),
        ("{'name':'f'}", B, 1),
        ('{"name":"f","arguments":{"x":True}}', B, 29),
        ('{"name":"f","arguments":{"x":' + "[" * 100_000, B, 29 + 64),
    ],
)  # fmt: skip
def test_what_is_no_json_call_is_refused_where_it_goes_wrong(text: str, code: CmlErrorCode, offset: int) -> None:
    assert outcome(JSON, text) == (code, offset)


@pytest.mark.parametrize(
    "invocation",
    [
        Invocation("a b"),
        Invocation(""),
        Invocation("f."),
        Invocation("f", arguments(**{"a b": "1"})),
        Invocation("f", arguments(x=Reference("all"))),
    ],
)  # fmt: skip
def test_what_python_call_cannot_spell_is_not_written(invocation: Invocation) -> None:
    with pytest.raises(CmlError):
        render_body(PYTHON, invocation)


def test_json_call_cannot_spell_positional_arguments() -> None:
    with pytest.raises(CmlError, match="positional"):
        render_body(JSON, Invocation("f", (Argument(None, Literal("1")),)))


def test_canonical_bodies() -> None:
    invocation = parse_body(PYTHON, "send( to = chair.email,n=1.50 , b = 'x' )")
    assert render_body(PYTHON, invocation) == 'send(to=chair.email, n=1.50, b="x")'
    assert render_body(JSON, invocation) == '{"name":"send","arguments":{"n":1.50,"b":"x"},"refs":{"to":"chair.email"}}'


def test_positional_arguments_take_their_names_from_the_order() -> None:
    invocation = parse_body(PYTHON, "f(1, a, z=3)")
    assert bind_positional(invocation, ("x", "y", "z")) == parse_body(PYTHON, "f(x=1, y=a, z=3)")
    named = parse_body(PYTHON, "f(z=3)")
    assert bind_positional(named, ()) is named


@pytest.mark.parametrize(
    ("text", "order", "code"),
    [("f(1)", (), B), ("f(1, 2)", ("x",), B), ("f(1, x=2)", ("x",), R), ("f(1, 2, z=3, y=4)", ("x", "y"), R)],
)
def test_positional_arguments_without_a_name_or_with_a_taken_one_are_refused(
    text: str, order: tuple[str, ...], code: CmlErrorCode
) -> None:
    with pytest.raises(CmlError) as caught:
        bind_positional(parse_body(PYTHON, text), order)
    assert caught.value.code is code


def test_references_are_listed_in_written_order() -> None:
    invocation = parse_body(PYTHON, "f(b.x, 1, y=a)")
    assert invocation.references == (Reference("b", ("x",)), Reference("a"))
