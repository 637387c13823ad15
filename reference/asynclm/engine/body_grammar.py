"""The grammar of one session's call bodies: one rule for each declared tool, in the canonical style.

Arguments come in any order, each at most once and all required ones at least once: rules carry the set of arguments
given so far as a bit set (llguidance's parametric grammars). A value is JSON text that fits the parameter's schema, or
a reference. `grammar/preamble/constrain.lark` and `grammar/spacing/write.lark` give the names used here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asynclm.cml.control import NAME, BodyLanguage
from asynclm.cml.copying import COPY_KEYWORD, CopyFrom
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.guidance import json_rule
from asynclm.engine.schemas import Complaint, ParameterSchemas
from asynclm.engine.spans import value_rule

MAX_PARAMETERS = 64
"""Bits of a rule's parameter; tools with more parameters have their arguments free under the grammar."""

_ANY = json_rule({})


@dataclass(frozen=True, slots=True)
class BodyGrammar:
    """Rules for `body` and what it needs.

    Attributes:
        rules: Lark text.
        unenforced: what of the tools' schemas the rules do not hold, as `tool: path`.
    """

    rules: str
    unenforced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Parameters:
    """One tool's parameters as rules: for each name its value's rule; required names come first.

    Those of `unwritable` numbers have no value that could be written; they can be references.
    """

    names: tuple[str, ...]
    required: int
    additional: bool
    unwritable: frozenset[int] = frozenset()

    @property
    def complete(self) -> str:
        """The condition under which every required argument is given."""
        return f" %if is_ones([0:{self.required}])" if self.required else ""


def body_grammar(
    tools: Sequence[ToolSpec],
    language: BodyLanguage,
    complaint: Complaint,
    *,
    builtins: bool = True,
    copied: Collection[CopyFrom] = tuple(CopyFrom),
) -> BodyGrammar:
    """Makes the rules of a session's call bodies.

    Args:
        tools: what the model may call; if their parameters are copied, the rules need those of `spans`, too.
        language: the language of call bodies.
        complaint: what the grammar's compiler has against a schema; what it names is left out and listed.
        builtins: whether `cml.cancel` is among them.
        copied: origins of which something can be copied.

    Raises:
        ValueError: under `python_call`, a tool's or a parameter's name is not a NAME ([CML-014]).
    """
    lines: list[str] = []
    unenforced: list[str] = []
    for number, tool in enumerate(tools):
        if language is BodyLanguage.PYTHON:
            _check_names(tool)
        rule = f"tool_{number}"
        parameters, values, missed = _parameters(tool, rule, complaint, copied)
        unenforced += [f"{tool.name}: {path}" for path in missed]
        lines += values
        write = _python_rules if language is BodyLanguage.PYTHON else _json_rules
        lines += write(tool.name, rule, parameters)
    alternatives = [f"tool_{number}" for number in range(len(tools))]
    if builtins:
        alternatives.append("cancel")
        lines += _CANCEL[language]
    if language is BodyLanguage.JSON:
        lines.append('JSON_REFERENCE: "\\"" REFERENCE "\\""')
    lines.append(f"body: {' | '.join(alternatives)}")
    return BodyGrammar("\n".join(lines) + "\n", tuple(unenforced))


_CANCEL = {
    BodyLanguage.PYTHON: ['cancel: "cml.cancel" LPAR "id" EQUALS CANCEL_ID RPAR', 'CANCEL_ID: "\\"" ID "\\""'],
    BodyLanguage.JSON: [
        'cancel: LBRACE "\\"name\\"" COLON "\\"cml.cancel\\"" COMMA "\\"arguments\\"" COLON LBRACE "\\"id\\"" COLON '
        "CANCEL_ID RBRACE RBRACE",
        'CANCEL_ID: "\\"" ID "\\""',
    ],
}


def _check_names(tool: ToolSpec) -> None:
    if not all(NAME.fullmatch(part) for part in tool.name.split(".")):
        raise ValueError(f"tool {tool.name[:80]!r}: under python_call a name is one or more NAMEs joined by dots")
    for name in (*tool.properties, *tool.required):
        if NAME.fullmatch(name) is None:
            raise ValueError(f"tool {tool.name[:80]!r}: parameter {name[:80]!r} is not a NAME; use json_call")


def _parameters(
    tool: ToolSpec, rule: str, complaint: Complaint, copied: Collection[CopyFrom]
) -> tuple[_Parameters, list[str], tuple[str, ...]]:
    """A tool's parameters, the rules of their values, and what these do not hold."""
    ready = ParameterSchemas(_without_copies(tool), complaint)
    names = sorted(ready.schemas, key=lambda name: name not in ready.required)
    if len(names) > MAX_PARAMETERS:
        missed = f"parameters: more than {MAX_PARAMETERS} of them; their values and number"
        return _Parameters((), 0, True), [f"{rule}_any: {_ANY}"], (missed,)
    rules = {name: json_rule(schema) for name, schema in ready.schemas.items()}
    rules |= {name: value_rule(origin) for name, origin in tool.copies.items()}
    values = [f"{rule}_value_{i}: {rules[name]}" for i, name in enumerate(names)]
    unwritable = frozenset(i for i, name in enumerate(names) if name in tool.copies and tool.copies[name] not in copied)
    values = [value for i, value in enumerate(values) if i not in unwritable]
    if ready.additional is not None:
        values.append(f"{rule}_any: {json_rule(ready.additional)}")
    required = sum(name in ready.required for name in names)
    unenforced = (*ready.unenforced, *_beside_copies(tool))
    return _Parameters(tuple(names), required, ready.additional is not None, unwritable), values, unenforced


