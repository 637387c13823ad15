"""The scripted model: what it says next follows from the messages that it is shown, and from nothing else.

It stands for a model that can do the task. It calls what is ready, the slowest first; it says a sentence of the answer
once the results that the sentence tells are in the messages; and when there is nothing more to write, it stops.
"""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from asynclm.bench.hosted.workload import Answer, Call, Task, Workload
from asynclm.cml import blocks, text_form
from asynclm.cml.control import BodyLanguage
from asynclm_adapters.openai_mock.errors import bad_request
from asynclm_adapters.openai_mock.messages import Message
from asynclm_adapters.openai_mock.pieces import CallDelta, Delta, Finish, Piece
from asynclm_adapters.openai_mock.request import ChatRequest

TRAP = ("[", "TR", "AP", "]", " [", "END", "]")
"""`[TRAP] [END]` as o200k_base cuts it."""
TRAP_ALL = ("[", "TR", "AP", "]", " all", " [", "END", "]")
"""`[TRAP] all [END]`."""


class Habit(enum.StrEnum):
    """How a model calls; the name under which the endpoint has it."""

    ONE = "one"
    """Ordinary tool calling, one call in a reply."""
    READY = "ready"
    """Ordinary tool calling, in a reply all calls that are ready; several are written as GPT-4o writes them."""
    BARE = "bare"
    """The same; several are written as bare JSON, one behind the other."""
    TRAPS = "traps"
    """CML: waits by a bare trap."""
    ENDS = "ends"
    """CML: waits by ending its answer, as chat models do."""
    FUTURES = "futures"
    """CML: writes futures where a result is taken as it is, and waits for all by a trap once it has written any."""

    @property
    def cml(self) -> bool:
        """Whether it writes CML."""
        return self not in (Habit.ONE, Habit.READY, Habit.BARE)


@dataclass
class Shown:
    """What the messages show.

    Attributes:
        messages: the numbers of the user's messages.
        results: calls whose results are there.
        written: calls that were written.
        said: what was said beside them.
    """

    messages: set[int] = field(default_factory=set)
    results: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    said: str = ""


