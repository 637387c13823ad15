"""Every requirement of the specification has a case, is watched on every stream, or is left out with a reason."""

from __future__ import annotations

from asynclm.conformance.v1 import suite_pb2
from asynclm_conformance import coverage
from asynclm_conformance.cases.reading import read_suite
from asynclm_conformance.requirements import load
from asynclm_conformance.selection import profiles, smoke_patterns


def test_no_requirement_is_left_open() -> None:
    assert coverage.problems(coverage.table(read_suite())) == []


def test_an_open_requirement_is_told() -> None:
    rows = coverage.table(())
    told = coverage.problems(rows)
    left = [row for row in rows if not row.ambient and row.excluded is None]
    assert len(told) == len(left) > 100


def test_a_requirement_of_one_that_has_a_case_is_not_left_out_as_well() -> None:
    verified = {requirement for case in read_suite() for requirement in case.message.verifies}
    assert not verified & coverage.exclusions().keys()
    assert verified <= load().keys()


def test_a_must_is_never_verified_by_a_case_that_only_warns() -> None:
    weak = [
        (case.name, requirement)
        for case in read_suite()
        if case.level != suite_pb2.LEVEL_MUST
        for requirement in case.message.verifies
        if load()[requirement].level == "MUST"
    ]
    assert not weak


def test_what_a_hosted_interface_cannot_do_is_left_out_with_a_reason() -> None:
    emulated = profiles()["emulated"]
    left_out = [
        case for case in read_suite() if case.message.feature in emulated.features and case.message.not_emulated
    ]
    assert all(len(case.message.not_emulated.split()) > 2 for case in left_out)


def test_the_smoke_cases_exist_and_belong_to_core() -> None:
    cases = read_suite()
    core = profiles()["core"]
    for pattern in smoke_patterns():
        assert any(pattern.matches(case.name) and case.message.feature in core.features for case in cases)
