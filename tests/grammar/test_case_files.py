"""The case files themselves: their schema is strict, their ids are unique, there are enough of them."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from pydantic import ValidationError
from yaml.constructor import ConstructorError

from asynclm.cml.blocks import CmlErrorCode
from asynclm.cml.control import Control
from asynclm.cml.resources import resource
from asynclm.session.state import ErrorType, NoticeCode

from .cases import FILES, Case, load, parse_file, select

SESSION_ERRORS = {*ErrorType, NoticeCode.FORGED}
GOOD = "{id: a, form: both, layer: grammar, input: x, tree: [{text: x}]}"


def case_file(case: str) -> str:
    return f"groups:\n  - group: g\n    verifies: [CML-001]\n    cases: [{case}]\n"


def test_there_are_enough_cases():
    layers = Counter(case.layer for _, case in select(lambda _: True))
    assert sum(layers.values()) >= 150
    assert layers["grammar"] >= 100
    assert min(layers["escape"], layers["session"]) >= 20
    grammar = Counter(name for name, _ in select(lambda case: case.layer == "grammar"))
    assert min(grammar[name] for name in FILES) >= 30


def test_ids_are_unique():
    ids = Counter(case.id for _, case in select(lambda _: True))
    assert [name for name, count in ids.items() if count > 1] == []


@pytest.mark.parametrize("name", FILES)
def test_each_case_says_what_is_expected(name: str):
    for case in load(name).cases:
        match name, case.layer:
            case _, "escape":
                assert (case.held is not None) == (name == "incomplete"), case.id
                assert (case.tree, case.error, case.session_error) == (None, None, None), case.id
            case "accept", _:
                assert case.tree is not None, case.id
                assert (case.held, case.error, case.session_error) == (None, None, None), case.id
            case "reject", _:
                assert (case.error is None) != (case.session_error is None), case.id
                assert (case.tree is None) == (case.session_error is None), case.id
                assert case.session_error is None or case.layer == "session", case.id
            case _:
                assert (case.layer, case.error) == ("grammar", "unterminated"), case.id
                assert (case.tree, case.held, case.session_error) == (None, None, None), case.id


def test_error_classes_are_known():
    for _, case in select(lambda case: case.error is not None):
        CmlErrorCode(case.error)
    for _, case in select(lambda case: case.session_error is not None):
        assert case.session_error in SESSION_ERRORS, case.id


def test_every_error_class_of_the_language_has_a_case():
    used = {case.error or case.session_error for _, case in select(lambda case: case.layer != "escape")}
    assert set(CmlErrorCode) - used == set()


def test_every_control_token_and_body_language_is_used_in_each_file():
    for name in FILES:
        items = {item for case in load(name).cases for item in case.pieces}
        assert set(Control) <= items, name
        assert {case.language for case in load(name).cases} == {"python_call", "json_call"}, name


def test_cited_requirements_exist():
    pages = [page for page in resource("spec/draft").iterdir() if page.name.endswith(".md")]
    known = {found for page in pages for found in re.findall(r"\*\*\[([A-Z]+-[0-9]+)\]\*\*", page.read_text())}
    cited = {number for name in FILES for group in load(name).groups for number in group.verifies}
    assert sorted(cited - known) == []


def test_session_layer_has_tools():
    assert [tool.build().name for tool in load("reject").tools] == ["send", "lookup"]


def test_a_good_case_is_read():
    (case,) = parse_file(case_file(GOOD)).cases
    assert isinstance(case, Case)
    assert case.forms == ("text", "token")


@pytest.mark.parametrize(
    "case",
    [
        GOOD.replace("tree:", "trees:"),
        GOOD.replace("id: a", "id: A b"),
        GOOD.replace("form: both", "form: neither"),
        GOOD.replace("layer: grammar", "layer: lexer"),
        GOOD.replace("form: both", "form: token"),
        GOOD.replace("input: x", "input: [[CALL]]"),
        GOOD.replace("input: x", "input: 1"),
        GOOD.replace("{text: x}", "{text: x, trap: {}}"),
        GOOD.replace("{text: x}", "{}"),
        GOOD.replace("{text: x}", "{call: {function: f, arguments: [{name: a}]}}"),
        GOOD.replace("{text: x}", "{call: {function: f, arguments: [{json: '1', ref: b}]}}"),
        GOOD.replace("layer: grammar", "layer: escape"),
        GOOD.replace("form: both", "form: token").replace("input: x", "input: [[STOP]]"),
    ],
)
def test_a_case_outside_the_schema_is_refused(case: str):
    assert case != GOOD
    with pytest.raises(ValidationError):
        parse_file(case_file(case))


def test_a_key_given_twice_is_refused():
    with pytest.raises(ConstructorError, match="twice"):
        parse_file(case_file(GOOD.replace("form: both", "form: both, form: text")))


def test_an_empty_selection_is_an_error():
    with pytest.raises(ValueError, match="no case"):
        select(lambda case: case.id == "no-such-case")
