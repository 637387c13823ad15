"""Recordings of sessions: JSON lines, a header and then one server event a line.

The header is `{"format": "asynclm-recording", "version": 1, "target": …, "protocol": "asynclm.v1"}`; each event is
`{"at_ms": …, "event": …}`: when it arrived, in milliseconds since the session was asked for, and the event by
protobuf's JSON mapping.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asynclm.cli.faults import CliError
from asynclm.wire.errors import WireError
from asynclm.wire.json_form import event_from_json, event_to_json
from asynclm.wire.values import ReceivedEvent

FORMAT = "asynclm-recording"
VERSION = 1


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event and when it arrived, in milliseconds since the session was asked for."""

    event: ReceivedEvent
    at_ms: float


class Recorder:
    """Writes a recording; each line is on disk before the next event is shown.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, *, target: str) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._write({"format": FORMAT, "version": VERSION, "target": target, "protocol": "asynclm.v1"})

    def event(self, event: ReceivedEvent, at_ms: float) -> None:
        """Writes an event."""
        body = event_to_json(event)
        if body is not None:
            self._write({"at_ms": round(at_ms, 1), "event": body})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_recording(path: Path) -> Iterator[RecordedEvent]:
    """Reads a recording, line by line.

    Raises:
        CliError: it is no recording, or of a later version, or a line of it is damaged.
        OSError: it cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace") as lines:
        header = _object(path, 1, next(lines, ""))
        if header.get("format") != FORMAT:
            raise CliError(f"{path}: not a recording; its first line has to say {{'format': '{FORMAT}', …}}")
        if header.get("version") != VERSION:
            raise CliError(f"{path}: version is {header.get('version')!r}; this program reads version {VERSION}")
        for number, line in enumerate(lines, 2):
            if line.strip():
                yield _recorded(path, number, _object(path, number, line))


def _recorded(path: Path, number: int, line: dict[str, Any]) -> RecordedEvent:
    at_ms = line.get("at_ms")
    if not isinstance(at_ms, int | float) or at_ms < 0:
        raise CliError(f"{path}:{number}: at_ms is {str(at_ms)[:40]!r}; it has to be a number of milliseconds")
    try:
        return RecordedEvent(event_from_json(line.get("event")), float(at_ms))
    except WireError as error:
        raise CliError(f"{path}:{number}: event: {error}") from None


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CliError(f"{path}:{number}: not a JSON object: {line.strip()[:60]!r}")
    return value