class ScriptedModel:
    """A `Model` (asynclm_adapters.openai_mock.pieces) that can do the tasks of the workloads.

    Args:
        workloads: what it can do.
        habit: how it calls.
    """

    def __init__(self, workloads: Iterable[Workload], habit: Habit) -> None:
        self._habit = habit
        self._tasks: dict[str, tuple[Task, Workload]] = {}
        for workload in workloads:
            self._tasks |= {task.texts[0]: (task, workload) for task in workload.tasks}

    async def reply(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """What is said, a token at a time.

        Raises:
            ApiError: the messages are of no task, or hold a result that no function gave.
        """
        first = next((message.content for message in request.messages if message.role == "user"), "")
        if first not in self._tasks:
            raise bad_request(f"The scripted model knows no task that begins with {first[:60]!r}.", "messages")
        task, workload = self._tasks[first]
        usual = {function.name: function.expected_ms for function in workload.functions}
        shown = read(task, request.messages)
        if self._habit.cml:
            for token in joined(writing(task, shown, usual, self._habit)):
                yield Delta(token, 1)
            return
        ready = [call for call in task.calls if _ready(call, shown, futures=False)]
        if self._habit is Habit.ONE:
            ready = ready[:1]
        several = self._habit is Habit.READY and len(ready) > 1
        before = len(workload.json_around_several[0]) if several else 0
        for number, call in enumerate(sorted(ready, key=lambda call: -usual[call.function])):
            for piece in _as_json(number, call, call.json_of_several if several else call.json, before):
                yield piece
            before = 0
        if ready:
            yield Finish("tool_calls")
            return
        for answer in _tellable(task, shown):
            for token in _rest(answer, shown.said):
                yield Delta(token, 1)


def read(task: Task, messages: Sequence[Message]) -> Shown:
    """What the messages of a request show.

    Raises:
        ApiError: a result is not the one that its function gave.
    """
    shown = Shown()
    numbers = {text: number for number, text in enumerate(task.texts)}
    for message in messages:
        if message.role == "user" and message.content in numbers:
            shown.messages.add(numbers[message.content])
        elif message.role == "assistant":
            _read_said(shown, message)
        elif message.role == "tool" and message.tool_call_id.startswith(_ID):
            _take(task, shown, message.tool_call_id.removeprefix(_ID), message.content)
        elif message.role in ("tool", "user", "developer"):
            for block in text_form.parse(message.content, BodyLanguage.PYTHON):
                if isinstance(block, blocks.Interrupt) and block.source == "@user":
                    shown.messages.add(numbers[block.payload])
                elif isinstance(block, blocks.Interrupt) and block.source == "@runtime":
                    raise bad_request(f"The model gave the runtime no cause to say {block.payload[:200]}", "messages")
                elif isinstance(block, blocks.Interrupt):
                    _take(task, shown, block.source, block.payload)
    return shown


def _read_said(shown: Shown, message: Message) -> None:
    shown.written |= {call.id.removeprefix(_ID) for call in message.tool_calls if call.id.startswith(_ID)}
    for located in text_form.parse_document(message.content, BodyLanguage.PYTHON):
        if isinstance(located.part, blocks.Call) and located.part.id is not None:
            shown.written.add(located.part.id)
        elif isinstance(located.part, blocks.Text):
            shown.said += located.part.text


def _take(task: Task, shown: Shown, id: str, payload: str) -> None:
    if json.loads(payload) != task.call(id).result:
        raise bad_request(f"The result of {id} is {payload[:80]!r}, which its function did not give.", "messages")
    shown.results.add(id)


def writing(task: Task, shown: Shown, usual: dict[str, int], habit: Habit) -> Iterator[Sequence[str]]:
    """What a model that writes CML says: calls, sentences, and that it waits."""
    futures = habit is Habit.FUTURES
    written = Shown(set(shown.messages), set(shown.results), set(shown.written), shown.said)
    while ready := [call for call in task.calls if _ready(call, written, futures=futures)]:
        call = max(ready, key=lambda call: _weight(task, call, usual, futures=futures))
        yield call.cml_future if call.cml_future and not set(call.refs) <= written.results else call.cml
        written.written.add(call.id)
    for answer in _tellable(task, shown):
        yield _rest(answer, shown.said)
    pending = [call for call in task.calls if call.id in written.written - shown.results]
    if habit is Habit.TRAPS and pending:
        yield TRAP
    if any(set(call.refs) - shown.results for call in pending):
        yield TRAP_ALL


def joined(parts: Iterable[Sequence[str]]) -> Iterator[str]:
    """The tokens of a reply: between two blocks that stand side by side, `][` is one."""
    held = ""
    for part in parts:
        for number, token in enumerate(part):
            if held and number == 0 and token == "[":
                held += token
                continue
            if held:
                yield held
            held = ""
            if token == "]" and number == len(part) - 1:
                held = token
            else:
                yield token
    if held:
        yield held


def _ready(call: Call, shown: Shown, *, futures: bool) -> bool:
    if call.id in shown.written or call.message not in shown.messages:
        return False
    taken = shown.written if futures else shown.results
    return set(call.needs) <= shown.results and set(call.refs) <= taken


def _weight(task: Task, call: Call, usual: dict[str, int], *, futures: bool) -> float:
    """How long it usually is until the call and what waits for it by futures have ended."""
    behind = [other for other in task.calls if call.id in other.refs] if futures else []
    return usual[call.function] + max((_weight(task, o, usual, futures=futures) for o in behind), default=0.0)


def _tellable(task: Task, shown: Shown) -> list[Answer]:
    """Sentences whose results are there and that were not said to their end, one that was begun before the others."""
    tellable = [
        answer
        for answer in task.answers
        if answer.message in shown.messages and set(answer.needs) <= shown.results and _rest(answer, shown.said)
    ]
    return sorted(tellable, key=lambda answer: len(_rest(answer, shown.said)) == len(answer.tokens))


def _rest(answer: Answer, said: str) -> tuple[str, ...]:
    """What is left of a sentence: all of it, or what is behind the part that was said last."""
    if "".join(answer.tokens) in said:
        return ()
    kept = (n for n in range(len(answer.tokens), 0, -1) if said.endswith("".join(answer.tokens[:n])))
    return answer.tokens[next(kept, 0) :]


_ID = "call_"


def _as_json(number: int, call: Call, tokens: Sequence[str], before: int) -> list[Piece]:
    """A tool call as the API streams it: its head, then its arguments, with the tokens of the whole."""
    arguments = json.dumps(dict(call.arguments), separators=(",", ":"))
    head = next(n for n in range(1, len(tokens)) if call.function in "".join(tokens[:n]))
    begun = CallDelta(number, f"{_ID}{call.id}", call.function, tokens=before + head)
    return [begun, CallDelta(number, arguments=arguments, tokens=len(tokens) - head)]
