"""Templates around placeholders."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm.prompt.chat import JinjaTemplate
from asynclm.prompt.template import CmlPart, Content, Markup, Message, Part, Role, Segment, TextPart


def message(role: Role, *parts: str | Part) -> Message:
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def template(source: str) -> JinjaTemplate:
    return JinjaTemplate(source, bos="<s>", eos="</s>")


def flat(segments: tuple[Segment, ...]) -> str:
    """What a tokenizer would be given without this module."""
    return "".join(
        segment.text
        if isinstance(segment, Markup)
        else "".join(part.text if isinstance(part, TextPart) else part.cml for part in segment.parts)
        for segment in segments
    )


def loop(expression: str) -> str:
    return "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ X }}</>{% endfor %}{{ eos_token }}".replace(
        "X", expression
    )


def test_markup_and_content_are_kept_apart() -> None:
    segments = template(loop("m.content")).render([message(Role.USER, "<user>", CmlPart("[TRAP] [END]"))])
    assert segments == (
        Markup("<s><user>"),
        Content((TextPart("<user>"), CmlPart("[TRAP] [END]"))),
        Markup("</></s>"),
    )


@pytest.mark.parametrize(
    ("filtered", "strip"),
    [
        ("m.content", lambda s: s),
        ("m.content|trim", str.strip),
        ("m.content.strip()", str.strip),
        ("m.content.lstrip()", str.lstrip),
        ("m.content.rstrip()", str.rstrip),
        ("m.content.strip('\\n')", lambda s: s.strip("\n")),
        ("m.content.lstrip('\\n ')", lambda s: s.lstrip("\n ")),
        ("m.content|tojson", lambda s: json.dumps(s, ensure_ascii=False)),
        ("m.content|tojson(ensure_ascii=true)", json.dumps),
        ("m.content|trim|tojson", lambda s: json.dumps(s.strip(), ensure_ascii=False)),
        ("m.content|tojson|trim", lambda s: json.dumps(s, ensure_ascii=False)),
        ("m.content + m.content", lambda s: s + s),
    ],
)
@pytest.mark.parametrize("text", ["plain", '\n\n  é "x" \t\n ', " \x0b ", '"', "\n \x0b"])
def test_content_meets_the_same_fate_as_in_the_template(filtered: str, strip: object, text: str) -> None:
    made = template(loop(filtered)).render([message(Role.USER, text)])
    assert callable(strip)
    assert flat(made) == f"<s><user>{strip(text)}</></s>"


@given(st.lists(st.text(alphabet=" \n\tab"), max_size=4), st.sampled_from(["m.content", "m.content|trim"]))
def test_trimming_goes_across_parts(parts: list[str], expression: str) -> None:
    whole = "".join(parts)
    source = loop(expression)
    expected = whole.strip() if "trim" in expression else whole
    assert flat(template(source).render([message(Role.USER, *parts)])) == f"<s><user>{expected}</></s>"


def test_an_empty_message_is_shown_to_the_template_as_such() -> None:
    source = "{% for m in messages %}{% if m.content %}[{{ m.content }}]{% else %}-{% endif %}{% endfor %}"
    segments = template(source).render([message(Role.USER, ""), message(Role.USER), message(Role.USER, "x")])
    assert flat(segments) == "--[x]"


def test_a_template_that_loses_a_message_is_refused() -> None:
    with pytest.raises(ValueError, match=r"messages\[1\] \(role tool\): the model's chat template has no place"):
        template("{{ messages[0].content }}").render([message(Role.USER, "a"), message(Role.TOOL, "b")])


def test_a_template_that_refuses_says_why() -> None:
    with pytest.raises(ValueError, match="refuses them: roles must alternate"):
        template("{{ raise_exception('roles must alternate') }}").render([])


@pytest.mark.parametrize(
    "source", ["{{ messages[0].content }}", "{{ messages[5].content + 1 }}", "{{ [] | first + 1 }}"]
)
def test_a_template_that_fails_is_a_value_error(source: str) -> None:
    with pytest.raises(ValueError, match="chat template"):
        template(source).render([])


def test_a_broken_template_is_found_at_once() -> None:
    with pytest.raises(ValueError, match="chat template, line 2"):
        template("\n{% for %}")


@pytest.mark.parametrize(
    "attack",
    ["{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}", "{{ messages.__class__.__base__.__subclasses__() }}"],
)
def test_templates_run_in_a_sandbox(attack: str) -> None:
    try:
        segments = template(attack).render([])
    except ValueError:
        return
    assert "class" not in flat(segments)


def test_what_templates_may_use() -> None:
    source = (
        "{% generation %}a{% endgeneration %}{{ strftime_now('%Y') }}{{ {'x': '<'}|tojson }}"
        "{% for i in [1, 2] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        "{% set ns = namespace(n=1) %}{% set ns.n = 2 %}{{ ns.n }}"
    )
    made = JinjaTemplate(source, bos="", eos="", now=lambda: datetime(2031, 5, 1))
    assert flat(made.render([])) == 'a2031{"x": "<"}12'


@pytest.mark.weights
def test_llama3_trims_and_writes_tool_messages_as_json(llama3_template: JinjaTemplate) -> None:
    segments = llama3_template.render([message(Role.USER, " hi \n"), message(Role.TOOL, 'a "b"')])
    assert flat(segments) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        '<|start_header_id|>ipython<|end_header_id|>\n\n"a \\"b\\""<|eot_id|>'
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
