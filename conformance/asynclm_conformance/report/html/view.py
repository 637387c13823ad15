"""What the pages show, taken from the records: columns, cells, cases, requirements."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from asynclm.conformance.v1 import results_pb2, suite_pb2
from asynclm_conformance.names import feature_name, level_name, short_name, verdict_name
from asynclm_conformance.report.clean import BLOCK, visible
from asynclm_conformance.report.html.diagram import Diagram, diagrams
from asynclm_conformance.report.html.markdown import script_line, sentence
from asynclm_conformance.report.html.rows import MOST_ROWS, rows, sessions
from asynclm_conformance.report.labels import in_full
from asynclm_conformance.report.record import Run
from asynclm_conformance.report.text import WORST_FIRST, place
from asynclm_conformance.requirements import Requirement, load

_SAFE = re.compile(r"[^A-Za-z0-9-]")
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Column:
    """A run as a column: its number from 1, and what heads it."""

    number: int
    label: str
    run: Run

    @property
    def target(self) -> str:
        """What was given as the target."""
        return visible(self.run.header.target, 120)

    @property
    def started(self) -> str:
        """When the run began."""
        return visible(self.run.header.started, 40).replace("T", " ").replace("+00:00", " UTC")

    @property
    def claim(self) -> str:
        """What the run shows."""
        return visible(self.run.claim)


@dataclass(frozen=True, slots=True)
class Cell:
    """A verdict in the matrix; `note` is the number of the reason why a case was skipped, 0 for none."""

    column: Column
    verdict: str
    note: int = 0


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A case in the matrix."""

    name: str
    id: str
    title: str
    level: str
    path: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Cited:
    """A requirement that is cited: its id, its sentence, and where it stands; None if it is not known here."""

    id: str
    sentence: Markup | None
    requirement: Requirement | None


