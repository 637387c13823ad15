"""Templates in the constructs of Llama 3's own, rendered as transformers renders them.

The templates here are written for the test; they use what the published ones of Llama 3, 3.1, 3.2 and 3.3 use: tests of
what is defined, dates from the clock, slices of the messages, tools and built-in tools as JSON, refusals.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from asynclm.prompt.chat import JinjaTemplate
from asynclm.prompt.template import Markup, Message, Role, Segment, TextPart

NOW = datetime(2026, 3, 9, 12, 0)

FIRST = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim "
    "+ '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""As in Llama 3: no date, no tools."""

SECOND = """{{- bos_token }}
{%- if given_tools is defined %}
    {%- set tools = given_tools %}
{%- endif %}
{%- if not with_the_user is defined %}
    {%- set with_the_user = true %}
{%- endif %}
{%- if not day is defined %}
    {%- if strftime_now is defined %}
        {%- set day = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set day = "1 Jan 2000" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message comes out of its place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: some\\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code') | join(", ") + "\\n\\n" }}
{%- endif %}
{{- "Day: " + day + "\\n\\n" }}
{%- if tools is not none and not with_the_user %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system }}
{{- "<|eot_id|>" }}
{%- if with_the_user and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first = messages[0]['content'] | trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Where should the tools go without a user's message?") }}
    {%- endif %}
    {{- first + "<|eot_id|>" }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim }}
        {{- '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("One call at a time!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}{{- tool_call.arguments | tojson }}{{- "}" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
"""As in Llama 3.1 and later."""

THIRD = SECOND.replace(
    "{{- message.content | tojson }}",
    "{{- message.content if message.content is string else message.content | tojson }}",
)

CONVERSATIONS: dict[str, list[tuple[Role, str]]] = {
    "one-turn": [(Role.USER, "Hi")],
    "system": [(Role.SYSTEM, "  Be brief.\n"), (Role.USER, "\n\n Hi there \t")],
    "turns": [(Role.USER, "a"), (Role.ASSISTANT, " b "), (Role.USER, "c"), (Role.ASSISTANT, "d"), (Role.USER, "e")],
    "markers": [(Role.SYSTEM, "{{ bos_token }}"), (Role.USER, '<|eot_id|>{% raw %} {# no #} \\n "é" <b> & \'')],
    "tool": [(Role.USER, "a"), (Role.TOOL, '{"sky": "clear", "é": [1, "<"]}'), (Role.USER, "b")],
    "empty": [(Role.SYSTEM, ""), (Role.USER, "a"), (Role.ASSISTANT, ""), (Role.USER, "b")],
}


def flat(segments: tuple[Segment, ...]) -> str:
    return "".join(
        s.text if isinstance(s, Markup) else "".join(p.text for p in s.parts if isinstance(p, TextPart))
        for s in segments
    )


class _Clock(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return NOW


@pytest.fixture
def transformers_renders(monkeypatch: pytest.MonkeyPatch) -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import chat_template_utils

    chat_template_utils._compile_jinja_template.cache_clear()
    monkeypatch.setattr(chat_template_utils, "datetime", _Clock)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    )

    def render(source: str, conversation: list[tuple[Role, str]]) -> str:
        messages = [{"role": role.value, "content": text} for role, text in conversation]
        rendered: str = tokenizer.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=True
        )
        return rendered

    return render


@pytest.mark.parametrize("conversation", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("source", [FIRST, SECOND, THIRD], ids=["3", "3.1", "3.2"])
def test_rendered_as_by_transformers(
    source: str, conversation: list[tuple[Role, str]], transformers_renders: Any
) -> None:
    template = JinjaTemplate(source, bos="<|begin_of_text|>", eos="<|eot_id|>", now=lambda: NOW)
    ours = flat(template.render([Message(role, (TextPart(text),)) for role, text in conversation]))
    assert ours == transformers_renders(source, conversation)
    assert ours.startswith("<|begin_of_text|><|start_header_id|>")
    assert ours.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
    assert ("Day: 09 Mar 2026" in ours) is (source is not FIRST)


def test_a_template_that_writes_lists_of_parts_sees_text() -> None:
    """Multimodal ones ask whether the content is a string; it is."""
    source = (
        "{% if messages[0].content is string %}{{ messages[0].content }}{% else %}{{ raise_exception('x') }}{% endif %}"
    )
    template = JinjaTemplate(source, bos="", eos="")
    assert flat(template.render([Message(Role.USER, (TextPart("plain"),))])) == "plain"
