"""The hosted bound: by hand, against brute force, and from the committed files."""

from __future__ import annotations

import ast
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from asynclm.bench.hosted import bound
from asynclm.bench.hosted.bound import Item, Problem, bound_ms, problem_of

FIRST, TOKEN = 310.0, 5.0
FILES = sorted((Path(bound.__file__).parent / "workloads").glob("*.json"))


def test_an_answer_takes_its_first_token_and_the_rest() -> None:
    assert bound_ms(Problem((Item(tokens=11),))) == FIRST + 10 * TOKEN


def test_what_depends_on_a_result_takes_another_request() -> None:
    items = (Item(tokens=10, ms=100.0), Item(tokens=4, needs=frozenset({0})))
    assert bound_ms(Problem(items)) == (FIRST + 9 * TOKEN) + 100 + (FIRST + 3 * TOKEN)


def test_a_future_takes_none() -> None:
    items = (
        Item(tokens=10, ms=100.0),
        Item(tokens=10, ms=30.0, refs=frozenset({0})),
        Item(tokens=1, needs=frozenset({1})),
    )
    assert bound_ms(Problem(items)) == (FIRST + 9 * TOKEN) + 100 + 30 + FIRST


def test_the_longest_call_goes_first() -> None:
    items = (Item(tokens=10, ms=30.0), Item(tokens=10, ms=200.0), Item(tokens=1, needs=frozenset({0, 1})))
    assert bound_ms(Problem(items)) == (FIRST + 9 * TOKEN) + 200 + FIRST


def test_a_call_behind_a_call_is_a_token_shorter() -> None:
    items = (Item(tokens=10, ms=30.0), Item(tokens=10, ms=30.0), Item(tokens=1, needs=frozenset({0, 1})))
    assert bound_ms(Problem(items)) == (FIRST + 18 * TOKEN) + 30 + FIRST


def test_a_message_that_comes_later_is_known_to_a_later_request_only() -> None:
    items = (Item(tokens=3), Item(tokens=5, message=1))
    assert bound_ms(Problem(items, arrivals=(0.0, 200.0))) == 200 + FIRST + 7 * TOKEN, "both in the one at 200 ms"
    assert bound_ms(Problem(items, arrivals=(0.0, 800.0))) == 800 + FIRST + 4 * TOKEN


def test_an_answer_may_be_cut_for_what_comes_meanwhile() -> None:
    """Tokens in front of the cut are kept; the call that the message asks for is written before the rest."""
    items = (Item(tokens=40), Item(tokens=10, ms=500.0, message=1), Item(tokens=1, message=1, needs=frozenset({1})))
    cut = bound_ms(Problem(items, arrivals=(0.0, 400.0)))
    assert cut == 400 + (FIRST + 9 * TOKEN) + 500 + FIRST


def test_a_task_that_cannot_end_is_told() -> None:
    with pytest.raises(ValueError, match="no schedule"):
        bound_ms(Problem((Item(tokens=1, needs=frozenset({1})), Item(tokens=1, ms=1.0, needs=frozenset({0})))))


# --- against brute force ---------------------------------------------------------------------------------------


def brute(problem: Problem) -> float:
    """Every order of the items, every way to part it into requests, each sent as early as it knows enough, or later.

    Follows the sentences of the module's docstring and shares no code with it; answers are not cut.
    """
    best = float("inf")
    numbers = range(len(problem.items))
    for order in itertools.permutations(numbers):
        for parts in itertools.product((False, True), repeat=len(order) - 1):
            requests: list[list[int]] = [[order[0]]]
            for number, part in zip(order[1:], parts, strict=True):
                if part:
                    requests.append([number])
                else:
                    requests[-1].append(number)
            best = min(best, _end(problem, requests))
    return best


def _end(problem: Problem, requests: list[list[int]]) -> float:
    free = 0.0
    ends: dict[int, float] = {}
    for request in requests:
        asked = free
        for number in request:
            item = problem.items[number]
            asked = max(asked, problem.arrivals[item.message])
            for need in item.needs:
                if need not in ends:
                    return float("inf")
                asked = max(asked, ends[need])
        last = asked + problem.first_token_ms - problem.token_ms
        before = None
        for number in request:
            item = problem.items[number]
            if not item.refs <= ends.keys():
                return float("inf")
            shorter = before is not None and None not in (problem.items[before].ms, item.ms)
            last += (item.tokens - shorter) * problem.token_ms
            before = number
            if item.ms is not None:
                ends[number] = max([last, *(ends[ref] for ref in item.refs)]) + item.ms
        free = last
    return free


