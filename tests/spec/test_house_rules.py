"""The house rules of the specification hold, and each check of them catches what it is for.

The bad pages below spell ids and key words in pieces where this file itself would otherwise break a rule.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import spec_lint

ID = "CML-" + "900"
GOOD = f"# Page\n\nText explains.\n\n**[{ID}]** A parser MUST read `must` and keep it.\n"


def problems(text: str, *, page: str = "cml.md") -> list[str]:
    return [p.message for p in spec_lint.check_page(page, text, spec_lint.PREFIXES[page])]


# --- The specification as it is ----------------------------------------------------------------------------------


def test_the_specification_keeps_the_house_rules() -> None:
    found = spec_lint.lint()
    assert not found, "\n".join(map(str, found))


def test_the_specification_is_as_large_as_it_was_set_out_to_be(defined: list[spec_lint.Requirement]) -> None:
    assert len({requirement.id for requirement in defined}) >= 400


def test_every_prefix_is_in_use(defined: list[spec_lint.Requirement]) -> None:
    used = {requirement.id.partition("-")[0] for requirement in defined}
    assert used == {prefix for prefixes in spec_lint.PREFIXES.values() for prefix in prefixes}


def test_every_page_has_purpose_flow_and_errors(pages: dict[str, str]) -> None:
    lacking = [
        f"{name}: {heading}"
        for name, text in pages.items()
        for heading in ("Purpose", "Flow", "Errors")
        if name != "overview.md" and not re.search(rf"^#+ ([0-9]+\. )?{heading}\b", text, re.MULTILINE)
    ]
    assert not lacking


def test_requirements_carry_their_level_and_place(defined: list[spec_lint.Requirement]) -> None:
    by_id = {requirement.id: requirement for requirement in defined}
    found = by_id["INT-004"]
    assert (found.level, found.page) == ("MUST", "interrupts")
    assert found.section == "1. Safe points"
    assert found.sentence.startswith("An engine MUST NOT commit an interrupt inside a block")
    assert by_id["TRAP-050"].level == "MAY"
    assert by_id["CALL-018"].level == "SHOULD"


# --- Each check can fail -----------------------------------------------------------------------------------------


def test_a_good_page_has_no_problems() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize("word", ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "SHALL", "REQUIRED", "OPTIONAL"])
@pytest.mark.parametrize("place", ["An engine {} stop.", "* An engine {} stop.", "| a | it {} stop |", "## It {} stop"])
def test_a_key_word_without_an_id_is_found(word: str, place: str) -> None:
    assert problems(GOOD + "\n" + place.format(word) + "\n") == [f"{word} without an id"]


def test_a_key_word_on_a_later_line_of_a_paragraph_is_found() -> None:
    assert problems("An engine,\nwhen asked,\nMUST stop.\n") == ["MUST without an id"]


def test_a_key_word_in_the_paragraph_after_a_requirement_is_found() -> None:
    assert problems(GOOD + "\nIt MUST stop, too.\n") == ["MUST without an id"]


@pytest.mark.parametrize("word", ["must", "should", "shall", "may", "Must", "May"])
def test_a_lower_case_key_word_is_found(word: str) -> None:
    message = f"{word!r} in lower case; say it with an id, or in other words"
    assert problems(GOOD + f"\nIt {word} not stop.\n") == [message]
    assert problems(f"**[{ID}]** A parser MUST read what {word} come.\n") == [message]


def test_words_in_code_are_left_alone() -> None:
    assert problems("It reads `must` and `MUST`.\n\n```\nit must, it MUST\n```\n") == []


def test_words_that_only_contain_a_key_word_are_left_alone() -> None:
    assert problems("Mustard, maybe; the shoulder of MAYHEM.\n") == []


def test_a_definition_without_a_key_word_is_found() -> None:
    assert problems(f"**[{ID}]** A parser reads.\n") == [f"[{ID}] has no key word"]


def test_a_definition_inside_a_paragraph_is_found() -> None:
    assert problems(f"So: **[{ID}]** a parser MUST read.\n") == [f"[{ID}] does not start a paragraph of its own"]


def test_a_definition_with_two_requirements_is_found() -> None:
    two = f"**[{ID}]** A parser MUST read. It MUST then stop.\n"
    assert problems(two) == [f"[{ID}] has 2 sentences with key words; make each a requirement"]


def test_a_definition_with_two_levels_is_found() -> None:
    two = f"**[{ID}]** A parser MUST read and SHOULD stop.\n"
    assert problems(two) == [f"[{ID}] has key words of different levels; make it two requirements"]


def test_a_key_word_out_of_use_is_found() -> None:
    assert f"[{ID}] uses SHALL; use MUST, SHOULD or MAY" in problems(f"**[{ID}]** A parser SHALL read.\n")


def test_an_id_on_another_page_is_found() -> None:
    message = f"[{ID}] does not belong here; prefixes of this page: TRAP"
    assert problems(GOOD, page="traps.md") == [message]
    assert problems(GOOD, page="overview.md") == [f"[{ID}] does not belong here; prefixes of this page: none"]


def test_an_id_that_is_defined_twice_is_found() -> None:
    twice = [*spec_lint.read_page("cml", GOOD), *spec_lint.read_page("calls", GOOD)]
    assert [p.message for p in spec_lint.check_unique(twice)] == [f"[{ID}] is defined at cml.md:5 already"]
    assert list(spec_lint.check_unique(twice[:1])) == []


@pytest.mark.parametrize("number", ["999", "9999", "9"])
def test_a_citation_of_an_id_that_does_not_exist_is_found(number: str) -> None:
    cited = f"[{'CML'}-{number}]"
    found = list(spec_lint.check_citations("a.py", f"x = 1\n# see {cited}\n", frozenset({"CML-001"})))
    assert found == [spec_lint.Problem("a.py", 2, f"{cited} is not in the specification")]
    assert list(spec_lint.check_citations("a.py", "see [CML-001]", frozenset({"CML-001"}))) == []


@pytest.mark.parametrize("form", ["[CML-001, {}]", "[{} to CML-001]", "verifies: [CML-001, {}]", "see {}."])
def test_a_citation_in_a_list_or_a_range_is_found(form: str) -> None:
    cited = "CML-" + "999"
    found = list(spec_lint.check_citations("a.py", form.format(cited), frozenset({"CML-001"})))
    assert found == [spec_lint.Problem("a.py", 1, f"[{cited}] is not in the specification")]


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("// A server MUST stop.", 1),
        ("// A server MUST\n// stop. It is [CML-001].", 1),
        ("  // A server MUST\n  // stop [CML-001]. It MUST wait [CML-001].", 0),
        ("// A server stops.\nmessage Must {}", 0),
        ("message M {} // not a comment of its own\n// It MAY.", 1),
    ],
)
def test_a_key_word_of_a_proto_without_a_citation_is_found(comment: str, found: int) -> None:
    assert len(list(spec_lint.check_proto("a.proto", comment + "\n"))) == found


def test_citations_are_looked_for_in_code_protos_tests_and_cases() -> None:
    found = {path.relative_to(spec_lint.ROOT).as_posix() for path in spec_lint.cited_files()}
    assert {
        "README.md",
        "proto/asynclm/v1/inference.proto",
        "reference/asynclm/cml/parser.py",
        "grammar/cml.lark",
        "spec/draft/cml.md",
        "tests/spec/test_house_rules.py",
    } <= found
    assert any(name.startswith("grammar/cases/") for name in found)


def repository(folder: Path, pages: dict[str, str]) -> Path:
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("b.md", None),
        ("b.md#two-words-a-b", None),
        ("#here", None),
        ("https://example.org/nothing", None),
        ("c.md", "link to c.md: no such file"),
        ("b.md#nowhere", "link to b.md#nowhere: no such heading"),
        ("#nowhere", "link to #nowhere: no such heading"),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, target: str, message: str | None) -> None:
    root = repository(tmp_path, {"a.md": f"# Here\n\nSee [it]({target}).\n", "b.md": "# B\n\n## Two words: a-b!\n"})
    found = [p.message for p in spec_lint.check_links(root / "a.md", root)]
    assert found == ([] if message is None else [message])


def test_a_page_that_is_missing_from_the_index_is_found(tmp_path: Path) -> None:
    root = repository(tmp_path, {"README.md": "[a](draft/a.md)\n", "draft/a.md": "# A\n", "draft/b.md": "# B\n"})
    found = spec_lint.check_index(root / "README.md", sorted((root / "draft").glob("*.md")), root)
    assert [p.message for p in found] == ["b.md is missing from the index"]


def test_the_lint_of_a_repository_brings_all_checks_together(tmp_path: Path) -> None:
    pages = {
        "README.md": f"[{'CML'}-999]\n",
        "spec/README.md": "[nothing](nothing.md)\n",
        "spec/decisions/README.md": "# Decisions\n",
        "spec/decisions/0001-one.md": "# One\n",
        "spec/draft/cml.md": GOOD + "\n" + GOOD,
        "spec/draft/new.md": "It MUST stop.\n",
        "reference/a.py": f"# [{'INT'}-999]\n",
    }
    found = [problem.message for problem in spec_lint.lint(repository(tmp_path, pages))]
    for words in (
        "this page has no entry",
        "MUST without an id",
        "is defined at",
        "[CML-" + "999] is not in",
        "[INT-" + "999] is not in",
        "no such file",
        "cml.md is missing from the index",
        "0001-one.md is missing from the index",
    ):
        assert any(words in message for message in found), words


def test_the_program_says_how_many_requirements_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert spec_lint.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(spec_lint.all_requirements())
    assert listed[0].split()[1] in {"MUST", "SHOULD", "MAY"}


def test_what_the_specification_grew_from_is_not_cited() -> None:
    notes = re.compile(r"\b(?:SEMAN" + r"TICS|DE" + r"SIGN)(?:\.md)? ?(?:§ ?)?[0-9]")
    citing = [p for p in spec_lint.cited_files() if notes.search(p.read_text(encoding="utf-8"))]
    assert not citing