_ANNOTATIONS = frozenset(
    {
        COPY_KEYWORD,
        "type",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
    }
)


def _without_copies(tool: ToolSpec) -> Mapping[str, Any]:
    """The parameters of a tool, with nothing but the type of those that are copied."""
    properties = {name: {"type": "string"} if name in tool.copies else s for name, s in tool.properties.items()}
    return {**tool.parameters, "properties": properties} if tool.copies else tool.parameters


def _beside_copies(tool: ToolSpec) -> Iterator[str]:
    """What the schemas of copied parameters ask for besides; spans are not looked at for it."""
    for name in tool.copies:
        yield from (f"parameters/properties/{name}/{key}" for key in tool.properties[name] if key not in _ANNOTATIONS)


def _python_rules(function: str, rule: str, parameters: _Parameters) -> Iterator[str]:
    further = ""
    if parameters.additional:
        yield f"{rule.upper()}_NAME: NAME{_but(parameters.names)}"
        further = f"{rule.upper()}_NAME EQUALS ({rule}_any | REFERENCE)"
    if not parameters.names:
        yield f"{rule}: {_spelled(function)} LPAR {_list_of(further)} RPAR"
        return
    yield f"{rule}: {_spelled(function)} LPAR {rule}_first::0x0"
    values = [
        "REFERENCE" if bit in parameters.unwritable else f"({rule}_value_{bit} | REFERENCE)"
        for bit in range(len(parameters.names))
    ]
    written = {bit: f"{_spelled(name)} EQUALS {values[bit]}" for bit, name in enumerate(parameters.names)}
    yield from _members(rule, written, further, f"{rule}_rest", "RPAR", parameters.complete)


def _json_rules(function: str, rule: str, parameters: _Parameters) -> Iterator[str]:
    start = f'{rule}: LBRACE "\\"name\\"" COLON {_quoted(function)} COMMA "\\"arguments\\"" COLON LBRACE'
    further = ""
    if parameters.additional:
        yield f"{rule}_key: {json_rule({'type': 'string'})}"
        further = f"{rule}_key COLON {rule}_any"
    if not parameters.names:
        yield f"{start} {_list_of(further)} RBRACE RBRACE"
        return
    yield f"{start} {rule}_first::0x0"
    keys = [_quoted(name) for name in parameters.names]
    written = {
        bit: f"{key} COLON {rule}_value_{bit}" for bit, key in enumerate(keys) if bit not in parameters.unwritable
    }
    yield from _members(rule, written, further, f"{rule}_rest", f"RBRACE {rule}_tail::_", "")
    refs_open = f'COMMA "\\"refs\\"" COLON LBRACE {rule}_ref_first::_ %if not(is_ones([0:{len(keys)}]))'
    yield f"{rule}_tail::_ : RBRACE{parameters.complete} | {refs_open}"
    refs = {bit: f"{key} COLON JSON_REFERENCE" for bit, key in enumerate(keys)}
    yield from _members(f"{rule}_ref", refs, "", f"{rule}_ref_rest", "RBRACE RBRACE", parameters.complete)


def _members(rule: str, written: Mapping[int, str], further: str, rest: str, end: str, complete: str) -> Iterator[str]:
    """A list of members, each at most once, in any order: the rule of the first, and of what follows each.

    Args:
        rule: prefix of the two rules' names.
        written: the members by bit.
        further: a member that may come any number of times, or nothing.
        rest: name of the second rule.
        end: what ends the list.
        complete: the condition under which it may end.
    """
    first = [f"{member} {rest}::set_bit({bit}) %if bit_clear({bit})" for bit, member in written.items()]
    if further:
        first.append(f"{further} {rest}::_")
    if not (complete or rest.endswith("ref_rest")):
        first.append(end)
    yield f"{rule}_first::_ : {' | '.join(first)}"
    following = [f"COMMA {member} {rest}::set_bit({bit}) %if bit_clear({bit})" for bit, member in written.items()]
    if further:
        following.append(f"COMMA {further} {rest}::_")
    yield f"{rest}::_ : {' | '.join([f'{end}{complete}', *following])}"


def _list_of(member: str) -> str:
    return f"({member} (COMMA {member})*)?" if member else ""


def _but(names: Sequence[str]) -> str:
    return f" & ~/{'|'.join(names)}/" if names else ""


def _spelled(text: str) -> str:
    """A string literal of the grammar."""
    return json.dumps(text, ensure_ascii=False)


def _quoted(text: str) -> str:
    """A string literal of the grammar for a JSON string."""
    return _spelled(json.dumps(text, ensure_ascii=False))
