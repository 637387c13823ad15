"""Judges a played case: statuses, traces, what follows from the script, and what holds on every stream."""

from __future__ import annotations

from collections.abc import Iterator

from asynclm.conformance.v1 import results_pb2
from asynclm.v1 import control_pb2
from asynclm_conformance import ambient
from asynclm_conformance.cases.model import Case
from asynclm_conformance.faults import OK
from asynclm_conformance.judge.published import published_differences
from asynclm_conformance.judge.script import script_mismatch
from asynclm_conformance.judge.trace import Mismatch, trace_mismatch
from asynclm_conformance.matching.events import describe
from asynclm_conformance.matching.values import fault_difference
from asynclm_conformance.play.player import Play, PlayedSession


def judge(case: Case, play: Play) -> list[results_pb2.Failure]:
    """Everything that is wrong with a case that was played, the play's own failures first.

    Where it could not be played to its end, its traces are not judged: they would only say so again.
    """
    failures = list(play.failures)
    broken_off = any(failure.timed_out for failure in failures)
    for session in play.sessions.values():
        if session.opened and not session.case.spec.HasField("refused") and session.stream.events:
            found = [*_published(play.info, session), *_session(case, session, broken_off=broken_off)]
            for failure in found:
                failure.step = session.stream.steps.get(failure.sequence, 0)
            failures += found
    return failures


def _session(case: Case, session: PlayedSession, *, broken_off: bool) -> Iterator[results_pb2.Failure]:
    name, stream, spec = session.case.name, session.stream, session.case.spec
    default = case.message.verifies[0] if case.message.verifies else ""
    if not broken_off:
        mismatch = trace_mismatch(session.case, stream.events[: session.cut], _units_through(session))
        if mismatch is not None and not (case.live and not session.case.trace):
            yield _failure(mismatch, name, default)
        if not stream.dropped:
            yield from _ending(session, name)
    if session.units:
        stops = bool(stream.start.stop)
        mismatch = script_mismatch(session.case.pieces, session.units, stream.events, stops=stops)
        if mismatch is not None:
            yield _failure(mismatch, name, default)
    for event in stream.events:
        want, got = session.frames.get(event.sequence), len(event.interrupt_committed.ids)
        if want is not None and want != got:
            message = "the frame has not the ids of its parts, each encoded on its own"
            yield results_pb2.Failure(
                requirement="CML-054",
                message=message,
                want=f"{want} ids",
                got=f"{got} in {describe(event)}",
                session=name,
                sequence=event.sequence,
            )
    for sequence, message in stream.replay_faults:
        yield results_pb2.Failure(
            requirement="WIRE-092" if sequence else "WIRE-091", message=message, session=name, sequence=sequence
        )
    complete = not broken_off and not stream.dropped and not spec.HasField("ends")
    for violation in ambient.check(stream.events, stream.start, stream.sent, complete=complete):
        yield results_pb2.Failure(
            requirement=violation.requirement, message=violation.message, session=name, sequence=violation.sequence
        )


def _published(info: control_pb2.GetServerInfoResponse, session: PlayedSession) -> Iterator[results_pb2.Failure]:
    first, name = session.stream.events[0], session.case.name
    if not first.HasField("started"):
        return
    for requirement, (message, want, got) in published_differences(info, first.started):
        yield results_pb2.Failure(
            requirement=requirement, message=message, want=want, got=got, session=name, sequence=1
        )


def _ending(session: PlayedSession, name: str) -> Iterator[results_pb2.Failure]:
    status, spec = session.stream.status, session.case.spec
    if status is None:
        return
    if spec.HasField("ends"):
        wrong = fault_difference(spec.ends, status)
        if wrong is not None:
            message, want, got = wrong
            yield results_pb2.Failure(requirement="ERR-001", message=message, want=want, got=got, session=name)
    elif status != OK:
        yield results_pb2.Failure(
            requirement="WIRE-015", message="the rpc did not end with OK", want="OK", got=str(status), session=name
        )


def _units_through(session: PlayedSession) -> list[int]:
    lines = len(session.case.spec.script)
    return [session.through(line) for line in range(lines + 1)]


def _failure(mismatch: Mismatch, session: str, default: str) -> results_pb2.Failure:
    return results_pb2.Failure(
        requirement=mismatch.requirement or default,
        message=mismatch.message,
        want=mismatch.want,
        got=mismatch.got,
        session=session,
        sequence=mismatch.sequence,
    )
