"""The requirements are read out of the pages that travel with the package."""

from __future__ import annotations

from asynclm_conformance.requirements import load, read_page

ID = "CML-" + "900"


def test_a_requirement_has_its_sentence_level_and_place() -> None:
    found = load()["INT-004"]
    assert (found.page, found.path) == ("interrupts", "spec/draft/interrupts.md")
    assert (found.section, found.level) == ("1. Safe points", "MUST")
    assert found.sentence == (
        "An engine MUST NOT commit an interrupt inside a block, in a trap before it ends, or within an unfinished text "
        "sequence."
    )


def test_every_requirement_has_a_level_and_a_section() -> None:
    lacking = [found.id for found in load().values() if not found.level or not found.section or not found.sentence]
    assert len(load()) > 400
    assert not lacking


def test_the_section_is_the_heading_above() -> None:
    text = f"# Page\n\n## One\n\n**[{ID}]** It MUST.\n\n### Two\n\n**[{ID[:-1]}1]** It MAY.\n"
    assert [(found.section, found.level) for found in read_page("cml", text)] == [("One", "MUST"), ("Two", "MAY")]
