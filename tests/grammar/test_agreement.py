"""lark (LALR and Earley) and the hand-written parser give every case its tree or its error class."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from asynclm.cml import grammar
from asynclm.cml.blocks import Block, Call, CmlErrorCode, Malformed, Text
from asynclm.cml.codec import EOS
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.grammar import grammar_fingerprint, lark_grammar
from asynclm.cml.parser import BlockClosed, BlockParser, Dropped, TextRead
from asynclm.cml.resources import resource
from asynclm.cml.text_form import TextFormDecoder, parse_document, render

from .cases import Case, select
from .reading import Items, NotCmlError, read, split


def each(cases: list[tuple[str, Case]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for _, case in cases])


def each_form(cases: list[tuple[str, Case]]) -> pytest.MarkDecorator:
    params = [pytest.param(case, form, id=f"{case.id}-{form}") for _, case in cases for form in case.forms]
    return pytest.mark.parametrize(("case", "form"), params)


def plain(block: Block) -> Block:
    """A block without the spelling of its body: what trees are compared by."""
    return replace(block, raw="") if isinstance(block, Call) else block


def parse_items(
    items: Iterable[str | Control], language: BodyLanguage, *, spaced: bool
) -> tuple[tuple[Block, ...], list[CmlErrorCode]]:
    """The blocks and the errors that the hand-written parser finds."""
    parser = BlockParser(language, spaced_payloads=spaced)
    found: list[Block] = []
    errors: list[CmlErrorCode] = []
    text = ""
    for item in (*items, EOS):
        for event in parser.feed(item):
            if isinstance(event, TextRead):
                text += event.text
                continue
            if text:
                found.append(Text(text))
                text = ""
            if isinstance(event, Dropped):
                errors.append(event.code)
            elif isinstance(event, BlockClosed) and isinstance(event.block, Malformed):
                errors.append(event.block.code)
            elif isinstance(event, BlockClosed):
                found.append(plain(event.block))
    if text:
        found.append(Text(text))
    return tuple(found), errors


def is_document(name: str, case: Case) -> bool:
    return name == "accept" or case.session_error is not None


DOCUMENTS = [(name, case) for name, case in select(lambda case: case.layer != "escape") if is_document(name, case)]
NO_DOCUMENTS = [
    (name, case) for name, case in select(lambda case: case.layer != "escape") if not is_document(name, case)
]
ESCAPES = select(lambda case: case.layer == "escape")


@pytest.mark.parametrize("parser", ["lalr", "earley"])
@each_form(DOCUMENTS)
def test_lark_reads_the_tree(case: Case, form: str, parser: str):
    assert read(case.whole_items, case.body_language, parser=parser, spaced=form == "text") == case.blocks


@pytest.mark.parametrize("parser", ["lalr", "earley"])
@each(NO_DOCUMENTS)
def test_lark_refuses(case: Case, parser: str):
    with pytest.raises(NotCmlError) as refusal:
        read(case.whole_items, case.body_language, parser=parser)
    assert refusal.value.code == (case.error if case.layer == "session" else None)


@each_form(DOCUMENTS)
def test_the_parser_reads_the_tree(case: Case, form: str):
    assert parse_items(case.pieces, case.body_language, spaced=form == "text") == (case.blocks, [])


@each_form(NO_DOCUMENTS)
def test_the_parser_names_the_error(case: Case, form: str):
    _, errors = parse_items(case.pieces, case.body_language, spaced=form == "text")
    assert errors[:1] == [case.error]


@each([(name, case) for name, case in DOCUMENTS if "text" in case.forms])
def test_the_text_form_reads_the_tree(case: Case):
    assert isinstance(case.input, str)
    located = parse_document(case.input, case.body_language)
    parts = [plain(part.part) for part in located if not isinstance(part.part, Malformed)]
    assert tuple(parts) == case.blocks
    assert [located[0].start, located[-1].end] == [0, len(case.input)] if located else not case.input


@each([(name, case) for name, case in NO_DOCUMENTS if "text" in case.forms])
def test_the_text_form_names_the_error(case: Case):
    assert isinstance(case.input, str)
    errors = [
        part.part.code for part in parse_document(case.input, case.body_language) if isinstance(part.part, Malformed)
    ]
    assert errors[:1] == [case.error]


@each(DOCUMENTS)
def test_rendering_then_reading_gives_the_tree_back(case: Case):
    text = render(case.blocks, case.body_language)
    assert read(split(text), case.body_language, spaced=True) == case.blocks


@each(ESCAPES)
def test_escapes_are_split_off(case: Case):
    assert isinstance(case.input, str)
    expected = case.model_copy(update={"form": "token", "input": [*(case.items or []), *filter(None, [case.held])]})
    assert split(case.input) == expected.whole_items


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@each(ESCAPES)
def test_escapes_are_split_off_piece_by_piece(case: Case, size: int):
    assert isinstance(case.input, str)
    decoder = TextFormDecoder()
    items: list = []
    for start in range(0, len(case.input), size):
        items += [i if isinstance(i, str) else [i.name] for i in decoder.feed_text(case.input[start : start + size])]
    if case.held is not None:
        assert decoder.pending == bool(case.held)
    held = decoder.flush()
    assert case.held is None or held == case.held
    found = case.model_copy(update={"form": "token", "input": [*items, held] if case.held is None and held else items})
    expected = case.model_copy(update={"form": "token", "input": case.items or []})
    assert found.whole_items == expected.whole_items


def test_lark_needs_its_lexer_to_keep_bodies_apart():
    """Why control words are split off first: a lexer over the text form would end a block inside a string."""
    items: Items = [Control.CALL, 'f(a="[END]")', Control.END]
    assert len(read(items, BodyLanguage.PYTHON)) == 1
    with pytest.raises(NotCmlError):
        read(split('[CALL]f(a="[END]")[END]'), BodyLanguage.PYTHON)


def test_grammar_texts_are_complete():
    texts = {language: lark_grammar(language) for language in BodyLanguage}
    for language, text in texts.items():
        assert f"body: {language.value}" in text
        assert "%declare" not in text
    assert texts[BodyLanguage.PYTHON] != texts[BodyLanguage.JSON]


def test_the_fingerprint_changes_with_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = Path(str(resource("grammar")))
    names = [str(path.relative_to(root)) for path in root.rglob("*.lark")]
    shutil.copytree(root, tmp_path / "grammar")
    monkeypatch.setattr(grammar, "resource", lambda path: tmp_path / path)
    original = grammar_fingerprint()
    seen = {original}
    for name in names:
        path = tmp_path / "grammar" / name
        content = path.read_bytes()
        path.write_bytes(content + b"// changed\n")
        seen.add(grammar_fingerprint())
        path.write_bytes(content)
    assert grammar_fingerprint() == original
    assert len(seen) == 1 + len(names) == 9
