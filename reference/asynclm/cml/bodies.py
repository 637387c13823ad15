"""Call bodies: `python_call` and `json_call`, to and from `Invocation` [CML-021 to CML-032]."""

from __future__ import annotations

import json
import re
from typing import Any

from asynclm.cml.blocks import Argument, CmlError, CmlErrorCode, Invocation, Literal, Reference
from asynclm.cml.control import NAME, BodyLanguage
from asynclm.cml.ids import shown
from asynclm.cml.literals import (
    MAX_DEPTH,
    NUMBER_PATTERN,
    PLAIN_STRING_PATTERN,
    PYTHON_WORDS,
    bad_body,
    canonical,
    decode_json,
    scan_members,
    scan_string,
    scan_value,
    skip,
)
from asynclm.cml.references import INDEX_PATTERN, format_reference, parse_reference

_NAME = NAME.pattern + "+"  # possessive: what follows decides, never a shorter name
_FUNCTION = re.compile(rf"[ \t\r\n]*+({_NAME}(?:\.{_NAME})*+)[ \t\r\n]*+\([ \t\r\n]*+", re.ASCII)
_KEYWORD = re.compile(rf"({_NAME})[ \t\r\n]*+=[ \t\r\n]*+", re.ASCII)
_REFERENCE_PATTERN = rf"{_NAME}(?:\.{_NAME}|\[{INDEX_PATTERN}\])*+"
_REFERENCE = re.compile(_REFERENCE_PATTERN, re.ASCII)
_ARGUMENT = re.compile(
    rf"(?:({_NAME})[ \t\r\n]*+=[ \t\r\n]*+)?"
    rf"(?:({PLAIN_STRING_PATTERN}|{NUMBER_PATTERN})|({_REFERENCE_PATTERN}))"
    r"[ \t\r\n]*+(?:,[ \t\r\n]*+|(\)[ \t\r\n]*+))",
    re.ASCII,
)
"""A whole argument with a plain value, and what ends it."""

_WORD_LITERALS = {word: Literal(text) for word, text in PYTHON_WORDS.items()}
_PYTHON = BodyLanguage.PYTHON
_NO_MEMBERS: dict[str, Any] = {}
_FUNCTION_NAME = re.compile(rf"{_NAME}(?:\.{_NAME})*+", re.ASCII)


def parse_body(language: BodyLanguage, text: str) -> Invocation:
    """Parses a call body; white space around it does not count.

    Raises:
        CmlError: BAD_BODY, REPEATED_ARGUMENT or RESERVED_ID, with the offset in `text`.
    """
    if language is _PYTHON:
        return _parse_python(text)
    return _parse_json_fast(text) or _parse_json(text)


def render_body(language: BodyLanguage, invocation: Invocation) -> str:
    """The canonical body: keyword arguments, JSON literals, numbers as they were spelled.

    Positional arguments stay positional in python_call; see `bind_positional`.

    Raises:
        CmlError: BAD_BODY: the invocation has no spelling in this language (a name that is not a NAME in python_call,
            a positional argument in json_call).
    """
    if language is BodyLanguage.PYTHON:
        return _render_python(invocation)
    return _render_json(invocation)


def bind_positional(invocation: Invocation, parameter_order: tuple[str, ...]) -> Invocation:
    """Gives positional arguments their names, by the tool's `parameter_order` [CML-025].

    Raises:
        CmlError: BAD_BODY: more positional arguments than names (any, if there is no order); REPEATED_ARGUMENT: a
            positional argument's name is also given as a keyword.
    """
    positional = sum(argument.name is None for argument in invocation.arguments)
    if not positional:
        return invocation
    if positional > len(parameter_order):
        allowed = f"at most {len(parameter_order)}" if parameter_order else "none; name each argument"
        raise CmlError(
            f"{positional} positional arguments for {shown(invocation.function)}: allowed are {allowed}",
            code=CmlErrorCode.BAD_BODY,
        )
    names = [a.name or parameter_order[i] for i, a in enumerate(invocation.arguments)]
    repeated = [name for name in parameter_order[:positional] if names.count(name) > 1]
    if repeated:
        raise _repeated(repeated[0])
    bound = (Argument(name, a.value) for name, a in zip(names, invocation.arguments, strict=True))
    return Invocation(invocation.function, tuple(bound))


def _parse_python(text: str) -> Invocation:
    match = _FUNCTION.match(text)
    if match is None:
        raise bad_body(text, skip(text, 0), "a function's name and '(' are expected, as in name(argument=value)")
    function = match.group(1)
    at = match.end()
    arguments: list[Argument] = []
    if text.startswith(")", at):
        at += 1
    else:
        names: set[str] = set()
        closed = False
        while not closed:
            start = at
            name, value, at, closed = _argument(text, at)
            if name is None:
                if names:
                    raise bad_body(text, start, "a positional argument may not follow a keyword argument")
            elif name in names:
                raise _repeated(name, start)
            else:
                names.add(name)
            arguments.append(Argument(name, value))
    if at != len(text) and (at := skip(text, at)) != len(text):
        raise bad_body(text, at, "nothing may follow the call's ')'")
    return Invocation(function, tuple(arguments))


