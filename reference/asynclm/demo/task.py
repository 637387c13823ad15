"""From a task file (call graph and prompts) to a script for each execution mode.

The three scripts hold the same calls and the same prose; only traps differ, so that what is compared is the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from asynclm.cml.control import Control
from asynclm.cml.literals import render_literal
from asynclm.cml.references import parse_reference
from asynclm.engine.script import Script, ScriptControl, ScriptCopy, ScriptEnd, ScriptSample, ScriptStep, ScriptText
from asynclm.session.config import ExecutionMode


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CopyPiece(_Strict):
    """A value that a tool returned, as the content of a string."""

    copy_: str = Field(alias="copy")


class SamplePiece(_Strict):
    """Text that the model samples: so many tokens."""

    sample: Annotated[int, Field(gt=0)]


class TaskArgument(_Strict):
    """One argument: a fixed value of the request, a reference, or a string made of pieces."""

    value: JsonValue = None
    reference: str | None = None
    string: tuple[str | CopyPiece | SamplePiece, ...] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> TaskArgument:
        if len(self.model_fields_set) != 1:
            raise ValueError("an argument has exactly one of value, reference and string")
        return self


class TaskCall(_Strict):
    """One call of the graph. `needs` names the calls whose results the model has to read before it writes this one."""

    id: str
    function: str
    needs: tuple[str, ...] = ()
    arguments: Mapping[str, TaskArgument]

    @property
    def depends(self) -> frozenset[str]:
        """Ids whose results this call uses, by reference, copy or reading."""
        used = set(self.needs)
        for argument in self.arguments.values():
            if argument.reference is not None:
                used.add(parse_reference(argument.reference).id)
            used.update(parse_reference(p.copy_).id for p in argument.string or () if isinstance(p, CopyPiece))
        return frozenset(used)


class Prose(SamplePiece):
    """A passage: a few first words, then what the model samples."""

    lead: str


class TaskProse(_Strict):
    """Where prose stands: before the calls, while they run, and at the end."""

    opening: Prose
    waiting: Prose
    closing: Prose


class Task(_Strict):
    """A task: the prompts, the call graph, the prose."""

    title: str
    system: str
    request: str
    department: str
    calls: tuple[TaskCall, ...]
    prose: TaskProse

    @model_validator(mode="after")
    def _graph(self) -> Task:
        seen: set[str] = set()
        for call in self.calls:
            unknown = call.depends - seen
            if unknown:
                raise ValueError(f"call {call.id!r} depends on {sorted(unknown)}, not listed before it")
            seen.add(call.id)
        return self


def load_task() -> Task:
    """The demonstration's task."""
    text = resources.files("asynclm.demo").joinpath("task.yaml").read_text(encoding="utf-8")
    return Task.model_validate(yaml.safe_load(text))


def build_script(task: Task, mode: ExecutionMode, expected_ms: Mapping[str, int]) -> Script:
    """The script of one execution mode.

    Args:
        task: the task.
        mode: ASYNC traps only on what the next call has to read; SYNC_PARALLEL traps on everything before the calls
            that depend on it; SYNC needs no traps, since every call blocks.
        expected_ms: expected duration of each function; independent calls are written longest first (paper §4.2).
    """
    independent = [c for c in task.calls if not c.depends]
    independent.sort(key=lambda c: -expected_ms.get(c.function, 0))
    dependent = [c for c in task.calls if c.depends]
    steps: list[ScriptStep] = [*_prose(task.prose.opening)]
    for call in independent:
        steps += _call(call)
    steps += _prose(task.prose.waiting)
    for number, call in enumerate(dependent):
        if mode is ExecutionMode.SYNC_PARALLEL:
            steps += _trap("all") if number == 0 or call.depends & {c.id for c in dependent} else ()
        elif mode is ExecutionMode.ASYNC:
            steps += _trap(",".join(call.needs)) if call.needs else ()
        steps += _call(call)
    if mode is not ExecutionMode.SYNC:
        steps += _trap("all")
    steps += [*_prose(task.prose.closing), ScriptEnd()]
    return Script(f"demo-{mode.value}", tuple(steps))


def _prose(prose: Prose) -> tuple[ScriptStep, ...]:
    return ScriptText(prose.lead), ScriptSample(prose.sample)


def _trap(condition: str) -> tuple[ScriptStep, ...]:
    return ScriptControl(Control.TRAP), ScriptText(condition), ScriptControl(Control.END)


def _call(call: TaskCall) -> Iterator[ScriptStep]:
    yield ScriptControl(Control.CALL)
    yield ScriptText(call.id)
    yield ScriptControl(Control.HEAD)
    text = f"{call.function}("
    for position, (name, argument) in enumerate(call.arguments.items()):
        text += f"{', ' if position else ''}{name}="
        if argument.reference is not None:
            text += argument.reference
        elif argument.string is None:
            text += render_literal(argument.value)
        else:
            text += '"'
            for piece in argument.string:
                if isinstance(piece, str):
                    text += render_literal(piece)[1:-1]
                    continue
                yield ScriptText(text)
                text = ""
                if isinstance(piece, CopyPiece):
                    yield ScriptCopy(parse_reference(piece.copy_), in_string=True)
                else:
                    yield ScriptSample(piece.sample, in_string=True)
            text += '"'
    yield ScriptText(text + ")")
    yield ScriptControl(Control.END)
