"""`list` and `explain`: the suite for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.json_format import MessageToDict

from asynclm.conformance.v1 import suite_pb2
from asynclm_conformance import coverage
from asynclm_conformance.cases.model import Case
from asynclm_conformance.matching.events import wanted
from asynclm_conformance.names import capability_name, feature_name, level_name
from asynclm_conformance.requirements import load
from asynclm_conformance.selection import needed_by, profiles


def listing(cases: Sequence[Case]) -> Iterator[str]:
    """One line for each case, then how many there are by feature."""
    width = max((len(case.name) for case in cases), default=0)
    by_feature: dict[str, int] = {}
    for case in cases:
        feature = feature_name(case.message.feature)
        by_feature[feature] = by_feature.get(feature, 0) + 1
        yield f"{case.name:{width}}  {case.message.title}"
    yield ""
    yield f"{len(cases)} cases: " + ", ".join(f"{number} {name}" for name, number in by_feature.items())


def requirement_listing(cases: Sequence[Case]) -> Iterator[str]:
    """The coverage of the specification: one line for each requirement."""
    rows = coverage.table(cases)
    for row in rows:
        how = ", ".join(row.cases) or ("watched on every stream" if row.ambient else "")
        how = how or (f"no case: {row.excluded}" if row.excluded is not None else "OPEN")
        yield f"{row.requirement.id:9} {row.requirement.level:6} {how}"
    verified = sum(bool(row.cases) for row in rows)
    watched = sum(row.ambient and not row.cases for row in rows)
    excluded = sum(row.excluded is not None and not row.cases and not row.ambient for row in rows)
    yield ""
    yield (
        f"{len(rows)} requirements: {verified} verified by cases, {watched} watched on every stream, "
        f"{excluded} without a case, each with its reason, {sum(row.open for row in rows)} open"
    )


def explanation(case: Case) -> Iterator[str]:
    """A case in full: what it shows, why, what is done and what has to come."""
    message = case.message
    yield f"{case.name} ({level_name(case.level)}, {feature_name(case.message.feature)})"
    yield message.title + "."
    if message.note:
        yield message.note
    requirements = load()
    for name in message.verifies:
        found = requirements.get(name)
        if found is not None:
            yield f"\n[{name}] {found.sentence}\n    spec/draft/{found.page}.md"
    needed = [capability_name(capability) for capability in needed_by(case)]
    claims = [profile.name for profile in profiles().values() if profile.has(case)]
    yield f"\npart of the profiles: {', '.join(claims)}"
    if needed:
        yield f"needs: {', '.join(needed)}"
    if message.lacks:
        yield f"for targets without: {', '.join(capability_name(lacking) for lacking in message.lacks)}"
    if message.needs_tools:
        yield f"needs tools of the server: {', '.join(message.needs_tools)}"
    if message.not_emulated:
        yield f"not part of emulated: {message.not_emulated}"
    for name, session in case.sessions.items():
        yield f"\nsession {name}"
        yield from _session(session.spec)
        for heading, trace in (("trace", session.trace), *(("or", other) for other in session.or_else)):
            if trace:
                yield f"  {heading}:"
                yield from (f"    {wanted(entry)}" for entry in trace)
    if case.steps:
        yield "\nsteps"
        for number, step in enumerate(case.steps, 1):
            yield f"  {number}. {_short(step)}"


def _session(spec: suite_pb2.SessionSpec) -> Iterator[str]:
    if spec.HasField("start"):
        yield f"  start: {_short(spec.start)}"
    for number, line in enumerate(spec.script, 1):
        yield f"  {number:3} {_short(line)}"
    for name in ("refused", "ends"):
        if spec.HasField(name):
            yield f"  {name}: {_short(getattr(spec, name))}"


def _short(message: object) -> str:
    return str(MessageToDict(message, preserving_proto_field_name=True))  # type: ignore[arg-type]