@dataclass(frozen=True, slots=True)
class ShownFailure:
    """A failure: the requirement that it breaks, and its words."""

    cited: Cited | None
    message: str
    want: str
    got: str
    place: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case on one target."""

    column: Column
    verdict: str
    reason: str
    seconds: float
    live: str
    reproduce: str
    failures: tuple[ShownFailure, ...]
    diagrams: tuple[Diagram, ...]
    messages: tuple[tuple[str, str, str], ...]
    all_messages: int


@dataclass(frozen=True, slots=True)
class CasePage:
    """A case in full."""

    name: str
    title: str
    level: str
    feature: str
    path: str
    cited: tuple[Cited, ...]
    script: tuple[Markup, ...]
    outcomes: tuple[Outcome, ...]


def columns(runs: Sequence[Run]) -> tuple[Column, ...]:
    """One column for each run; those of the same name are numbered."""
    times = Counter(run.name for run in runs)
    seen: Counter[str] = Counter()
    found = []
    for number, run in enumerate(runs, 1):
        seen[run.name] += 1
        found.append(Column(number, f"{run.name} ({seen[run.name]})" if times[run.name] > 1 else run.name, run))
    return tuple(found)


def case_names(runs: Sequence[Run]) -> list[str]:
    """The cases of all runs, by file and name."""
    return sorted({name for run in runs for name in run.by_case}, key=lambda name: name.split("/", 1))


def path_of(case: str) -> str:
    """Where the page of a case is, from the folder of the report: whatever a case is called, inside of that folder."""
    file, _, name = case.partition("/")
    return f"cases/{_file_name(file)}/{_file_name(name)}.html"


def _file_name(text: str) -> str:
    safe = _SAFE.sub(lambda match: f"_{ord(match.group()):x}_", text)
    if len(safe) <= _LONGEST_NAME:
        return safe
    return f"{safe[:_LONGEST_NAME]}_{hashlib.sha256(text.encode('utf-8')).hexdigest()[:12]}"


def matrix(
    all_columns: Sequence[Column], names: Sequence[str], reasons: Mapping[str, int]
) -> Iterator[tuple[str, list[CaseRow]]]:
    """The rows of the matrix under the names of their files."""
    for file, group in groupby(names, key=lambda name: name.partition("/")[0]):
        yield visible(file, 120), [_case_row(all_columns, name, reasons) for name in group]


def wanting(case_rows: Sequence[CaseRow]) -> list[tuple[CaseRow, Cell]]:
    """What did not pass, the worst first."""
    found = [(row, cell) for row in case_rows for cell in row.cells if cell.verdict in WORST_FIRST]
    return sorted(found, key=lambda pair: WORST_FIRST.index(pair[1].verdict))


def skip_reasons(all_columns: Sequence[Column], names: Sequence[str]) -> dict[str, int]:
    """Why cases were skipped, each reason with a number, in the order of the matrix."""
    found: dict[str, int] = {}
    for name in names:
        for column in all_columns:
            result = column.run.by_case.get(name)
            if result is not None and result.verdict == results_pb2.VERDICT_SKIP:
                found.setdefault(result.reason, len(found) + 1)
    return found


def _case_row(all_columns: Sequence[Column], name: str, reasons: Mapping[str, int]) -> CaseRow:
    cells = []
    for column in all_columns:
        result = column.run.by_case.get(name)
        if result is None:
            cells.append(Cell(column, ""))
        else:
            note = reasons[result.reason] if result.verdict == results_pb2.VERDICT_SKIP else 0
            cells.append(Cell(column, verdict_name(result.verdict), note))
    first = _results(all_columns, name)[0][1]
    shown = visible(name, 120)
    return CaseRow(
        shown, shown.partition("/")[2], visible(first.title), level_name(first.level), path_of(name), tuple(cells)
    )


def case_page(all_columns: Sequence[Column], name: str) -> CasePage:
    """The page of a case."""
    results = _results(all_columns, name)
    first = results[0][1]
    return CasePage(
        name=visible(name, 120),
        title=visible(first.title),
        level=level_name(first.level),
        feature=feature_name(first.feature),
        path=path_of(name),
        cited=tuple(cited(requirement) for requirement in first.verifies),
        script=tuple(script_line(visible(line, BLOCK)) for line in first.script),
        outcomes=tuple(_outcome(column, result) for column, result in results),
    )


def cited(name: str) -> Cited:
    """A requirement by its id."""
    found = load().get(name)
    return Cited(visible(name, 40), sentence(found.sentence) if found else None, found)


def _results(all_columns: Sequence[Column], name: str) -> list[tuple[Column, results_pb2.CaseResult]]:
    found = ((column, column.run.by_case.get(name)) for column in all_columns)
    return [(column, result) for column, result in found if result is not None]


def _outcome(column: Column, result: results_pb2.CaseResult) -> Outcome:
    return Outcome(
        column=column,
        verdict=verdict_name(result.verdict),
        reason=visible(result.reason, BLOCK),
        seconds=result.seconds,
        live=_live(result),
        reproduce=visible(column.run.reproduce(result.case), BLOCK),
        failures=tuple(_failure(failure) for failure in result.failures),
        diagrams=diagrams(rows(result), sessions(result)) if result.wire else (),
        messages=tuple(_message(exchange) for exchange in result.wire[:MOST_ROWS]),
        all_messages=len(result.wire),
    )


def _live(result: results_pb2.CaseResult) -> str:
    """How often a live case was tried, and what was seen."""
    if not result.tries:
        return ""
    seen = [short_name(suite_pb2.Witness.DESCRIPTOR, kind).lower().replace("_", " ") for kind in result.witnessed]
    times = "once" if result.tries == 1 else f"{result.tries} times"
    return f"Tried {times} on the model itself; seen: {', '.join(seen) or 'nothing that it has to see'}."


def _failure(failure: results_pb2.Failure) -> ShownFailure:
    return ShownFailure(
        cited=cited(failure.requirement) if failure.requirement else None,
        message=visible(failure.message, BLOCK),
        want=visible(failure.want, BLOCK, lines=True),
        got=visible(failure.got, BLOCK, lines=True),
        place=place(failure),
    )


def _message(exchange: results_pb2.Exchange) -> tuple[str, str, str]:
    sender = exchange.WhichOneof("message") or "note"
    return sender, visible(exchange.session, 40), f"{exchange.at_ms:.1f} ms  {in_full(exchange)}"
