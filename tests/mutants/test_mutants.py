"""Every check of the suite can fail: deliberately wrong servers are caught, and for the reasons that they declare."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter

import pytest
from tests.mutants.listing import PAGE, listing
from tests.mutants.matrix import Finding, cases_about, examine_all, run_cases, scripted_cases
from tests.mutants.registry import FILES, MUTANTS, mutants_of
from tests.mutants.serve import UNMUTATED

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.requirements import load

EVERY = 6
"""Of each file's mutants one of so many is run in `make test`; the slow tests run them all."""

QUICK = tuple(mutant for file in FILES for mutant in mutants_of(file)[::EVERY])


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    """What the cases find that verify what each of the quick mutants breaks."""
    cases = scripted_cases()
    found = asyncio.run(examine_all(QUICK, lambda mutant: cases_about(mutant, cases), until_caught=True))
    return {finding.mutant.name: finding for finding in found}


@pytest.mark.parametrize("name", [mutant.name for mutant in QUICK])
def test_a_mutant_is_caught(name: str, findings: dict[str, Finding]) -> None:
    finding = findings[name]
    assert finding.caught, f"{finding.mutant.about} Nobody sees it: {[r.case for r in finding.failed]} {finding.gone}"


def test_every_mutant_fits_the_code() -> None:
    tried = subprocess.run([sys.executable, "-m", "tests.mutants.fits"], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_there_are_enough_quick_mutants() -> None:
    assert len(QUICK) >= 40


def test_what_a_mutant_breaks_is_in_the_specification() -> None:
    known = load()
    unknown = {name: set(mutant.violates) - known.keys() for name, mutant in MUTANTS.items()}
    assert not {name: ids for name, ids in unknown.items() if ids}


def test_every_group_of_requirements_has_a_mutant() -> None:
    groups = Counter(name.partition("-")[0] for mutant in MUTANTS.values() for name in mutant.violates)
    assert groups.keys() == {name.partition("-")[0] for name in load()}


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_every_mutant_is_caught() -> None:
    cases = scripted_cases()
    found = asyncio.run(examine_all(tuple(MUTANTS.values()), lambda mutant: cases_about(mutant, cases)))
    wrong = {finding.mutant.name: finding.wrong() for finding in found if finding.wrong()}
    assert not wrong, "\n".join(f"{name}: {'; '.join(said)}" for name, said in wrong.items())
    finders = {result.case.partition("/")[0] for finding in found for result in finding.failed}
    assert finders == {case.name.partition("/")[0] for case in cases}, "every file of cases finds something"


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_whole_suite_finds_nothing_else_wrong_with_a_mutant() -> None:
    """A case that fails says so for what the mutant breaks, or stands in `also` with its reason."""
    cases = scripted_cases()
    found = asyncio.run(examine_all(QUICK, lambda _: cases))
    wrong = {finding.mutant.name: finding.wrong() for finding in found if finding.wrong()}
    assert not wrong, "\n".join(f"{name}: {'; '.join(said)}" for name, said in wrong.items())


@pytest.mark.slow
def test_the_server_as_it_is_passes_the_same_cases() -> None:
    cases = scripted_cases()
    results, gone = asyncio.run(run_cases(UNMUTATED, cases))
    assert not gone
    failed = [result.case for result in results if result.verdict == results_pb2.VERDICT_FAIL]
    assert not failed


def test_the_list_of_mutants_is_true() -> None:
    assert PAGE.read_text(encoding="utf-8") == listing(), "run `python -m tests.mutants.listing`, and commit"
