"""A second reading of CML, by lark from the grammar files, written apart from the parser that tests hold it against.

Escapes are split off by one regular expression; the lexer cuts the stream at control tokens, and lexes each text with
the terminals of its place; trees become blocks; and what the grammar leaves to a check after parsing is checked here.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

from lark import Lark, Token, Tree
from lark.common import LexerConf
from lark.exceptions import LarkError
from lark.lexer import BasicLexer, Lexer, LexerState
from lark.utils import TextSlice

from asynclm.cml.blocks import (
    Argument,
    Block,
    Call,
    CmlErrorCode,
    Interrupt,
    Invocation,
    Literal,
    Reference,
    Text,
    Trap,
)
from asynclm.cml.control import BodyLanguage, Control, Quantifier, Status
from asynclm.cml.grammar import lark_grammar

Items = list[str | Control]

RESERVED = frozenset({"true", "false", "null", "True", "False", "None", "all", "any", "within", "cml"})
MAX_DEPTH = 64

_CUT = re.compile(r"(\\*)(\[(?:CALL|INTR|TRAP|END|HEAD)\])")
_REFERENCE = re.compile(
    r"([A-Za-z_][A-Za-z0-9_]{0,63})((?:\.[A-Za-z_][A-Za-z0-9_]{0,63}|\[(?:0|[1-9][0-9]{0,8})\])*)", re.ASCII
)
_WORDS = {"true": "true", "false": "false", "null": "null", "True": "true", "False": "false", "None": "null"}

_PLACES = {
    "text": {"TEXT"},
    "payload": {"PAYLOAD"},
    "id": {"WS", "ID"},
    "source": {"WS", "SOURCE", "STATUS"},
    "condition": {"WS", "COMMA", "ALL", "ANY", "WITHIN", "SECONDS", "TRAP_ID"},
}


class NotCmlError(Exception):
    """The document is not in the language, or fails a check after parsing; `code` is None for the former."""

    def __init__(self, code: CmlErrorCode | None, why: str) -> None:
        super().__init__(why)
        self.code = code


def split(text: str) -> Items:
    """The escape layer: text form to items."""
    items: Items = []
    plain = ""
    end = 0
    for match in _CUT.finditer(text):
        slashes, word = match.groups()
        plain += text[end : match.start()] + "\\" * (len(slashes) // 2)
        if len(slashes) % 2:
            plain += word
        else:
            items += [plain, Control(word)] if plain else [Control(word)]
            plain = ""
        end = match.end()
    plain += text[end:]
    return [*items, plain] if plain else items


def read(items: Items, language: BodyLanguage, *, parser: str = "lalr", spaced: bool = False) -> tuple[Block, ...]:
    """Parses items to blocks.

    Args:
        items: texts and control tokens; no two texts side by side.
        language: the language of call bodies.
        parser: `lalr` or `earley`.
        spaced: whether a payload has one space on each side that does not belong to it (text form).

    Raises:
        NotCmlError: the items are no document.
    """
    try:
        tree = _lark(language, parser).parse(items)  # type: ignore[arg-type]
    except LarkError as error:
        raise NotCmlError(None, str(error)) from error
    return tuple(_block(child, language, spaced) for child in tree.children)


@functools.cache
def _lark(language: BodyLanguage, parser: Any) -> Lark:
    return Lark(lark_grammar(language), start="document", parser=parser, lexer=_ItemLexer, maybe_placeholders=False)


class _ItemLexer(Lexer):
    """Lexes a list of items: control tokens as they are, each text with the terminals of its place."""

    __future_interface__ = 2

    def __init__(self, conf: LexerConf) -> None:
        known = set().union(*_PLACES.values()) | {control.name for control in Control}
        body = {t.name for t in conf.terminals if t.name not in known} | {"WS", "COMMA"}
        self._lexers = {}
        for place, names in {**_PLACES, "body": body}.items():
            part = copy(conf)
            part.terminals = [terminal for terminal in conf.terminals if terminal.name in names]
            assert {t.name for t in part.terminals} == names, place
            self._lexers[place] = BasicLexer(part)

    def lex(self, lexer_state: LexerState, parser_state: Any) -> Iterator[Token]:
        items: Sequence[str | Control] = lexer_state.text  # type: ignore[assignment]
        opened: Control | None = None
        head = False
        for index, item in enumerate(items):
            if isinstance(item, str):
                following = items[index + 1] if index + 1 < len(items) else None
                place = _place(opened, head, following is Control.HEAD)
                yield from self._lexers[place].lex(LexerState(TextSlice.cast_from(item)), None)
                continue
            if item is Control.END:
                opened, head = None, False
            elif item is Control.HEAD:
                head = True
            else:
                opened, head = item, False
            yield Token(item.name, item.value)


def _place(opened: Control | None, head: bool, before_head: bool) -> str:
    if opened is Control.CALL:
        return "id" if before_head and not head else "body"
    if opened is Control.INTR:
        return "payload" if head else "source"
    return "condition" if opened is Control.TRAP else "text"


def _tokens(tree: Tree[Token], *names: str) -> list[str]:
    return [str(token) for token in tree.scan_values(lambda v: isinstance(v, Token) and v.type in names)]


def _only(tree: Tree[Token]) -> Any:
    (child,) = (c for c in tree.children if not (isinstance(c, Token) and c.type == "WS"))
    return child


def _find(tree: Tree[Token], name: str) -> list[Tree[Token]]:
    """The outermost subtrees of this rule, in written order."""
    found: list[Tree[Token]] = []
    for child in tree.children:
        if isinstance(child, Tree):
            found += [child] if child.data == name else _find(child, name)
    return found


def _block(tree: Tree[Token], language: BodyLanguage, spaced: bool) -> Block:
    match tree.data:
        case "text":
            return Text(_tokens(tree, "TEXT")[0])
        case "call":
            ids = [_id(name) for name in _tokens(tree, "ID")]
            (body,) = _find(tree, "body")
            return Call(ids[0] if ids else None, "", _invocation(body, language))
        case "interrupt":
            (source,) = _tokens(tree, "SOURCE")
            status = _tokens(tree, "STATUS")
            payload = "".join(_tokens(tree, "PAYLOAD"))
            if spaced:
                payload = payload.removeprefix(" ").removesuffix(" ")
            checked = source if source.startswith("@") else _id(source)
            return Interrupt(checked, Status(status[0][1:]) if status else Status.OK, payload)
        case _:
            return _trap(tree)


def _trap(tree: Tree[Token]) -> Trap:
    ids = tuple(_id(name) for name in _tokens(tree, "TRAP_ID"))
    words = _tokens(tree, "ALL", "ANY")
    quantifier = Quantifier(words[0]) if words else Quantifier.ALL if ids else None
    seconds = _tokens(tree, "SECONDS")
    return Trap(quantifier, ids, _milliseconds(seconds[0]) if seconds else None)


def _milliseconds(seconds: str) -> int:
    whole, _, fraction = seconds.partition(".")
    return int(whole + fraction.ljust(3, "0"))


def _id(name: str) -> str:
    if name in RESERVED:
        raise NotCmlError(CmlErrorCode.RESERVED_ID, f"reserved id {name}")
    return name


def _reference(text: str) -> Reference:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise NotCmlError(CmlErrorCode.BAD_BODY, f"no reference: {text}")
    steps = [step for step in re.split(r"\.|(\[[0-9]+\])", match[2]) if step]
    return Reference(_id(match[1]), tuple(int(step[1:-1]) if step[0] == "[" else step for step in steps))


def _invocation(body: Tree[Token], language: BodyLanguage) -> Invocation:
    if language is BodyLanguage.PYTHON:
        (function,) = _find(body, "function")
        values = [a for name in ("positionals", "keywords") for part in _find(body, name) for a in _arguments(part)]
        return Invocation("".join(function.scan_values(lambda _: True)), _unique(values))
    (name,) = _find(body, "name_member")
    literals = [m for part in _find(body, "arguments_member") for m in _members(_only_object(part))]
    arguments = [Argument(key, Literal(_literal(value, 1))) for key, value in literals]
    for ref in (r for part in _find(body, "refs_member") for r in _flat(part, "ref")):
        key, target = (_string(child) for child in _find(ref, "string"))
        arguments.append(Argument(key, _reference(target)))
    (function,) = _find(name, "string")
    return Invocation(_string(function), _unique(arguments))


def _only_object(tree: Tree[Token]) -> Tree[Token]:
    (found,) = _find(tree, "object")
    return found


def _flat(tree: Tree[Token], name: str) -> list[Tree[Token]]:
    return _find(tree, name)


def _arguments(tree: Tree[Token]) -> list[Argument]:
    """The arguments of a left-recursive list of `keyword` or `value`."""
    found: list[Argument] = []
    for child in tree.children:
        if isinstance(child, Token):
            continue
        if child.data == tree.data:
            found += _arguments(child)
        elif child.data == "keyword":
            word, value = _find(child, "word")[0], _find(child, "value")[0]
            found.append(Argument(str(word.children[0]), _value(value)))
        else:
            found.append(Argument(None, _value(child)))
    return found


def _value(tree: Tree[Token]) -> Literal | Reference:
    child = _only(tree)
    if child.data == "reference":
        return _reference(str(child.children[0]))
    return Literal(_literal(child, 0))


def _unique(arguments: list[Argument]) -> tuple[Argument, ...]:
    _check_unique([argument.name for argument in arguments if argument.name is not None])
    return tuple(arguments)


def _check_unique(names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise NotCmlError(CmlErrorCode.REPEATED_ARGUMENT, f"repeated among {names}")


def _members(tree: Tree[Token]) -> list[tuple[str, Tree[Token]]]:
    members = []
    for member in (m for part in _find(tree, "members") for m in _spread(part)):
        key, value = (child for child in member.children if isinstance(child, Tree))
        members.append((_string(key), value))
    _check_unique([key for key, _ in members])
    return members


def _spread(tree: Tree[Token]) -> list[Tree[Token]]:
    """The elements of a left-recursive list rule."""
    found: list[Tree[Token]] = []
    for child in tree.children:
        if isinstance(child, Tree):
            found += _spread(child) if child.data == tree.data else [child]
    return found


def _string(tree: Tree[Token]) -> str:
    (token,) = (child for child in tree.children if isinstance(child, Token))
    return _unquote(str(token))


def _unquote(source: str) -> str:
    if source[0] == "'":
        inner = re.sub(r"\\.|\"", lambda m: {"\\'": "'", '"': '\\"'}.get(m[0], m[0]), source[1:-1], flags=re.DOTALL)
        source = f'"{inner}"'
    value: str = json.loads(source)
    return value


def _literal(tree: Tree[Token], depth: int) -> str:
    """A literal's canonical JSON text; lists and objects nest at most MAX_DEPTH deep in an argument."""
    child = _only(tree)
    if isinstance(child, Tree) and child.data in ("array", "object"):
        if depth >= MAX_DEPTH:
            raise NotCmlError(CmlErrorCode.BAD_BODY, "nested too deep")
        if child.data == "array":
            elements = [e for part in _find(child, "elements") for e in _spread(part)]
            return f"[{','.join(_literal(element, depth + 1) for element in elements)}]"
        members = (f"{_quote(key)}:{_literal(value, depth + 1)}" for key, value in _members(child))
        return f"{{{','.join(members)}}}"
    token = child if isinstance(child, Token) else child.children[0]
    if token.type == "NUMBER":
        return str(token)
    return _WORDS.get(str(token)) or _quote(_unquote(str(token)))


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
