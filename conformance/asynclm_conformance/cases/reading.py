"""Reads the suite: every YAML file of cases, as checked messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from asynclm.conformance.v1 import suite_pb2
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.mapping import canonical, to_message
from asynclm_conformance.cases.model import MAIN, Case, Expectation, SessionCase
from asynclm_conformance.cases.yaml_reading import read_yaml


def read_suite(paths: Sequence[Path] = ()) -> tuple[Case, ...]:
    """Reads cases: those of the package, or those of the files that are given.

    Raises:
        CaseError: a file cannot be read, or a case in it is not well formed.
    """
    return _own_suite() if not paths else _read(paths)


@cache
def _own_suite() -> tuple[Case, ...]:
    return _read(())


def _read(paths: Sequence[Path]) -> tuple[Case, ...]:
    cases: list[Case] = []
    seen: set[str] = set()
    for name, text in _texts(paths):
        for case in read_cases(text, name):
            if case.name in seen:
                raise CaseError(f"{name}: two cases are called {case.name}")
            seen.add(case.name)
            cases.append(case)
    return tuple(cases)


def _texts(paths: Sequence[Path]) -> Iterable[tuple[str, str]]:
    if not paths:
        folder = files("asynclm_conformance").joinpath("suites")
        for entry in sorted(folder.iterdir(), key=lambda found: found.name):
            if entry.name.endswith(".yaml"):
                yield entry.name.removesuffix(".yaml"), entry.read_text(encoding="utf-8")
    for path in paths:
        try:
            yield path.stem, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CaseError(f"{path}: cannot be read: {error}") from None


def read_cases(text: str, name: str) -> tuple[Case, ...]:
    """Reads one file of cases.

    Args:
        text: its content.
        name: its name without `.yaml`; the first part of its cases' names.

    Raises:
        CaseError: it is not YAML, has unknown keys, or a case in it is not well formed.
    """
    raw = read_yaml(text, name)
    if not isinstance(raw, Mapping) or not isinstance(raw.get("cases"), list):
        raise CaseError(f"{name}: a mapping with `about` and a list of `cases` is expected")
    suite = to_message({key: value for key, value in raw.items() if key != "cases"}, suite_pb2.Suite, name)
    if not suite.about:
        raise CaseError(f"{name}: says not what its cases are about (`about`)")
    return tuple(_case(entry, name, number) for number, entry in enumerate(raw["cases"]))


def _case(raw: Any, file: str, number: int) -> Case:
    given = raw.get("id", number) if isinstance(raw, Mapping) else number
    name = f"{file}/{given}"
    message = to_message(raw, suite_pb2.Case, name)
    sessions: dict[str, SessionCase] = {}
    if "main" in raw:
        sessions[MAIN] = _session(MAIN, message.main, raw["main"] or {}, f"{name}.main")
    for key, spec in (raw.get("sessions") or {}).items():
        sessions[key] = _session(key, message.sessions[key], spec or {}, f"{name}.sessions.{key}")
    steps = raw.get("steps") or []
    waits = {
        index: _expectation(step["wait_for"], f"{name}.steps[{index}].wait_for")
        for index, step in enumerate(steps)
        if "wait_for" in step
    }
    return Case(name=name, message=message, sessions=sessions, waits=waits)


def _session(name: str, spec: suite_pb2.SessionSpec, raw: Mapping[str, Any], place: str) -> SessionCase:
    return SessionCase(
        name=name,
        spec=spec,
        trace=_trace(raw.get("trace") or [], f"{place}.trace"),
        or_else=tuple(
            _trace(other.get("trace") or [], f"{place}.or_else[{number}]")
            for number, other in enumerate(raw.get("or_else") or [])
        ),
    )


def _trace(raw: Sequence[Any], place: str) -> tuple[Expectation, ...]:
    return tuple(_expectation(entry, f"{place}[{number}]") for number, entry in enumerate(raw))


def _expectation(raw: Mapping[str, Any], place: str) -> Expectation:
    entry = to_message(raw, suite_pb2.TraceEntry, place)
    kind = entry.WhichOneof("event")
    if kind is None:
        raise CaseError(f"{place}: names no event")
    field = suite_pb2.TraceEntry.DESCRIPTOR.fields_by_name[kind]
    assert field.message_type is not None, "every event is a message"
    given = canonical(raw[kind] or {}, field.message_type, f"{place}.{kind}")
    return Expectation(entry=entry, kind=kind, given=given)
