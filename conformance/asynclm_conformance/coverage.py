"""Which case verifies which requirement: every id has one, is watched on every stream, or is left out with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from asynclm_conformance import ambient
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.model import Case
from asynclm_conformance.cases.yaml_reading import read_yaml
from asynclm_conformance.requirements import Requirement, load


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement and what becomes of it.

    Attributes:
        requirement: its id, level, page and sentence.
        cases: the names of the cases that verify it.
        ambient: whether it is watched on every stream of every case.
        excluded: why no case is possible; None if it is not left out.
    """

    requirement: Requirement
    cases: tuple[str, ...]
    ambient: bool
    excluded: str | None

    @property
    def open(self) -> bool:
        """Whether nothing at all is said of it."""
        return not self.cases and not self.ambient and self.excluded is None


def exclusions() -> dict[str, str]:
    """The requirements that no case can verify, and why.

    Raises:
        CaseError: the file is not a mapping from ids to reasons.
    """
    name = "requirements/draft.yaml"
    raw = read_yaml(files("asynclm_conformance").joinpath(name).read_text(encoding="utf-8"), name)
    if not isinstance(raw, Mapping) or not all(isinstance(reason, str) and reason for reason in raw.values()):
        raise CaseError(f"{name}: a mapping from ids to reasons is expected")
    return {str(key): value for key, value in raw.items()}


def table(cases: Sequence[Case]) -> tuple[Row, ...]:
    """One row for each requirement of the specification, in its order."""
    excluded = exclusions()
    verified: dict[str, list[str]] = {}
    for case in cases:
        for requirement in case.message.verifies:
            verified.setdefault(requirement, []).append(case.name)
    return tuple(
        Row(requirement, tuple(verified.get(name, ())), name in ambient.REQUIREMENTS, excluded.get(name))
        for name, requirement in load().items()
    )


def problems(rows: Sequence[Row]) -> list[str]:
    """What is wrong with a table: requirements that nothing is said of, and reasons that are out of date."""
    known = {row.requirement.id for row in rows}
    found = [f"{row.requirement.id}: has no case and no exclusion" for row in rows if row.open]
    for row in rows:
        if row.excluded is not None and (row.cases or row.ambient):
            who = f"{row.cases[0]} verifies it" if row.cases else "it is watched on every stream"
            found.append(f"{row.requirement.id}: is excluded, and yet {who}")
    return found + [
        f"{name}: is excluded, but the specification does not have it" for name in sorted(exclusions().keys() - known)
    ]