def _argument(text: str, at: int) -> tuple[str | None, Literal | Reference, int, bool]:
    """Reads an argument and what ends it: its name and value, the position after it, whether `)` came."""
    match = _ARGUMENT.match(text, at)
    if match is not None:
        name, plain, word, closing = match.groups()
        value = Literal(plain) if plain is not None else _word(word, match.start(3))
        return name, value, match.end(), closing is not None
    name = None
    match = _KEYWORD.match(text, at)
    if match is not None:
        name, at = match.group(1), match.end()
    value, at = _value(text, at)
    at = skip(text, at)
    if text.startswith(")", at):
        return name, value, at + 1, True
    if not text.startswith(",", at):
        raise bad_body(text, at, "',' or ')' is expected here")
    return name, value, skip(text, at + 1), False


def _value(text: str, at: int) -> tuple[Literal | Reference, int]:
    match = _REFERENCE.match(text, at)
    if match is not None:
        return _word(match.group(), at), match.end()
    literal, at = scan_value(text, at, python=True)
    return Literal(literal), at


def _word(word: str, at: int) -> Literal | Reference:
    return _WORD_LITERALS.get(word) or parse_reference(word, at)


def _repeated(name: str, at: int = 0) -> CmlError:
    return CmlError(f"argument {shown(name)} is given twice", code=CmlErrorCode.REPEATED_ARGUMENT, offset=at)


def _render_python(invocation: Invocation) -> str:
    if _FUNCTION_NAME.fullmatch(invocation.function) is None:
        raise _unspellable("function", invocation.function)
    parts = []
    for argument in invocation.arguments:
        if argument.name is not None and NAME.fullmatch(argument.name) is None:
            raise _unspellable("argument", argument.name)
        value = argument.value.json if isinstance(argument.value, Literal) else format_reference(argument.value)
        parts.append(value if argument.name is None else f"{argument.name}={value}")
    return f"{invocation.function}({', '.join(parts)})"


def _unspellable(what: str, name: str) -> CmlError:
    return CmlError(f"{what} {shown(name)}: python_call takes NAMEs only; use json_call", code=CmlErrorCode.BAD_BODY)


def _parse_json_fast(text: str) -> Invocation | None:
    """Parses with the C scanner; None for whatever is not plainly right, which `_parse_json` then judges."""
    try:
        body = decode_json(text)
        function = body["name"]
        literals: dict[str, Any] = body.get("arguments", _NO_MEMBERS)
        references: dict[str, Any] = body.get("refs", _NO_MEMBERS)
        arguments = [Argument(name, Literal(canonical(value))) for name, value in literals.items()]
        if references:
            arguments += [Argument(name, parse_reference(value)) for name, value in references.items()]
        if not text.isascii() or "\\u" in text:
            "".join((function, *literals)).encode()  # refuses half of a surrogate pair
        if not isinstance(references, dict) or type(function) is not str:
            return None
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None
    if len(body) != 1 + ("arguments" in body) + ("refs" in body):
        return None
    if not literals.keys().isdisjoint(references) or text.count("[") + text.count("{") > MAX_DEPTH:
        return None
    return Invocation(function, tuple(arguments))


def _parse_json(text: str) -> Invocation:
    function: list[str] = []
    literals: list[Argument] = []
    references: list[Argument] = []
    names: dict[str, int] = {}

    def name_once(name: str, at: int) -> None:
        if name in names:
            raise _repeated(name, at)
        names[name] = at

    def argument(name: str, at: int, value_at: int) -> int:
        name_once(name, at)
        literal, end = scan_value(text, value_at, python=False)
        literals.append(Argument(name, Literal(literal)))
        return end

    def reference(name: str, at: int, value_at: int) -> int:
        name_once(name, at)
        string, end = scan_string(text, value_at, python=False)
        references.append(Argument(name, parse_reference(json.loads(string), value_at)))
        return end

    def member(key: str, at: int, value_at: int) -> int:
        if key == "name":
            string, end = scan_string(text, value_at, python=False)
            function.append(json.loads(string))
            return end
        if key == "arguments":
            return scan_members(text, value_at, argument)
        if key == "refs":
            return scan_members(text, value_at, reference)
        raise bad_body(text, at, "allowed members are name, arguments and refs")

    start = skip(text, 0)
    end = skip(text, scan_members(text, start, member))
    if end != len(text):
        raise bad_body(text, end, "nothing may follow the call's '}'")
    if not function:
        raise bad_body(text, start, "the member name is missing")
    return Invocation(function[0], (*literals, *references))


def _render_json(invocation: Invocation) -> str:
    literals, references = [], []
    for argument in invocation.arguments:
        if argument.name is None:
            raise CmlError("json_call has no positional arguments; name each one", code=CmlErrorCode.BAD_BODY)
        key = canonical(argument.name)
        if isinstance(argument.value, Literal):
            literals.append(f"{key}:{argument.value.json}")
        else:
            references.append(f"{key}:{canonical(format_reference(argument.value))}")
    refs = f',"refs":{{{",".join(references)}}}' if references else ""
    return f'{{"name":{canonical(invocation.function)},"arguments":{{{",".join(literals)}}}{refs}}}'
