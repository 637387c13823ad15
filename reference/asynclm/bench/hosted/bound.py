"""The least time that a task of `asynclm bench hosted` can take, from the workload file alone.

    python -m asynclm.bench.hosted.bound [FILE …]

Imports nothing of this project: neither the adapter, nor the mock, nor the policy that is measured. What it computes is
the optimum over every schedule that these assumptions leave, found by search, so that no run can be faster:

1. The endpoint's first token comes `first_token_ms` after a request, each further one `token_ms` after the one before.
2. One request streams at a time, and the next begins no earlier than at the last token that is kept of the one before.
3. A request knows the results that were there, and the user's messages that had come, when it was sent. Nothing is
   written whose text depends on a result or a message that its request does not know (`needs`, `message`).
4. A call begins with its last token, and no earlier than the results are there that it refers to (`refs`); such a
   call stands behind the calls that it refers to. It takes the time in the file, and nothing between is charged for.
5. A request is closed between calls or inside an answer, never inside a call's block.
6. Calls and answers are what is written: no traps, no prose; a call that can be written with a future or without is as
   long as the shorter of the two, and is written as soon as a future lets it. A call that stands right behind another
   in a reply is a token shorter: `][` is one.

Function times are known in advance here, and no other time is lost, which no program can have: a bound, not a goal.
"""

from __future__ import annotations

import heapq
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "workloads"
_SLACK_MS = 1e-9


@dataclass(frozen=True, slots=True)
class Item:
    """What has to be written: a call, or an answer.

    Attributes:
        tokens: its length.
        needs: the items whose results its text depends on.
        refs: the items whose results its call waits for.
        message: the user's message that asks for it.
        ms: how long the call takes; None: an answer.
    """

    tokens: int
    needs: frozenset[int] = frozenset()
    refs: frozenset[int] = frozenset()
    message: int = 0
    ms: float | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A task.

    Attributes:
        items: what has to be written.
        arrivals: when each of the user's messages comes, in milliseconds.
        first_token_ms: from a request to its first token.
        token_ms: from one token to the next.
    """

    items: tuple[Item, ...]
    arrivals: tuple[float, ...] = (0.0,)
    first_token_ms: float = 310.0
    token_ms: float = 5.0


@dataclass(frozen=True, slots=True)
class _State:
    """Somewhere on the way.

    Attributes:
        now: when the last token was written; of a request without one, `token_ms` before its first.
        asked: when the request that streams was sent.
        free: when the next one can be sent: at the last token that was written, or the last request.
        behind_call: whether the last thing in this request is a call.
        left: tokens that are left of each item.
        ends: when the result of each written call is there.
    """

    now: float
    asked: float
    free: float
    behind_call: bool
    left: tuple[int, ...]
    ends: tuple[float | None, ...]


def bound_ms(problem: Problem) -> float:
    """The least time from the first message to the last token, in milliseconds.

    Raises:
        ValueError: some item can never be written.
    """
    search = _Search(problem)
    order = itertools.count()
    start = search.start()
    heap = [(search.least(start), next(order), start)]
    while heap:
        _, _, state = heapq.heappop(heap)
        if not any(state.left):
            return state.now
        if search.beaten(state):
            continue
        for after in search.moves(state):
            if search.keep(after):
                heapq.heappush(heap, (search.least(after), next(order), after))
    raise ValueError("the task has no schedule: an item needs one that is never written")


class _Search:
    """Best first; of two states that have written and know the same, the one that is later in everything is dropped."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._items = problem.items
        self._token = problem.token_ms
        self._first = problem.first_token_ms - problem.token_ms
        self._best: dict[tuple[Any, ...], list[tuple[float, ...]]] = {}

    def start(self) -> _State:
        """The request that the first message brings, at 0."""
        lengths = tuple(item.tokens for item in self._items)
        return _State(self._first, 0.0, 0.0, False, lengths, (None,) * len(lengths))

    def moves(self, state: _State) -> Iterator[_State]:
        """What can be done next: write something to its end, or part of an answer, or send the next request."""
        events = self._events(state)
        for number, item in enumerate(self._items):
            if state.left[number] and self._writable(state, number):
                yield self._written(state, number)
                if item.ms is None:
                    yield from self._partly(state, number, events)
        for at in sorted({max(event, state.free) for event in events}):
            yield self._asked(state, at)

    def least(self, state: _State) -> float:
        """No schedule from here ends earlier: what is left is written in one go, and each chain in its own time."""
        calls = sum(1 for item, left in zip(self._items, state.left, strict=True) if left and item.ms is not None)
        return max(state.now + self._token * (sum(state.left) - calls), *self._alone(state))

    def _alone(self, state: _State) -> Iterator[float]:
        """When each item that is left could end if nothing else were to be written."""
        written: dict[int, float] = {}
        there: dict[int, float] = {n: end for n, end in enumerate(state.ends) if end is not None}
        pending = [number for number, tokens in enumerate(state.left) if tokens]
        while pending:
            for number in pending:
                item = self._items[number]
                if not (item.needs | item.refs) <= there.keys():
                    continue
                unknown = [there[need] for need in item.needs if there[need] > state.asked]
                unknown += [a for a in (self._problem.arrivals[item.message],) if a > state.asked]
                begin = max(state.free, *unknown) + self._first if unknown else state.now
                shorter = item.ms is not None
                written[number] = begin + self._token * (state.left[number] - shorter)
                if item.ms is not None:
                    there[number] = max([written[number], *(there[ref] for ref in item.refs)]) + item.ms
                pending.remove(number)
                break
            else:
                return iter([float("inf")])
        return iter([*written.values(), 0.0])

    def beaten(self, state: _State) -> bool:
        """Whether a state kept later is no worse in anything, and better in something."""
        key, values = self._point(state)
        return values not in self._best[key] if key in self._best else False

    def keep(self, state: _State) -> bool:
        """Takes a state, unless there is one no worse."""
        key, values = self._point(state)
        kept = self._best.setdefault(key, [])
        if any(_no_worse(other, values) for other in kept):
            return False
        kept[:] = [other for other in kept if not _no_worse(values, other)]
        kept.append(values)
        return True

    def _point(self, state: _State) -> tuple[tuple[Any, ...], tuple[float, ...]]:
        """What is written and known, and when the rest of what matters is there."""
        wanted = sorted({w for n, left in enumerate(state.left) if left for w in self._wants(n)})
        ends = {w: state.ends[w] for w in wanted}
        known = tuple(w for w, end in ends.items() if end is not None and end <= state.asked)
        heard = tuple(arrival <= state.asked for arrival in self._problem.arrivals)
        times = (end for w, end in ends.items() if end is not None and end > state.asked)
        return (state.left, known, heard, state.behind_call), (state.now, state.free, *times)

    def _wants(self, number: int) -> frozenset[int]:
        return self._items[number].needs | self._items[number].refs

    def _writable(self, state: _State, number: int) -> bool:
        item = self._items[number]
        if self._problem.arrivals[item.message] > state.asked:
            return False
        known = all((end := state.ends[need]) is not None and end <= state.asked for need in item.needs)
        return known and all(not state.left[ref] for ref in item.refs)

    def _written(self, state: _State, number: int) -> _State:
        item = self._items[number]
        call = item.ms is not None
        now = state.now + self._token * (state.left[number] - (call and state.behind_call))
        ends = list(state.ends)
        if item.ms is not None:
            ends[number] = max([now, *(end for ref in item.refs if (end := state.ends[ref]) is not None)]) + item.ms
        return _State(now, state.asked, now, call, _with(state.left, number, 0), tuple(ends))

    def _partly(self, state: _State, number: int, events: Iterable[float]) -> Iterator[_State]:
        """An answer is cut at what comes meanwhile, and goes on in the next request."""
        for event in events:
            tokens = int((event - state.now + _SLACK_MS) / self._token)
            if 0 < tokens < state.left[number]:
                left = _with(state.left, number, state.left[number] - tokens)
                last = state.now + self._token * tokens
                cut = _State(last, state.asked, last, False, left, state.ends)
                yield self._asked(cut, event)

    def _events(self, state: _State) -> list[float]:
        """When there is what the request does not know."""
        ends = [end for end in state.ends if end is not None and end > state.asked]
        return sorted({*ends, *(arrival for arrival in self._problem.arrivals if arrival > state.asked)})

    def _asked(self, state: _State, at: float) -> _State:
        return _State(at + self._first, at, at, False, state.left, state.ends)


