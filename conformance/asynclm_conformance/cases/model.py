"""A case as it is played: its message, and what of each expectation was written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asynclm.cml.control import Control
from asynclm.cml.text_form import TextFormDecoder
from asynclm.conformance.v1 import scripted_model_pb2, suite_pb2
from asynclm.v1 import types_pb2

MAIN = "main"
"""The session that a step is about if it names none."""

_CONTROL_TOKENS = {
    Control.CALL: types_pb2.CONTROL_TOKEN_CALL,
    Control.INTR: types_pb2.CONTROL_TOKEN_INTR,
    Control.TRAP: types_pb2.CONTROL_TOKEN_TRAP,
    Control.END: types_pb2.CONTROL_TOKEN_END,
    Control.HEAD: types_pb2.CONTROL_TOKEN_HEAD,
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """One entry of a trace.

    Attributes:
        entry: the entry.
        kind: which event (`trap_entered`).
        given: the fields of the event that count, by proto names; None where a field must be absent.
    """

    entry: suite_pb2.TraceEntry
    kind: str
    given: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ScriptPiece:
    """One step of a script on the wire, and the line that it came from (from 1)."""

    step: scripted_model_pb2.ScriptStep
    line: int
    masked: bool


@dataclass(frozen=True)
class SessionCase:
    """One session of a case."""

    name: str
    spec: suite_pb2.SessionSpec
    trace: tuple[Expectation, ...]
    or_else: tuple[tuple[Expectation, ...], ...]

    @property
    def pieces(self) -> tuple[ScriptPiece, ...]:
        """The script, step by step."""
        return tuple(
            ScriptPiece(step, number, line.masked)
            for number, line in enumerate(self.spec.script, 1)
            for step in script_steps(line)
        )


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: `FILE/ID`.
        message: what the file says.
        sessions: by name, `main` first.
        waits: what the `wait_for` steps wait for, by the step's index.
    """

    name: str
    message: suite_pb2.Case
    sessions: Mapping[str, SessionCase]
    waits: Mapping[int, Expectation] = field(default_factory=dict)

    @property
    def steps(self) -> Sequence[suite_pb2.Step]:
        """What is done, in order."""
        return self.message.steps

    @property
    def level(self) -> suite_pb2.Level.ValueType:
        """How binding it is; MUST where the case does not say."""
        return self.message.level or suite_pb2.LEVEL_MUST

    @property
    def live(self) -> bool:
        """Whether it runs on a real model."""
        return self.message.HasField("live")


def script_steps(line: suite_pb2.ScriptLine) -> tuple[scripted_model_pb2.ScriptStep, ...]:
    """What a line of a script is on the wire: text pieces and control tokens, in order."""
    match line.WhichOneof("line"):
        case "cml":
            decoder = TextFormDecoder()
            items = [*decoder.feed_text(line.cml)]
            rest = decoder.flush()
            return tuple(_merged([*items, rest] if rest else items))
        case "text":
            return (scripted_model_pb2.ScriptStep(text=line.text),)
        case "end":
            return (scripted_model_pb2.ScriptStep(end_of_sequence=scripted_model_pb2.EndOfSequence()),)
        case "sample":
            return (scripted_model_pb2.ScriptStep(sample=scripted_model_pb2.Sample(max_tokens=line.sample)),)
        case "release":
            return (scripted_model_pb2.ScriptStep(release=scripted_model_pb2.Release()),)
    return ()


def _merged(items: Sequence[object]) -> list[scripted_model_pb2.ScriptStep]:
    """Neighbouring texts of one line are one piece, as they stand there."""
    out: list[scripted_model_pb2.ScriptStep] = []
    for item in items:
        if isinstance(item, Control):
            out.append(scripted_model_pb2.ScriptStep(control=_CONTROL_TOKENS[item]))
        elif out and out[-1].WhichOneof("step") == "text":
            out[-1].text += str(item)
        elif item:
            out.append(scripted_model_pb2.ScriptStep(text=str(item)))
    return out
