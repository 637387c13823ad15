"""Generated documents and mutations of them: lark and the hand-written parser judge all of them alike."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynclm.cml.blocks import Block, CmlErrorCode
from asynclm.cml.control import BodyLanguage, Control

from .reading import Items, NotCmlError, read
from .test_agreement import parse_items

CHECKED = {CmlErrorCode.RESERVED_ID, CmlErrorCode.REPEATED_ARGUMENT, CmlErrorCode.BAD_BODY}

names = st.sampled_from(["a", "b1", "_", "all", "any", "within", "true", "None", "cml", "x" * 64, "x" * 65])
blank = st.sampled_from(["", "", "", " ", "\n", " \t"])
numbers = st.sampled_from(["0", "-0", "12", "1.50", "-2e3", "01", "1.", "12345678901", "+1"])
strings = st.sampled_from(
    ['""', '"x y"', "''", "'it\\'s'", '"\\u00e9\\n"', '"\\ud834\\udd1e"', '"\\ud834"', '"[END]"', "'\"'"]
)
words = st.sampled_from(["true", "false", "null", "True", "False", "None", "NaN"])
paths = st.lists(st.one_of(names.map(".{}".format), st.sampled_from(["[0]", "[12]", "[01]", "[-1]"])), max_size=3)
references = st.builds(lambda name, path: name + "".join(path), names, paths)


def joined(parts: st.SearchStrategy[str], opening: str, closing: str, *, max_size: int = 3) -> st.SearchStrategy[str]:
    commas = st.builds(lambda before, after: f"{before},{after}", blank, blank)
    return st.builds(
        lambda start, inner, comma, end: f"{opening}{start}{comma.join(inner)}{end}{closing}",
        blank,
        st.lists(parts, max_size=max_size),
        commas,
        blank,
    )


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds(lambda key, a, b, value: f"{key}{a}:{b}{value}", strings, blank, blank, inner)
    return st.one_of(joined(inner, "[", "]"), joined(member, "{", "}"))


literals = st.recursive(st.one_of(numbers, strings, words), containers, max_leaves=6)
values = st.one_of(literals, references)
arguments = st.one_of(values, st.builds(lambda n, a, b, v: f"{n}{a}={b}{v}", names, blank, blank, values))
functions = st.lists(names, min_size=1, max_size=3).map(".".join)
python_calls = st.builds(lambda f, a, rest: f"{f}{a}{rest}", functions, blank, joined(arguments, "(", ")"))

json_keys = st.sampled_from(['"to"', '"n"', '"name"', '"x y"'])
json_values = st.recursive(
    st.one_of(numbers, st.sampled_from(['"x"', '"name"', '"\\n"']), words), containers, max_leaves=4
)
json_objects = joined(st.builds("{}:{}".format, json_keys, json_values), "{", "}")
json_refs = joined(st.builds('{}:"{}"'.format, json_keys, references), "{", "}")
json_members = st.one_of(
    st.sampled_from(['"name":"f"', '"name" : "refs"', '"name":1', '"id":"a"']),
    json_objects.map('"arguments":{}'.format),
    json_refs.map('"refs":{}'.format),
)
json_calls = joined(json_members, "{", "}")

seconds = st.sampled_from(["0", "3", "1.5", "0.125", "1000000", "1.", ".5"])
traps = st.builds(
    "".join,
    st.lists(st.one_of(st.sampled_from(["all", "any", "within", ",", ", ", " "]), names, seconds, blank), max_size=7),
)
sources = st.sampled_from(
    ["a", "@user", "@agent.b1", "@runtime:error", "a:partial", "a:ok", "@agent", "a :error", "a:x"]
)
texts = st.sampled_from(["so ", " ", "f()", "[END]", "\n"])


def block(*parts: str | Control | st.SearchStrategy[str]) -> st.SearchStrategy[Items]:
    return st.tuples(*(p if isinstance(p, st.SearchStrategy) else st.just(p) for p in parts)).map(list)


def documents(bodies: st.SearchStrategy[str]) -> st.SearchStrategy[Items]:
    spaced = st.builds("{}{}{}".format, blank, bodies, blank)
    ids = st.builds("{}{}{}".format, blank, names, blank)
    blocks = st.one_of(
        block(texts),
        block(Control.CALL, spaced, Control.END),
        block(Control.CALL, ids, Control.HEAD, spaced, Control.END),
        block(Control.TRAP, st.builds("{}{}{}".format, blank, traps, blank), Control.END),
        block(Control.INTR, sources, Control.HEAD, texts, Control.END),
    )
    return st.lists(blocks, max_size=4).map(lambda found: merged([item for part in found for item in part]))


def merged(items: Items) -> Items:
    """A document has neither empty texts nor two side by side."""
    whole: Items = []
    for item in items:
        if isinstance(item, str) and whole and isinstance(whole[-1], str):
            whole[-1] += item
        elif item != "":
            whole.append(item)
    return whole


@st.composite
def mutated(draw: st.DrawFn, base: st.SearchStrategy[Items]) -> Items:
    """A document with some items or characters removed, repeated, swapped or put in."""
    items = list(draw(base))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(items)))
        if draw(st.booleans()) or place == len(items) or not isinstance(items[place], str):
            items[place : place + draw(st.integers(0, 1))] = draw(
                st.lists(st.sampled_from([*Control, "x", ","]), max_size=1)
            )
            continue
        text = str(items[place])
        at = draw(st.integers(0, len(text)))
        put = draw(
            st.sampled_from(["", " ", ",", "(", ")", "[", "]", "{", "}", '"', "'", "=", ":", ".", "\\", "0", "e", "é"])
        )
        items[place] = text[:at] + put + text[at + draw(st.integers(0, 2)) :]
    return merged(items)


def expected_of(
    items: Items, language: BodyLanguage, parser: str, spaced: bool
) -> tuple[tuple[Block, ...] | None, CmlErrorCode | None]:
    """What lark makes of a document: its tree, or else the error of a check after parsing (None: no document)."""
    try:
        return read(items, language, parser=parser, spaced=spaced), None
    except NotCmlError as refusal:
        return None, refusal.code


def judge_alike(items: Items, language: BodyLanguage, *, parser: str = "lalr", spaced: bool = False) -> None:
    found, errors = parse_items(items, language, spaced=spaced)
    tree, code = expected_of(items, language, parser, spaced)
    if tree is not None:
        assert (found, errors) == (tree, []), items
    else:
        assert errors, items
        assert code is None or {code, errors[0]} <= CHECKED, (items, code, errors)


both = st.one_of(
    st.tuples(st.just(BodyLanguage.PYTHON), documents(python_calls)),
    st.tuples(st.just(BodyLanguage.JSON), documents(json_calls)),
)
broken = st.one_of(
    st.tuples(st.just(BodyLanguage.PYTHON), mutated(documents(python_calls))),
    st.tuples(st.just(BodyLanguage.JSON), mutated(documents(json_calls))),
)


Document = tuple[BodyLanguage, Items]


@settings(max_examples=50, deadline=None)
@given(both, st.booleans())
def test_documents_are_judged_alike(document: Document, spaced: bool):
    language, items = document
    judge_alike(items, language, spaced=spaced)


@settings(max_examples=50, deadline=None)
@given(broken)
def test_mutations_are_judged_alike(document: Document):
    language, items = document
    judge_alike(items, language)


@settings(max_examples=20, deadline=None)
@given(st.one_of(both, broken))
def test_earley_judges_alike(document: Document):
    language, items = document
    judge_alike(items, language, parser="earley")


@pytest.mark.slow
@settings(max_examples=4000, deadline=None)
@given(st.one_of(both, broken), st.booleans())
def test_many_documents_are_judged_alike(document: Document, spaced: bool):
    language, items = document
    judge_alike(items, language, spaced=spaced)


@pytest.mark.slow
def test_generated_documents_are_of_every_kind():
    """What is generated holds documents, near misses that only a check refuses, and others."""
    kinds: Counter[str] = Counter()

    @settings(max_examples=600, deadline=None, database=None)
    @given(st.one_of(both, broken))
    def count(document: Document) -> None:
        language, items = document
        tree, code = expected_of(items, language, "lalr", False)
        kinds["document" if tree is not None else "checked" if code is not None else "other"] += 1

    count()
    assert min(kinds["document"], kinds["other"]) > 60, kinds
    assert kinds["checked"] > 3, kinds
