"""What the records show of each requirement: the cases that verify it, and their verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asynclm_conformance.names import verdict_name
from asynclm_conformance.report.clean import visible
from asynclm_conformance.report.html.view import Cell, Cited, Column, cited, path_of
from asynclm_conformance.requirements import load


@dataclass(frozen=True, slots=True)
class Verifier:
    """A case that verifies a requirement, and its verdicts."""

    name: str
    path: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class RequirementRow:
    """A requirement and the cases that verify it."""

    cited: Cited
    level: str
    section: str
    verifiers: tuple[Verifier, ...]


def requirement_rows(columns: Sequence[Column], names: Sequence[str]) -> Iterator[tuple[str, list[RequirementRow]]]:
    """The requirements that the cases verify or were found to be broken, under the pages that define them."""
    verifiers: dict[str, list[str]] = {}
    for name in names:
        for concerned in sorted(_concerned(columns, name)):
            verifiers.setdefault(concerned, []).append(name)
    pages: dict[str, list[RequirementRow]] = {}
    for requirement in load().values():
        if requirement.id in verifiers:
            shown = tuple(_verifier(columns, name) for name in verifiers[requirement.id])
            row = RequirementRow(cited(requirement.id), requirement.level, requirement.section, shown)
            pages.setdefault(requirement.path, []).append(row)
    yield from pages.items()


def _concerned(columns: Sequence[Column], name: str) -> set[str]:
    results = [column.run.by_case[name] for column in columns if name in column.run.by_case]
    found = {requirement for result in results for requirement in result.verifies}
    return found | {failure.requirement for result in results for failure in result.failures}


def _verifier(columns: Sequence[Column], name: str) -> Verifier:
    results = ((column, column.run.by_case.get(name)) for column in columns)
    cells = tuple(Cell(column, verdict_name(result.verdict) if result else "") for column, result in results)
    return Verifier(visible(name, 120), path_of(name), cells)
