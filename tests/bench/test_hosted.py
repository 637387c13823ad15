"""`bench hosted`: its scripted model, its functions, what it measures and what it holds that against."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from asynclm.bench import hosted
from asynclm.bench.hosted import COLUMNS
from asynclm.bench.hosted.functions import Functions
from asynclm.bench.hosted.policy import TRAP, TRAP_ALL, Habit, ScriptedModel, joined, read, writing
from asynclm.bench.hosted.report import FASTER, OVER_BOUND, SHARE_OF_RATIO, Measured, metrics, table
from asynclm.bench.hosted.running import Times, WrongRunError, check
from asynclm.bench.hosted.stage import Run
from asynclm.bench.hosted.workload import NAMES, Task, Workload, load
from asynclm.tools import ToolCall, ToolExecutor, ToolUpdate
from asynclm_adapters.openai_mock.errors import ApiError
from asynclm_adapters.openai_mock.messages import Message
from asynclm_adapters.openai_mock.pieces import CallDelta, Delta, Finish
from asynclm_adapters.openai_mock.request import ChatRequest

NEEDS, FREE, INTERRUPTS = (load(name) for name in ("multistep_needs", "multistep_free", "interrupts"))


def said(text: str) -> Message:
    return Message("assistant", text)


def interrupt(text: str) -> Message:
    return Message("tool", text, tool_call_id="interrupt_1")


def result(task: Task, id: str) -> Message:
    return interrupt(f"[INTR] {id} [HEAD] {json.dumps(task.call(id).result)} [END]")


def write(workload: Workload, habit: Habit, *behind: Message, task: Task | None = None) -> str:
    task = task or workload.tasks[0]
    usual = {function.name: function.expected_ms for function in workload.functions}
    shown = read(task, [Message("user", task.texts[0]), *behind])
    return "".join(joined(writing(task, shown, usual, habit)))


def firsts(task: Task) -> list[str]:
    return [call.id for call in task.calls if not call.needs and not call.refs]


def test_calls_whose_results_are_not_shown_are_not_written() -> None:
    task = NEEDS.tasks[0]
    text = write(NEEDS, Habit.ENDS)
    written = [id for id in (call.id for call in task.calls) if f"[CALL] {id} [HEAD]" in text]
    assert sorted(written) == sorted(firsts(task))
    usual = {function.name: function.expected_ms for function in NEEDS.functions}
    order = sorted(written, key=lambda id: text.index(f"[CALL] {id} "))
    assert [usual[task.call(id).function] for id in order] == sorted(usual[task.call(id).function] for id in order)[
        ::-1
    ]


def test_a_result_that_is_shown_brings_what_depends_on_it() -> None:
    task = NEEDS.tasks[0]
    begun = said(write(NEEDS, Habit.ENDS))
    after = next(call for call in task.calls if call.needs)
    text = write(NEEDS, Habit.ENDS, begun, result(task, after.needs[0]))
    assert text == "".join(after.cml)


def test_futures_are_written_at_once_and_waited_for_together() -> None:
    task = FREE.tasks[0]
    text = write(FREE, Habit.FUTURES)
    assert all(f"[CALL] {call.id} [HEAD]" in text for call in task.calls)
    assert text.endswith("".join(TRAP_ALL))
    assert "[TRAP]" not in write(FREE, Habit.ENDS)
    assert write(FREE, Habit.TRAPS).endswith("".join(TRAP))


def test_the_answer_is_said_when_its_results_are_there_and_goes_on_where_it_was_cut() -> None:
    task = FREE.tasks[0]
    tokens = [token for answer in task.answers for token in answer.tokens]
    begun = said(write(FREE, Habit.FUTURES))
    results = [result(task, call.id) for call in task.calls]
    assert write(FREE, Habit.FUTURES, begun, *results) == "".join(tokens)
    half, rest = "".join(tokens[:5]), "".join(tokens[5:])
    assert write(FREE, Habit.FUTURES, begun, *results, said(half)) == rest
    assert write(FREE, Habit.FUTURES, begun, *results, said(half), said(rest)) == ""


def test_a_message_that_has_not_come_asks_for_nothing() -> None:
    task = INTERRUPTS.tasks[0]
    alone = write(INTERRUPTS, Habit.FUTURES)
    both = write(INTERRUPTS, Habit.FUTURES, interrupt(f"[INTR] @user [HEAD] {task.texts[1]} [END]"))
    second = [call.id for call in task.calls if call.message == 1]
    assert not any(f"[CALL] {id} " in alone for id in second)
    assert f"[CALL] {second[0]} " in both


@pytest.mark.parametrize(
    "text", ['[INTR] {} [HEAD] {{"found": []}} [END]', '[INTR] @runtime:error [HEAD] {{"type": "trap"}} [END]']
)
def test_what_the_runtime_should_not_have_said_is_refused(text: str) -> None:
    task = NEEDS.tasks[0]
    with pytest.raises(ApiError):
        write(NEEDS, Habit.ENDS, interrupt(text.format(firsts(task)[0])))


def test_between_blocks_one_token_closes_and_opens() -> None:
    assert list(joined([("[", "END", "]"), ("[", "CALL", "]")])) == ["[", "END", "][", "CALL", "]"]
    assert list(joined([("[", "END", "]"), (" Yes", "."), ("[", "TR")])) == ["[", "END", "]", " Yes", ".", "[", "TR"]


async def pieces(habit: Habit, *messages: Message) -> list[object]:
    request = ChatRequest("m", (Message("user", FREE.tasks[0].texts[0]), *messages))
    return [piece async for piece in ScriptedModel([FREE], habit).reply(request)]


async def test_ordinary_tool_calling_takes_the_tokens_of_its_syntax() -> None:
    task = FREE.tasks[0]
    one = await pieces(Habit.ONE)
    first = task.call(firsts(task)[0])
    assert one[-1] == Finish("tool_calls")
    assert sum(piece.tokens or 0 for piece in one if isinstance(piece, CallDelta)) == len(first.json)
    several = await pieces(Habit.READY)
    calls = [task.call(id) for id in firsts(task)]
    tokens = sum(piece.tokens or 0 for piece in several if isinstance(piece, CallDelta))
    assert tokens == len(FREE.json_around_several[0]) + sum(len(call.json_of_several) for call in calls)
    bare = await pieces(Habit.BARE)
    assert sum(piece.tokens or 0 for piece in bare if isinstance(piece, CallDelta)) == sum(len(c.json) for c in calls)
    assert all(isinstance(piece, Delta) and piece.tokens == 1 for piece in await pieces(Habit.FUTURES))


async def test_a_function_gives_the_result_of_the_call_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(hosted.functions.asyncio, "sleep", sleep)
    call = FREE.tasks[0].calls[0]
    functions = Functions([FREE])
    assert await functions.run(call.function, call.arguments) == call.result
    assert slept == [call.ms / 1000]
    updates: list[ToolUpdate] = []
    executor = ToolExecutor(functions.tools(), on_update=updates.append)
    executor.submit(
        ToolCall(session_id="s", index=0, function=call.function, arguments_json=json.dumps(dict(call.arguments)))
    )
    await executor.aclose()


def runs(times: Sequence[float]) -> list[Run]:
    return [Run(Times(ms, ms - 310, ""), 2, 0) for ms in times]


def test_floors_are_those_of_the_benchmark_and_ratios_are_of_each_task() -> None:
    names = [column.name for column in COLUMNS]
    found = {name: runs([1000.0, 3000.0]) for name in names}
    found |= {"sync": runs([3000.0, 6000.0]), "naive": runs([2000.0, 6000.0])}
    measured = {name: Measured([900.0, 2700.0], found) for name in NAMES}
    by_name = {metric.name: metric for metric in metrics(COLUMNS, measured)}
    for name in NAMES:
        assert by_name[f"{name}_over_bound_p50"].floor == OVER_BOUND == 1.15
        assert by_name[f"{name}_share_of_bound_ratio"].floor == SHARE_OF_RATIO == 0.87
        for other in ("sync", "sync_parallel", "naive"):
            assert by_name[f"{name}_vs_{other}"].floor == FASTER == 1
    assert by_name["parallel_vs_sync"].value == 2.5
    assert by_name["parallel_share_of_bound_ratio"].value == pytest.approx(0.9)
    assert by_name["parallel_over_bound_p50"].value == pytest.approx(1 / 0.9)
    assert table(COLUMNS, measured).row_count == len(NAMES) * (1 + len(COLUMNS))


def test_a_run_that_did_not_say_its_answer_once_is_none() -> None:
    task = FREE.tasks[0]
    answer = "".join("".join(answer.tokens) for answer in task.answers)
    check(task, Times(1.0, 1.0, answer))
    with pytest.raises(WrongRunError, match="says 0 times"):
        check(task, Times(1.0, 1.0, ""))
    with pytest.raises(WrongRunError, match="says 2 times"):
        check(task, Times(1.0, 1.0, answer * 2))


@pytest.mark.slow
def test_a_small_run_measures_everything_and_none_is_faster_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "QUICK_TASKS", 1)
    record = hosted.run(quick=True)
    by_name = {metric.name: metric.value for metric in record.metrics}
    assert all(value is not None for value in by_name.values())
    for name in NAMES:
        assert by_name[f"{name}_futures_ms"] > by_name[f"{name}_bound_ms"]  # type: ignore[operator]
