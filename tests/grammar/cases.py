"""The case files of `grammar/cases`, read strictly: unknown keys, repeated keys and missing results are errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from asynclm.cml import blocks
from asynclm.cml.control import BodyLanguage, Control, Quantifier, Status
from asynclm.cml.resources import resource
from asynclm.cml.toolspec import ToolSpec

from .reading import Items, split

FILES = ("accept", "reject", "incomplete")

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
RequirementId = Annotated[str, StringConstraints(pattern=r"^[A-Z]+-[0-9]{3}$")]
ControlName = Literal["CALL", "INTR", "TRAP", "END", "HEAD"]
ItemList = list[str | Annotated[list[ControlName], Field(min_length=1, max_length=1)]]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ArgumentNode(Strict):
    name: str | None = None
    json_text: str | None = Field(None, alias="json")
    ref: str | None = None
    path: list[str | int] = []

    @model_validator(mode="after")
    def _one_value(self) -> ArgumentNode:
        if (self.json_text is None) == (self.ref is None) or (self.path and self.ref is None):
            raise ValueError("give either json, or ref and its path")
        return self

    def build(self) -> blocks.Argument:
        if self.json_text is not None:
            return blocks.Argument(self.name, blocks.Literal(self.json_text))
        assert self.ref is not None
        return blocks.Argument(self.name, blocks.Reference(self.ref, tuple(self.path)))


class CallNode(Strict):
    id: str | None = None
    function: str
    arguments: list[ArgumentNode] = []

    def build(self) -> blocks.Call:
        arguments = tuple(argument.build() for argument in self.arguments)
        return blocks.Call(self.id, "", blocks.Invocation(self.function, arguments))


class TrapNode(Strict):
    quantifier: Literal["all", "any"] | None = None
    ids: list[str] = []
    within_ms: int | None = None

    def build(self) -> blocks.Trap:
        quantifier = Quantifier(self.quantifier) if self.quantifier else None
        return blocks.Trap(quantifier, tuple(self.ids), self.within_ms)


class InterruptNode(Strict):
    source: str
    status: str = "ok"
    payload: str

    def build(self) -> blocks.Interrupt:
        return blocks.Interrupt(self.source, Status(self.status), self.payload)


class BlockNode(Strict):
    text: str | None = None
    call: CallNode | None = None
    trap: TrapNode | None = None
    interrupt: InterruptNode | None = None

    @model_validator(mode="after")
    def _one_block(self) -> BlockNode:
        if len(self.model_fields_set) != 1:
            raise ValueError("give one of text, call, trap and interrupt")
        return self

    def build(self) -> blocks.Block:
        if self.text is not None:
            return blocks.Text(self.text)
        node = self.call or self.trap or self.interrupt
        assert node is not None
        return node.build()


class Case(Strict):
    id: Slug
    form: Literal["text", "token", "both"]
    layer: Literal["escape", "grammar", "session"]
    language: Literal["python_call", "json_call"] = "python_call"
    input: str | ItemList
    items: ItemList | None = None
    tree: list[BlockNode] | None = None
    held: str | None = None
    error: str | None = None
    session_error: str | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Case:
        if isinstance(self.input, list) != (self.form == "token"):
            raise ValueError("input is a list of items in the token form, else text")
        if (self.items is not None) != (self.layer == "escape"):
            raise ValueError("items are the result of the escape layer, and of it alone")
        return self

    @property
    def body_language(self) -> BodyLanguage:
        return BodyLanguage(self.language)

    @property
    def pieces(self) -> Items:
        """The items as the case gives them; texts of the token form may come in several pieces."""
        return split(self.input) if isinstance(self.input, str) else build_items(self.input)

    @property
    def whole_items(self) -> Items:
        """The items with the pieces of each text joined."""
        items: Items = []
        for piece in self.pieces:
            if isinstance(piece, str) and items and isinstance(items[-1], str):
                items[-1] += piece
            else:
                items.append(piece)
        return items

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms in which the case is to be tried."""
        return ("text", "token") if self.form == "both" else (self.form,)

    @property
    def blocks(self) -> tuple[blocks.Block, ...]:
        """The tree."""
        assert self.tree is not None
        return tuple(node.build() for node in self.tree)


class Group(Strict):
    group: str
    verifies: list[RequirementId] = Field(min_length=1)
    cases: list[Case] = Field(min_length=1)


class ToolNode(Strict):
    name: str
    parameters: dict[str, Any]
    parameter_order: list[str] = []

    def build(self) -> ToolSpec:
        return ToolSpec(name=self.name, parameters=self.parameters, parameter_order=tuple(self.parameter_order))


class CaseFile(Strict):
    groups: list[Group] = Field(min_length=1)
    tools: list[ToolNode] = []

    @property
    def cases(self) -> list[Case]:
        return [case for group in self.groups for case in group.cases]


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key given twice, which YAML forbids and PyYAML takes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated[0]!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def build_items(items: ItemList) -> Items:
    return [item if isinstance(item, str) else Control[item[0]] for item in items]


def parse_file(text: str) -> CaseFile:
    """Reads a case file.

    Raises:
        ValueError: it does not fit the schema.
    """
    return CaseFile.model_validate(yaml.load(text, UniqueKeyLoader))


@functools.cache
def load(name: str) -> CaseFile:
    return parse_file(resource(f"grammar/cases/{name}.yaml").read_text(encoding="utf-8"))


def select(where: Callable[[Case], bool], files: Iterable[str] = FILES) -> list[tuple[str, Case]]:
    """The cases that fit, each with the name of its file, in file order.

    Raises:
        ValueError: none fits.
    """
    found = [(name, case) for name in files for case in load(name).cases if where(case)]
    if not found:
        raise ValueError("no case selected")
    return found
