"""The committed workloads, read and typed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "workloads"
NAMES = ("parallel", "multistep_needs", "multistep_free", "interrupts")


@dataclass(frozen=True, slots=True)
class Function:
    """What a model is told of a function.

    Attributes:
        name: its name.
        description: one sentence.
        parameters: the JSON schema of its arguments.
        expected_ms: how long it usually takes, in milliseconds.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    expected_ms: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a task needs.

    Attributes:
        id: its name in CML.
        function: what it calls.
        message: the number of the user's message that asks for it.
        needs: calls whose results its text is chosen from.
        refs: calls whose results it takes as they are.
        arguments: with the results in place.
        result: what the function answers.
        ms: how long it takes, in milliseconds.
        cml: the tokens of its block, the results in place.
        cml_future: the tokens of its block with futures; None if it takes no result as it is.
        json: the tokens of the call as JSON, alone in a reply.
        json_of_several: its tokens as one of several in a reply, as GPT-4o writes these.
    """

    id: str
    function: str
    message: int
    needs: tuple[str, ...]
    refs: tuple[str, ...]
    arguments: Mapping[str, Any]
    result: Mapping[str, Any]
    ms: float
    cml: tuple[str, ...]
    cml_future: tuple[str, ...] | None
    json: tuple[str, ...]
    json_of_several: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A sentence that the user waits for.

    Attributes:
        message: the number of the user's message that it answers.
        needs: calls whose results it tells.
        tokens: its tokens.
    """

    message: int
    needs: tuple[str, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One task: what the user says and when, what is to be called, and what is to be answered.

    Attributes:
        id: its name.
        arrivals_ms: when each message comes.
        texts: the messages.
        calls: what is called, each behind what it depends on.
        answers: what is answered.
    """

    id: str
    arrivals_ms: tuple[int, ...]
    texts: tuple[str, ...]
    calls: tuple[Call, ...]
    answers: tuple[Answer, ...]

    def call(self, id: str) -> Call:
        """The call of that id.

        Raises:
            KeyError: there is none.
        """
        return {call.id: call for call in self.calls}[id]


@dataclass(frozen=True, slots=True)
class Workload:
    """One file.

    Attributes:
        name: the workload.
        first_token_ms, token_ms: the endpoint's pace, in milliseconds.
        functions: what a model may call.
        json_around_several: the tokens before several calls of a reply, and behind them.
        tasks: the tasks.
        raw: the file as it is, for the bound.
    """

    name: str
    first_token_ms: float
    token_ms: float
    functions: tuple[Function, ...]
    json_around_several: tuple[tuple[str, ...], tuple[str, ...]]
    tasks: tuple[Task, ...]
    raw: Mapping[str, Any]


def load(name: str) -> Workload:
    """Reads a workload.

    Raises:
        OSError: there is no file of that name.
    """
    raw = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Workload(
        name=raw["name"],
        first_token_ms=raw["first_token_ms"],
        token_ms=raw["token_ms"],
        functions=tuple(Function(**function) for function in raw["functions"]),
        json_around_several=(tuple(raw["json_around_several"][0]), tuple(raw["json_around_several"][1])),
        tasks=tuple(_task(task) for task in raw["tasks"]),
        raw=raw,
    )


def load_all() -> list[Workload]:
    """All workloads."""
    return [load(name) for name in NAMES]


def _task(raw: Mapping[str, Any]) -> Task:
    return Task(
        id=raw["id"],
        arrivals_ms=tuple(message["at_ms"] for message in raw["messages"]),
        texts=tuple(message["text"] for message in raw["messages"]),
        calls=tuple(_call(call) for call in raw["calls"]),
        answers=tuple(
            Answer(answer["message"], tuple(answer["needs"]), tuple(answer["tokens"])) for answer in raw["answers"]
        ),
    )


def _call(raw: Mapping[str, Any]) -> Call:
    sequences = ("needs", "refs", "cml", "json", "json_of_several")
    tuples: dict[str, Sequence[str]] = {name: tuple(raw[name]) for name in sequences}
    future = tuple(raw["cml_future"]) if "cml_future" in raw else None
    return Call(**{**raw, **tuples, "cml_future": future})
