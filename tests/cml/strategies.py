"""Hypothesis strategies for CML: names, literals, references, invocations, blocks, documents and hostile texts."""

from __future__ import annotations

from hypothesis import strategies as st

from asynclm.cml.blocks import Argument, Block, Call, Interrupt, Invocation, Literal, Reference, Text, Trap
from asynclm.cml.bodies import render_body
from asynclm.cml.codec import EOS, Item
from asynclm.cml.control import RESERVED_IDS, BodyLanguage, Control, Quantifier, Status
from asynclm.cml.literals import render_literal

FEW = 40
"""Examples of a test that draws whole documents; `test_thoroughly` draws many."""

FRAGMENTS = [
    *(control.value for control in Control),
    *(
        "[",
        "]",
        "[E",
        "END]",
        "[CAL",
        "[HEAD",
        "\\",
        "\\\\",
        "\\[",
        " ",
        "\n",
        '"',
        "'",
        "(",
        ")",
        "{",
        "}",
        ",",
        ":",
        "=",
    ),
    *("a", "f(", "id", "within 2", "é", "\U0001f642", "<|call|>", "<|end|>", "<|eos|>", "<|im_end|>"),
]
"""What texts are made of to get in the way: control words and their pieces, backslashes, quotes, special tokens."""

plain_text = st.text(st.characters(exclude_categories=["Cs"]))
hostile_text = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)
texts = st.one_of(plain_text, hostile_text)

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}", fullmatch=True)
ids = st.one_of(st.sampled_from(["a", "b", "page", "_1"]), names).filter(lambda name: name not in RESERVED_IDS)
functions = st.lists(names, min_size=1, max_size=3).map(".".join)

numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
strings = texts.map(render_literal)
scalars = st.one_of(numbers, strings, st.sampled_from(["true", "false", "null"]))


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
    members = st.lists(st.tuples(strings, inner), max_size=3, unique_by=lambda member: member[0])
    return st.one_of(lists, members.map(lambda ms: "{" + ",".join(f"{k}:{v}" for k, v in ms) + "}"))


literals = st.recursive(scalars, _containers, max_leaves=6).map(Literal)
steps = st.one_of(names, st.integers(0, 999_999_999))
references = st.builds(Reference, ids, st.lists(steps, max_size=3).map(tuple))


@st.composite
def invocations(draw: st.DrawFn, language: BodyLanguage) -> Invocation:
    values = st.one_of(literals, references)
    if language is BodyLanguage.JSON:
        keys = draw(st.lists(texts, max_size=4, unique=True))
        arguments = [Argument(key, draw(values)) for key in keys]
        arguments.sort(key=lambda argument: isinstance(argument.value, Reference))
        return Invocation(draw(texts), tuple(arguments))
    positional = [Argument(None, value) for value in draw(st.lists(values, max_size=2))]
    keywords = [Argument(name, draw(values)) for name in draw(st.lists(names, max_size=4, unique=True))]
    return Invocation(draw(functions), (*positional, *keywords))


@st.composite
def calls(draw: st.DrawFn, language: BodyLanguage) -> Call:
    invocation = draw(invocations(language))
    return Call(draw(st.none() | ids), render_body(language, invocation), invocation)


@st.composite
def traps(draw: st.DrawFn) -> Trap:
    within = draw(st.none() | st.integers(0, 999_999_999))
    names = tuple(draw(st.lists(ids, max_size=3)))
    if names:
        return Trap(draw(st.sampled_from(Quantifier)), names, within)
    return Trap(draw(st.sampled_from([None, Quantifier.ALL])), (), within)


sources = st.one_of(ids, st.sampled_from(["@user", "@system", "@runtime"]), names.map("@agent.{}".format))
interrupts = st.builds(Interrupt, sources, st.sampled_from(Status), texts)


@st.composite
def documents(draw: st.DrawFn, language: BodyLanguage) -> tuple[Block, ...]:
    """Documents as [CML-005] has them: no empty texts, no adjacent ones."""
    drawn = draw(st.lists(st.one_of(texts.map(Text), calls(language), traps(), interrupts), max_size=6))
    blocks: list[Block] = []
    for block in drawn:
        if isinstance(block, Text) and (not block.text or (blocks and isinstance(blocks[-1], Text))):
            continue
        blocks.append(block)
    return tuple(blocks)


@st.composite
def cuts(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, of any length from one character."""
    at = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=12)))
    return [piece for a, b in zip([0, *at], [*at, len(text)], strict=True) if (piece := text[a:b])]


items: st.SearchStrategy[Item] = st.one_of(
    st.sampled_from([*Control, EOS]),
    st.sampled_from(["a", " ", "f(x=1)", "all", "within 2", "x, y", ":error", "{", "true"]),
    texts.filter(bool),
)