def _no_worse(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _with(values: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    return (*values[:place], value, *values[place + 1 :])


def problem_of(workload: Mapping[str, Any], task: Mapping[str, Any]) -> Problem:
    """A task of a workload file."""
    numbers = {call["id"]: number for number, call in enumerate(task["calls"])}
    before = {call["id"]: {*call["needs"], *call["refs"]} for call in task["calls"]}
    items = [
        Item(
            tokens=min(len(call["cml"]), len(call.get("cml_future", call["cml"]))),
            needs=frozenset(numbers[name] for name in call["needs"]),
            refs=frozenset(numbers[name] for name in call["refs"]),
            message=call["message"],
            ms=call["ms"],
        )
        for call in task["calls"]
    ]
    for answer in task["answers"]:
        last = _last(answer["needs"], before)
        needs = frozenset(numbers[name] for name in last)
        items.append(Item(tokens=len(answer["tokens"]), needs=needs, message=answer["message"]))
    return Problem(
        items=tuple(items),
        arrivals=tuple(float(message["at_ms"]) for message in task["messages"]),
        first_token_ms=workload["first_token_ms"],
        token_ms=workload["token_ms"],
    )


def _last(names: Sequence[str], before: Mapping[str, set[str]]) -> list[str]:
    """Those that no other one depends on: their results are the last to be there."""
    passed = {earlier for name in names for earlier in before[name]}
    return [name for name in names if name not in passed]


def main() -> None:
    """Prints the bound of each task of the files, in milliseconds."""
    files = [Path(name) for name in sys.argv[1:]] or sorted(_FOLDER.glob("*.json"))
    for file in files:
        workload = json.loads(file.read_text(encoding="utf-8"))
        print(f"{workload['name']}: least milliseconds from the request to the last token")
        for task in workload["tasks"]:
            print(f"  {task['id']}  {bound_ms(problem_of(workload, task)):7.1f}")


if __name__ == "__main__":
    main()
