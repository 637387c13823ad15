"""Checks cases before they are played: what a reader of the YAML alone can get wrong."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from asynclm.conformance.v1 import suite_pb2
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.model import MAIN, Case, Expectation, SessionCase, script_steps
from asynclm_conformance.cases.rpcs import order_given, present_given, request_of, response_given

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_KINDS = frozenset(
    field.name for field in suite_pb2.TraceEntry.DESCRIPTOR.oneofs_by_name["event"].fields if field.name != "resumed"
)


def lint(cases: Sequence[Case], requirements: Collection[str]) -> list[str]:
    """Everything that is wrong with cases, one line each; empty if nothing is.

    Args:
        cases: the cases.
        requirements: the ids that the specification has.
    """
    return [f"{case.name}: {problem}" for case in cases for problem in _case(case, requirements)]


def _case(case: Case, requirements: Collection[str]) -> Iterator[str]:
    message = case.message
    if not _SLUG.fullmatch(message.id):
        yield f"id: {message.id!r} is not lower-case words joined by `-`"
    if not message.title or message.title.endswith("."):
        yield "title: a sentence without its full stop is expected"
    if not message.feature:
        yield "feature: is missing"
    if not message.verifies:
        yield "verifies: names no requirement"
    for requirement in [*message.verifies, *_because(case)]:
        if requirement not in requirements:
            yield f"verifies: the specification has no {requirement}"
    if case.live and not message.live.witness:
        yield "live.witness: names nothing, so that nothing has to happen"
    for session in case.sessions.values():
        yield from _session(session)
    yield from _steps(case)


def _because(case: Case) -> list[str]:
    return [
        entry.entry.because
        for session in case.sessions.values()
        for trace in (session.trace, *session.or_else)
        for entry in trace
        if entry.entry.because
    ]


def _session(session: SessionCase) -> Iterator[str]:
    spec, name = session.spec, session.name
    for number, line in enumerate(spec.script, 1):
        if not line.WhichOneof("line"):
            yield f"{name}.script[{number}]: says nothing"
        if line.masked and len(script_steps(line)) != 1:
            yield f"{name}.script[{number}]: a line that the mask forbids is one token"
    for trace in (session.trace, *session.or_else):
        yield from _trace(trace, name, len(spec.script))
    for kind in spec.watch:
        if kind not in _KINDS:
            yield f"{name}.watch: {kind!r} is no kind of event; there are {', '.join(sorted(_KINDS))}"
    unheard = {entry.kind for entry in session.trace} - set(spec.watch) - {"notice"}
    if spec.watch and unheard:
        yield f"{name}.watch: leaves out {', '.join(sorted(unheard))}, which the trace has"
    if spec.HasField("refused") and session.trace:
        yield f"{name}.trace: a session that is refused has none"


def _trace(trace: Sequence[Expectation], name: str, lines: int) -> Iterator[str]:
    for number, entry in enumerate(trace):
        if entry.entry.HasField("after") and not 0 <= entry.entry.after <= lines:
            yield f"{name}.trace[{number}].after: the script has {lines} lines"
        if entry.kind == "finished" and number != len(trace) - 1:
            yield f"{name}.trace[{number}]: nothing comes after finished"


def _steps(case: Case) -> Iterator[str]:
    if not case.steps and not case.sessions:
        yield "steps: it does nothing"
    touched = {MAIN, *(step.session or MAIN for step in case.steps if step.WhichOneof("step") != "rpc")}
    for name in case.sessions.keys() - touched:
        yield f"sessions.{name}: no step is about it, so that it is never opened"
    granted: Mapping[str, list[int]] = defaultdict(list)
    for number, step in enumerate(case.steps, 1):
        name, kind = step.session or MAIN, step.WhichOneof("step")
        if kind is None:
            yield f"steps[{number}]: does nothing"
        elif kind == "rpc":
            yield from _rpc(case, step.rpc, f"steps[{number}].rpc")
        elif name not in case.sessions:
            yield f"steps[{number}].session: the case has no session {name!r}"
        elif kind == "grant" and step.grant.HasField("through"):
            lines = len(case.sessions[name].spec.script)
            if not 1 <= step.grant.through <= lines:
                yield f"steps[{number}].grant.through: the script has {lines} lines"
            elif granted[name] and step.grant.through <= granted[name][-1]:
                yield f"steps[{number}].grant.through: line {granted[name][-1]} was granted before"
            granted[name].append(step.grant.through)


def _rpc(case: Case, rpc: suite_pb2.Rpc, place: str) -> Iterator[str]:
    names = dict.fromkeys([*case.sessions, *(f"{name}.script" for name in case.sessions)], "x")
    try:
        request_of(rpc, names, place)
        response_given(rpc, names, place)
        order_given(rpc, names, place)
        present_given(rpc, place)
    except CaseError as error:
        yield str(error)
