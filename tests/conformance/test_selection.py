"""Choosing cases, and what a run of them can claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from asynclm.conformance.v1 import results_pb2
from asynclm.v1 import control_pb2, session_pb2
from asynclm_conformance import selection, verdict
from asynclm_conformance.cases.model import Case
from asynclm_conformance.cases.reading import read_cases
from asynclm_conformance.exit_codes import ExitCode
from asynclm_conformance.selection import Pattern, SelectionError

FILE = """\
about: Something.
cases:
- {id: plain, title: A, feature: CORE, verifies: [SES-044], main: {script: [{end: true}]}}
- {id: trapped, title: B, feature: TRAPS, verifies: [TRAP-001], main: {script: [{end: true}]}}
- {id: resumed, title: C, feature: FULL, verifies: [WIRE-091], needs: [RESUME], main: {script: [{end: true}]}}
- {id: masked, title: D, feature: CORE, verifies: [SES-010], not_emulated: no masks, needs: [GRAMMAR]}
- {id: tooled, title: E, feature: CORE, verifies: [CALL-050], needs_tools: [conformance.echo]}
- {id: unmasked, title: G, feature: CORE, verifies: [SES-018], lacks: [GRAMMAR], main: {script: [{end: true}]}}
- {id: lively, title: F, feature: FULL, verifies: [INT-003], live: {witness: [WENT_ON]}, main: {}}
"""
CASES = read_cases(FILE, "file")
CAPABILITIES = (session_pb2.CAPABILITY_SCRIPTED_MODEL, session_pb2.CAPABILITY_PYTHON_CALL)


def info(*capabilities: session_pb2.Capability.ValueType) -> control_pb2.GetServerInfoResponse:
    models = [control_pb2.ModelInfo(name="m", scripted_only=True)]
    return control_pb2.GetServerInfoResponse(models=models, capabilities=(*CAPABILITIES, *capabilities))


def names(cases: tuple[Case, ...]) -> list[str]:
    return [case.message.id for case in cases]


def patterns(*texts: str) -> tuple[Pattern, ...]:
    return selection.read_patterns(texts)


def test_a_profile_has_the_cases_of_its_features() -> None:
    for profile, expected in (
        ("core", ["plain", "masked", "tooled", "unmasked"]),
        ("traps", ["plain", "trapped", "masked", "tooled", "unmasked"]),
        ("emulated", ["plain", "trapped", "tooled", "unmasked"]),
        ("full", ["plain", "trapped", "resumed", "masked", "tooled", "unmasked", "lively"]),
    ):
        assert names(selection.select(CASES, selection.profile_called(profile))) == expected


def test_patterns_choose_by_name_file_and_wildcard(tmp_path: Path) -> None:
    full = selection.profile_called("full")
    assert names(selection.select(CASES, full, run=patterns("file/plain"))) == ["plain"]
    assert len(selection.select(CASES, full, run=patterns("file"))) == 7
    assert names(selection.select(CASES, full, run=patterns("file/*ed"), skip=patterns("*/masked"))) == [
        "trapped",
        "resumed",
        "tooled",
        "unmasked",
    ]
    listed = tmp_path / "some.txt"
    listed.write_text("file/plain # a reason\n\n# nothing\n", encoding="utf-8")
    assert names(selection.select(CASES, full, run=patterns(f"@{listed}"))) == ["plain"]


def test_a_pattern_that_matches_nothing_is_an_error_in_each_option() -> None:
    full = selection.profile_called("full")
    for option in ("run", "skip", "known_failing", "known_flaky"):
        with pytest.raises(SelectionError, match=f"--{option.replace('_', '-')} file/none: matches no case"):
            selection.select(CASES, full, **{option: patterns("file/none")})


def test_known_failures_have_reasons_and_stand_in_files(tmp_path: Path) -> None:
    listed = tmp_path / "known.txt"
    listed.write_text("file/plain\n", encoding="utf-8")
    with pytest.raises(SelectionError, match=r"known\.txt:1: file/plain has no reason"):
        selection.read_patterns([f"@{listed}"], reasons=True)
    with pytest.raises(SelectionError, match="stand in a file"):
        selection.read_patterns(["file/plain"], reasons=True)
    with pytest.raises(SelectionError, match="cannot be read"):
        selection.read_patterns([f"@{tmp_path / 'none'}"])
    with pytest.raises(SelectionError, match="no profile is called 'fool'; there are core"):
        selection.profile_called("fool")


def test_what_is_not_declared_is_skipped_and_what_the_profile_asks_for_cannot_be() -> None:
    full, core = selection.profile_called("full"), selection.profile_called("core")
    by_name = {choice.case.message.id: choice for choice in selection.choose(CASES, full, info())}
    assert by_name["plain"].skip == by_name["plain"].untestable == ""
    assert "full requires RESUME" in by_name["resumed"].untestable
    assert by_name["masked"].skip == "the target does not declare GRAMMAR"
    assert "conformance.echo" in by_name["tooled"].skip
    assert "decodes by itself" in by_name["lively"].skip
    without = control_pb2.GetServerInfoResponse(models=[control_pb2.ModelInfo(name="m")])
    (plain, *_) = selection.choose(CASES, core, without)
    assert "core requires SCRIPTED_MODEL" in plain.untestable
    declared = selection.choose(CASES, full, info(session_pb2.CAPABILITY_RESUME, session_pb2.CAPABILITY_GRAMMAR))
    assert not any(choice.untestable for choice in declared)
    lacking = {choice.case.message.id: choice for choice in declared}["unmasked"]
    assert lacking.skip == "the target declares GRAMMAR"
    assert not by_name["unmasked"].skip


def test_capabilities_that_this_suite_does_not_know_are_no_hindrance() -> None:
    newer = info(session_pb2.Capability.ValueType(9_999))
    assert not selection.choose(CASES, selection.profile_called("core"), newer)[0].skip


@pytest.mark.parametrize(
    ("counts", "code", "said"),
    [
        ({"PASS": 3}, ExitCode.CONFORMANT, "conformant to draft at core"),
        ({"PASS": 3, "SKIP": 2, "WARN": 1}, ExitCode.CONFORMANT, "conformant to draft at core"),
        ({"PASS": 300, "FAIL": 256}, ExitCode.NONCONFORMANT, "not conformant to draft at core: 256 failed"),
        ({"PASS": 3, "STALE": 1}, ExitCode.NONCONFORMANT, "wrongly listed"),
        ({"PASS": 3, "XFAIL": 1}, ExitCode.CONFORMANT, "not conformant to draft at core: 1 known to fail"),
        ({"PASS": 3, "ERROR": 1}, ExitCode.HARNESS, "no claim"),
        ({"FAIL": 1, "ERROR": 1}, ExitCode.NONCONFORMANT, "no claim"),
        ({"SKIP": 3}, ExitCode.NOTHING_SELECTED, "no claim"),
    ],
)
def test_counts_make_the_claim_and_the_status(counts: dict[str, int], code: ExitCode, said: str) -> None:
    assert verdict.exit_code(counts) is code
    assert said in verdict.claim(counts, revision="draft", profile="core", whole=True)


def test_a_profile_is_not_claimed_without_the_capabilities_that_it_asks_for() -> None:
    full = selection.profile_called("full")
    declared = control_pb2.GetServerInfoResponse(capabilities=full.requires - {session_pb2.CAPABILITY_RESUME})
    missing = selection.undeclared(full, declared)
    assert missing == ("RESUME",)
    assert verdict.exit_code({"PASS": 3}, missing) is ExitCode.NONCONFORMANT
    said = verdict.claim({"PASS": 3}, revision="draft", profile="full", whole=True, missing=missing)
    assert said == "not conformant to draft at full: the target does not declare RESUME"


def test_a_part_of_a_profile_claims_nothing() -> None:
    assert verdict.claim({"PASS": 3}, revision="draft", profile="core", whole=False).startswith("no claim")
    results = [
        results_pb2.CaseResult(verdict=results_pb2.VERDICT_PASS),
        results_pb2.CaseResult(verdict=results_pb2.VERDICT_SKIP),
    ]
    assert verdict.count(results) == {"PASS": 1, "SKIP": 1}
