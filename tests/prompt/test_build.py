"""What models are told of their functions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from asynclm.cml.blocks import Call, Interrupt, Trap
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.text_form import parse
from asynclm.cml.toolspec import ToolSpec
from asynclm.prompt.build import build_prompt, with_section
from asynclm.prompt.chat import JinjaTemplate
from asynclm.prompt.instructions import longest_first, system_section, tool_section
from asynclm.prompt.signatures import json_signature, python_signature
from asynclm.prompt.template import CmlPart, Content, Message, Role, TextPart
from asynclm.session.config import ExecutionMode


def spec(name: str, duration: int | None = None, **properties: Any) -> ToolSpec:
    return ToolSpec(
        name=name,
        description=f"About {name}.",
        parameters={"type": "object", "properties": properties, "required": list(properties)[:1]},
        parameter_order=tuple(properties),
        expected_duration_ms=duration,
    )


TOOLS = (spec("quick", 20), spec("unknown"), spec("slow", 1500, city={"type": "string", "description": "Where."}))


def test_the_slowest_function_is_listed_first_and_the_unknown_last() -> None:
    assert [tool.name for tool in longest_first([*TOOLS, spec("slow2", 1500)])] == ["slow", "slow2", "quick", "unknown"]


def test_a_function_is_listed_with_signature_duration_and_descriptions() -> None:
    assert tool_section(TOOLS, BodyLanguage.PYTHON) == (
        "- slow(city: str) (about 1.5 s)\n  About slow.\n  city: Where.\n"
        "- quick() (about 20 ms)\n  About quick.\n"
        "- unknown()\n  About unknown."
    )
    assert tool_section(TOOLS[:1], BodyLanguage.JSON) == (
        '- {"name": "quick", "parameters": {"type": "object", "properties": {}, "required": []}} (about 20 ms)\n'
        "  About quick."
    )


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "str"),
        ({"type": "integer"}, "int"),
        ({"type": ["number", "null"]}, "float | None"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "bool | None"),
        ({"oneOf": [{"type": "integer"}, {"type": "integer"}]}, "int"),
        ({"type": "array", "items": {"type": "string"}}, "list[str]"),
        ({"type": "array"}, "list"),
        ({"type": "object"}, "dict"),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, '{"a": str}'),
        ({"enum": ["a", 1]}, 'Literal["a", 1]'),
        ({"const": "é"}, 'Literal["é"]'),
        ({"$ref": "#/$defs/Point"}, '{"x": float}'),
        ({}, "Any"),
        (True, "Any"),
    ],
)
def test_types_of_a_schema(schema: Any, expected: str) -> None:
    tool = ToolSpec(
        name="f",
        parameters={
            "type": "object",
            "properties": {"p": schema},
            "required": ["p"],
            "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}}},
        },
    )
    assert python_signature(tool) == f"f(p: {expected})"


def test_a_schema_that_contains_itself_ends() -> None:
    tool = ToolSpec(
        name="f",
        parameters={
            "type": "object",
            "properties": {"p": {"$ref": "#/$defs/Tree"}},
            "$defs": {"Tree": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
        },
    )
    assert re.fullmatch(r"f\(p: (list\[)+Any\]+ = \.\.\.\)", python_signature(tool))


def test_defaults_and_order() -> None:
    tool = ToolSpec(
        name="f",
        parameters={
            "type": "object",
            "properties": {"a": {"type": "string", "default": "x"}, "b": {"type": "integer"}, "c": {"type": "integer"}},
            "required": ["b"],
        },
        parameter_order=("b", "a"),
    )
    assert python_signature(tool) == 'f(b: int, a: str = "x", c: int = ...)'
    assert '"default": "x"' in json_signature(tool)


@pytest.mark.parametrize("mode", ExecutionMode)
@pytest.mark.parametrize("language", BodyLanguage)
def test_every_example_is_well_formed_cml(mode: ExecutionMode, language: BodyLanguage) -> None:
    blocks = [
        block
        for part in system_section(TOOLS, mode, language)
        if isinstance(part, CmlPart)
        for block in parse(part.cml, language)
    ]
    kinds = [type(block) for block in blocks]
    assert Call in kinds
    assert kinds.count(Interrupt) == 1
    assert (Trap in kinds) == (mode is not ExecutionMode.SYNC)
    names = {tool.name for tool in TOOLS}
    assert not {block.invocation.function for block in blocks if isinstance(block, Call)} & names


@pytest.mark.parametrize("mode", ExecutionMode)
@pytest.mark.parametrize("language", BodyLanguage)
def test_no_instruction_spells_a_control_word_as_text(mode: ExecutionMode, language: BodyLanguage) -> None:
    text = "".join(part.text for part in system_section(TOOLS, mode, language) if isinstance(part, TextPart))
    assert not any(control.value in text for control in Control)


@pytest.mark.parametrize("mode", ExecutionMode)
@pytest.mark.parametrize("language", BodyLanguage)
def test_a_hosted_model_is_shown_the_frame_of_an_interrupt_once(mode: ExecutionMode, language: BodyLanguage) -> None:
    """And by itself, as what it is sent: what stands among its own words it would write itself."""
    parts = system_section(TOOLS, mode, language, hosted=True)
    cml = [part.cml for part in parts if isinstance(part, CmlPart)]
    (frame,) = [part for part in cml if Control.INTR.value in part]
    assert (frame.count(Control.INTR.value), frame.startswith(Control.INTR.value)) == (1, True)
    for part in cml:
        parse(part, language)
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    assert not any(control.value in text for control in Control)


def test_what_a_hosted_model_is_told() -> None:
    """Calls with and without names, traps, futures, interrupts, the slowest first; written out to be read."""
    parts = system_section(TOOLS, ExecutionMode.ASYNC, BodyLanguage.PYTHON, hosted=True)
    told = "".join(part.cml if isinstance(part, CmlPart) else part.text for part in parts)
    assert told == (Path(__file__).parent / "hosted_async.txt").read_text(encoding="utf-8").removesuffix("\n")


def test_without_tools_there_is_no_section() -> None:
    assert system_section((), ExecutionMode.ASYNC, BodyLanguage.PYTHON) == ()
    assert system_section((), ExecutionMode.ASYNC, BodyLanguage.PYTHON, hosted=True) == ()


def test_the_section_follows_the_system_message_or_is_one() -> None:
    section = (TextPart("section"),)
    user = Message(Role.USER, (TextPart("hi"),))
    assert with_section([user], section) == (Message(Role.SYSTEM, section), user)
    system = Message(Role.SYSTEM, (TextPart("Be kind."),))
    parts = (TextPart("Be kind."), TextPart("\n\n"), TextPart("section"))
    assert with_section([system, user], section) == (Message(Role.SYSTEM, parts), user)
    assert with_section([Message(Role.SYSTEM, ()), user], section) == (Message(Role.SYSTEM, section), user)
    assert with_section([user], ()) == (user,)


def test_the_section_can_be_left_out() -> None:
    template = JinjaTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", bos="", eos="")
    user = Message(Role.USER, (TextPart("hi"),))
    assert build_prompt([user], TOOLS, template, instructions=False) == (Content((TextPart("hi"),)),)
    assert len(build_prompt([user], TOOLS, template)) == 2
