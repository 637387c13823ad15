"""Writes the list of mutants, `conformance/docs/mutants.md`, anew: `python -m tests.mutants.listing`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.mutants.registry import FILES, MUTANTS, mutants_of, subject_of

PAGE = Path(__file__).parents[2] / "conformance" / "docs" / "mutants.md"

HEAD = """\
# Mutants

Servers with one deliberate fault each ([how they are used](checked.md)). `python -m tests.mutants.listing` writes this
list. Which cases find each stands in [the matrix](mutant-matrix.md).
"""


def listing() -> str:
    """The page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    yield f"{len(MUTANTS)} mutants."
    for file in FILES:
        yield from ("", f"## {subject_of(file)}", "", "| mutant | fault | breaks |", "|---|---|---|")
        for mutant in mutants_of(file):
            yield f"| `{mutant.name}` | {mutant.about} | {', '.join(mutant.violates)} |"


if __name__ == "__main__":
    PAGE.write_text(listing(), encoding="utf-8")
