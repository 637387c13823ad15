"""Writes and reads records of runs, `results.jsonl`: a header, a line for each result as it comes, a footer."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Self, TextIO

from google.protobuf import json_format

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.report.clean import visible
from asynclm_conformance.verdict import count

Standing = Literal["conformant", "not conformant", "no claim"]


class RecordError(ValueError):
    """A file is not a record of a run; the message says what is wrong and in which line."""


@dataclass(frozen=True)
class Run:
    """A run as its record tells it.

    Attributes:
        header: what was run, against what.
        results: what came of each case, in the order in which they ended.
        footer: how it ended; None for a run that was broken off.
    """

    header: results_pb2.Header
    results: tuple[results_pb2.CaseResult, ...]
    footer: results_pb2.Footer | None

    @property
    def interrupted(self) -> bool:
        """Whether the run was broken off, so that nothing can be claimed."""
        return self.footer is None

    @property
    def claim(self) -> str:
        """What the run shows, in a line."""
        if self.footer is None:
            return f"no claim: the run was broken off after {len(self.results)} of {self.header.selected} cases"
        return self.footer.claim

    @property
    def standing(self) -> Standing:
        """The claim in a word or two."""
        if self.claim.startswith("conformant "):
            return "conformant"
        return "not conformant" if self.claim.startswith("not conformant ") else "no claim"

    @property
    def name(self) -> str:
        """What the target says that it is; what was given as the target if it says nothing."""
        server = self.header.server
        return visible(f"{server.server} {server.server_version}".strip() or self.header.target or "unknown", 80)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Cases by verdict, in the order of the verdicts; those that none has are left out."""
        return MappingProxyType(count(self.results))

    @cached_property
    def by_case(self) -> Mapping[str, results_pb2.CaseResult]:
        """Results by the name of the case."""
        return MappingProxyType({result.case: result for result in self.results})

    def reproduce(self, case: str) -> str:
        """The command line that runs one case again."""
        words = list(self.header.command) or ["asynclm-conformance", "run", self.header.target]
        at = words.index("--") if "--" in words else len(words)
        return shlex.join([*words[:at], "--run", case, *words[at:]])


class RecordWriter:
    """Writes a record line by line, so that a run that is broken off leaves what it had; a context manager.

    Args:
        path: the file; what was there is written over.

    Attributes:
        begun: whether there is something of it.

    Raises:
        RecordError: it cannot be written there, told before there is anything to lose.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            where = "a folder" if path.is_dir() else "no folder for it" if not path.parent.is_dir() else "not allowed"
            raise RecordError(f"{path}: cannot be written: {where}; see --out")
        self._path = path
        self._file: TextIO | None = None
        self.begun = False

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise RecordError(f"{self._path}: cannot be written: {error.strerror}; see --out") from None
        self.begun = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def header(self, header: results_pb2.Header) -> None:
        """Writes the first line."""
        self._write(results_pb2.Record(header=header))

    def result(self, result: results_pb2.CaseResult) -> None:
        """Writes what came of a case."""
        self._write(results_pb2.Record(result=result))

    def footer(self, footer: results_pb2.Footer) -> None:
        """Writes the last line."""
        self._write(results_pb2.Record(footer=footer))

    def _write(self, record: results_pb2.Record) -> None:
        if self._file is None:
            raise ValueError("a RecordWriter writes inside its `with` block only")
        line = json_format.MessageToJson(record, preserving_proto_field_name=True, indent=None, ensure_ascii=False)
        self._file.write(line + "\n")
        self._file.flush()


def read(path: Path) -> Run:
    """Reads a record.

    A last line without its line feed that cannot be read was being written when the run was broken off; it is left out.

    Raises:
        RecordError: it is not a record.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not a record of a run: byte {error.start} is not UTF-8") from None
    records = list(_records(text, path))
    if not records:
        raise RecordError(f"{path}: empty; a record begins with a header")
    return _assembled(records, path)


def _records(text: str, path: Path) -> Iterator[tuple[int, results_pb2.Record]]:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            if number < len(lines):
                raise RecordError(f"{path}:{number}: an empty line; a record has one JSON object a line")
            continue
        try:
            yield number, _parsed(line)
        except ValueError as error:
            if number == len(lines) > 1:
                return
            raise RecordError(f"{path}:{number}: {error}") from None


def _parsed(line: str) -> results_pb2.Record:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {visible(str(error), 120)}; got {visible(line, 60)!r}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"a JSON object is expected; got {visible(line, 60)!r}")
    try:
        record = json_format.ParseDict(raw, results_pb2.Record())
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise ValueError(f"not a line of a record: {visible(str(error), 200)}") from None
    if record.WhichOneof("record") is None:
        raise ValueError(f"one of header, result and footer is expected; got {visible(line, 60)!r}")
    return record


def _assembled(records: list[tuple[int, results_pb2.Record]], path: Path) -> Run:
    header: results_pb2.Header | None = None
    footer: results_pb2.Footer | None = None
    results: list[results_pb2.CaseResult] = []
    lines: dict[str, int] = {}
    for number, record in records:
        which = record.WhichOneof("record")
        if header is None and which != "header":
            raise RecordError(f"{path}:{number}: a header is expected in the first line; got a {which}")
        if header is not None and which == "header":
            raise RecordError(f"{path}:{number}: a second header")
        if footer is not None:
            raise RecordError(f"{path}:{number}: a {which} behind the footer")
        if which == "header":
            header = record.header
        elif which == "footer":
            footer = record.footer
        else:
            _check(record.result, lines, f"{path}:{number}")
            lines[record.result.case] = number
            results.append(record.result)
    assert header is not None, "there is a line, and the first one is a header"
    run = Run(header, tuple(results), footer)
    if footer is not None and dict(footer.counts) != dict(run.counts):
        told, found = _counted(footer.counts), _counted(run.counts)
        raise RecordError(f"{path}:{records[-1][0]}: the footer counts {told}; the record has {found}")
    return run


def _check(result: results_pb2.CaseResult, lines: Mapping[str, int], place: str) -> None:
    file, _, name = result.case.partition("/")
    if not file or not name:
        raise RecordError(f"{place}: case: FILE/ID is expected; got {visible(result.case, 60)!r}")
    if result.case in lines:
        raise RecordError(f"{place}: {visible(result.case, 120)} has its result in line {lines[result.case]} already")
    if result.verdict == results_pb2.VERDICT_UNSPECIFIED or result.verdict not in results_pb2.Verdict.values():
        allowed = ", ".join(results_pb2.Verdict.keys()[1:])
        raise RecordError(f"{place}: verdict: {result.verdict} of {visible(result.case, 120)}; allowed: {allowed}")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {visible(name, 20)}" for name, number in sorted(counts.items())) or "nothing"
