"""The reference server is held to its own suite: on the scripted engine, and through the loop of the torch engine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from asynclm.conformance.v1 import results_pb2, suite_pb2
from asynclm_conformance import selection
from asynclm_conformance.cases.reading import read_suite
from asynclm_conformance.names import verdict_name
from asynclm_conformance.play.target import started
from asynclm_conformance.run import Runner

ROOT = Path(__file__).parents[2]
ASYNCLM = (str(Path(sys.executable).with_name("asynclm")), "serve", "--port", "{port}")
TOOLS = ("--tools", str(ROOT / "examples" / "tools_conformance.py"))
PATIENCE_S = 30.0
"""What has to come comes in milliseconds; a machine that is busy with other tests gets its time."""


def run(command: Sequence[str], profile: str, *, live: bool) -> list[results_pb2.CaseResult]:
    """Runs a profile against a server that is started for it."""

    async def go() -> list[results_pb2.CaseResult]:
        claimed = selection.profile_called(profile)
        cases = [case for case in selection.select(read_suite(), claimed) if live or not case.live]
        async with started(command, start_s=120.0) as target:
            assert not selection.undeclared(claimed, target.info)
            runner = Runner(target, jobs=8, patience_s=PATIENCE_S, keep_wire=False, report=lambda _: None)
            return await runner.run(selection.choose(cases, claimed, target.info))

    return asyncio.run(go())


def told(results: Sequence[results_pb2.CaseResult]) -> str:
    return "\n".join(
        f"{verdict_name(result.verdict)} {result.case} {result.reason}"
        + "".join(f"\n  [{f.requirement}] {f.message}; want {f.want}; got {f.got}" for f in result.failures)
        for result in results
        if result.verdict not in (results_pb2.VERDICT_PASS, results_pb2.VERDICT_SKIP)
    )


def reasons(results: Sequence[results_pb2.CaseResult]) -> set[str]:
    """Why cases were skipped, those apart that are about targets that do without something."""
    skipped = [result.reason for result in results if result.verdict == results_pb2.VERDICT_SKIP]
    return {reason.removeprefix("the target ") for reason in skipped if not reason.startswith("the target declares")}


@pytest.mark.weights
def test_the_reference_is_conformant_at_full_on_the_scripted_engine() -> None:
    results = run((*ASYNCLM, "--engine", "scripted", *TOOLS), "full", live=False)
    assert not told(results)
    assert reasons(results) <= {"does not declare SCRIPTED_WEIGHTS"}


@pytest.mark.weights
def test_the_reference_is_conformant_at_full_through_the_torch_engine() -> None:
    results = run((*ASYNCLM, *TOOLS), "full", live=True)
    assert not told(results)
    assert not reasons(results), "there is nothing that the reference does not declare"
    witnessed = [result for result in results if result.witnessed]
    assert witnessed, "live cases have seen what they name"


@pytest.mark.slow
def test_three_runs_in_a_row_give_the_same_verdicts() -> None:
    runs = [run((*ASYNCLM, "--engine", "scripted", *TOOLS), "full", live=False) for _ in range(3)]
    first, *others = ({result.case: result.verdict for result in results} for results in runs)
    assert all(other == first for other in others)
    assert set(first.values()) == {results_pb2.VERDICT_PASS, results_pb2.VERDICT_SKIP}


def test_the_suite_covers_what_it_set_out_to() -> None:
    cases = read_suite()
    assert len(cases) >= 150
    features = {case.message.feature for case in cases}
    assert features == set(suite_pb2.Feature.values()) - {suite_pb2.FEATURE_UNSPECIFIED}