def small(drawn: random.Random) -> Problem:
    """Two to four calls with random dependences, and an answer that needs them all; sometimes two messages."""
    arrivals = (0.0, drawn.choice((100.0, 350.0, 700.0)))[: drawn.randint(1, 2)]
    items: list[Item] = []
    for number in range(drawn.randint(2, 4)):
        needs, refs = set(), set()
        if number and drawn.random() < 0.6:
            drawn.choice((needs, refs)).add(drawn.randrange(number))
        items.append(
            Item(
                tokens=drawn.randint(5, 30),
                needs=frozenset(needs),
                refs=frozenset(refs),
                message=drawn.randrange(len(arrivals)),
                ms=drawn.choice((30.0, 60.0, 110.0, 250.0, 500.0)),
            )
        )
    answer = Item(tokens=drawn.randint(1, 40), needs=frozenset(range(len(items))), message=len(arrivals) - 1)
    return Problem((*items, answer), arrivals=arrivals)


def test_it_is_the_best_of_all_schedules_of_small_tasks() -> None:
    drawn = random.Random(5)
    for number in range(60):
        problem = small(drawn)
        assert bound_ms(problem) == pytest.approx(brute(problem)), (number, problem)


# --- the program and its files ---------------------------------------------------------------------------------


def test_the_program_imports_nothing_of_this_project() -> None:
    tree = ast.parse(Path(bound.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert not [name for name in modules if name and name.startswith("asynclm")]


def workload(name: str) -> dict[str, Any]:
    (file,) = (file for file in FILES if file.stem == name)
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_says_what_the_benchmark_is_about(file: Path) -> None:
    read = workload(file.stem)
    calls = [call for task in read["tasks"] for call in task["calls"]]
    times = [call["ms"] for call in calls]
    assert (read["first_token_ms"], read["token_ms"]) == (FIRST, TOKEN)
    assert 30 <= min(times) <= max(times) <= 500
    assert sum(times) / len(times) == pytest.approx(110, abs=0.1)
    for call in calls:
        assert "".join(call["cml"]).startswith(f"[CALL] {call['id']} [HEAD] {call['function']}(")
        assert json.loads("".join(call["json"])) == {"name": call["function"], "arguments": call["arguments"]}


def test_a_function_and_its_arguments_tell_which_call_of_all_files_it_is() -> None:
    calls = [call for file in FILES for task in workload(file.stem)["tasks"] for call in task["calls"]]
    assert len({json.dumps([call["function"], call["arguments"]]) for call in calls}) == len(calls)


@pytest.mark.parametrize(("name", "edge"), [("multistep_needs", "needs"), ("multistep_free", "refs")])
def test_dependences_are_of_the_kind_that_the_workload_is_named_after(name: str, edge: str) -> None:
    for task in workload(name)["tasks"]:
        chained = [call for call in task["calls"] if call["needs"] or call["refs"]]
        assert all(len(call[edge]) == 1 for call in chained)
        assert len(task["calls"]) - len(chained) == 3


def test_the_bound_of_a_committed_task_is_the_critical_path_where_it_is_one_chain() -> None:
    read = workload("multistep_needs")
    task = read["tasks"][0]
    last = task["answers"][0]["needs"][0]
    chain = [call for call in task["calls"] if call["message"] == 0]
    path = [next(call for call in chain if call["id"] == last)]
    while path[0]["needs"]:
        path.insert(0, next(call for call in chain if call["id"] == path[0]["needs"][0]))
    alone = {**task, "calls": path, "answers": task["answers"][:1]}
    by_hand = sum(FIRST + (len(call["cml"]) - 1) * TOKEN + call["ms"] for call in path)
    by_hand += FIRST + (len(task["answers"][0]["tokens"]) - 1) * TOKEN
    assert bound_ms(problem_of(read, alone)) == pytest.approx(by_hand)
    assert bound_ms(problem_of(read, task)) >= by_hand
