"""The ambient checks find faults: a sound stream passes, and each way of spoiling it is reported by its requirement."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conformance.mutation import mutated, numbered
from tests.conformance.recordings import RECORDINGS, Recording
from tests.conformance.spoiled import SPOILED, Spoil

import asynclm_conformance.ambient
from asynclm.v1 import session_pb2
from asynclm_conformance.ambient import REQUIREMENTS, check


@pytest.fixture(scope="session")
def recordings() -> dict[str, Recording]:
    return {name: record() for name, record in RECORDINGS.items()}


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_sound_stream_breaks_nothing(recordings: dict[str, Recording], name: str) -> None:
    """With the client's events and without, and wherever it is cut off."""
    recording = recordings[name]
    events = recording.events
    assert recording.broken(events) == []
    assert check(events, recording.start) == []
    for length in range(len(events)):
        assert check(events[:length], recording.start, recording.sent, complete=False) == []


def test_everything_that_can_be_spoiled_is_recorded(recordings: dict[str, Recording]) -> None:
    events = [event for recording in recordings.values() for event in recording.events]
    kinds = {field.name for field in session_pb2.ServerEvent.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert {event.WhichOneof("event") for event in events} == kinds - {"resumed"}
    busy = list(recordings["busy"].events)
    assert numbered(busy) == busy


@pytest.mark.parametrize(("name", "requirement", "spoil"), SPOILED)
def test_a_spoiled_stream_is_reported(
    recordings: dict[str, Recording], name: str, requirement: str, spoil: Spoil
) -> None:
    recording = recordings[name]
    events = spoil([*map(copied, recording.events)])
    broken = recording.broken(events)
    assert requirement in {violation.requirement for violation in broken}, "\n".join(map(str, broken))


def copied(event: session_pb2.ServerEvent) -> session_pb2.ServerEvent:
    copy = session_pb2.ServerEvent()
    copy.CopyFrom(event)
    return copy


def test_every_requirement_has_a_stream_that_breaks_it() -> None:
    assert {parameters.values[1] for parameters in SPOILED} == REQUIREMENTS


def test_the_requirements_are_those_of_the_checks() -> None:
    folder = Path(asynclm_conformance.ambient.__file__).parent
    named = set()
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= {node.value} if re.fullmatch(r"[A-Z]+-\d{3}", node.value) else set()
    assert named == REQUIREMENTS


@settings(max_examples=60)
@given(data=st.data(), name=st.sampled_from(sorted(RECORDINGS)))
def test_no_stream_is_refused(recordings: dict[str, Recording], data: st.DataObject, name: str) -> None:
    """Whatever comes is judged: events lost, doubled, swapped, emptied, or with other values in any field."""
    recording = recordings[name]
    events = data.draw(mutated(recording.events))
    for violation in recording.broken(events):
        assert violation.requirement in REQUIREMENTS
        assert str(violation)


@pytest.mark.slow
@settings(max_examples=5_000)
@given(data=st.data(), name=st.sampled_from(sorted(RECORDINGS)))
def test_no_stream_is_refused_whatever_it_is(recordings: dict[str, Recording], data: st.DataObject, name: str) -> None:
    recording = recordings[name]
    assert all(map(str, recording.broken(data.draw(mutated(recording.events)))))


def test_nothing_can_be_said_of_a_stream_that_never_started() -> None:
    """[WIRE-011]: a status may stand in place of `Started`."""
    start = session_pb2.Start()
    assert [violation.requirement for violation in check([], start)] == ["WIRE-011"]
    assert check([], start, complete=False) == []


def test_an_event_of_a_later_revision_is_passed_over(recordings: dict[str, Recording]) -> None:
    """[WIRE-006]; it is numbered all the same."""
    recording = recordings["kept"]
    events = [*map(copied, recording.events)]
    later = session_pb2.ServerEvent.FromString(b"\xfa\x07\x00")  # field 127, an empty message
    assert recording.broken(numbered([*events[:2], later, *events[2:]])) == []
