"""Sessions told event by event, as a server would report them; times and words are typed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asynclm.cml.blocks import Reference, Trap
from asynclm.cml.control import Control, Quantifier, Status
from asynclm.session import effects
from asynclm.session.config import ExecutionMode, OnEnd
from asynclm.session.state import Delivery, FinishReason, Result, Scheduling, State
from asynclm.wire.values import Capability, OfferedTool, ReceivedEvent, ServerReport, Started


class Teller:
    """Writes one session's events; every method moves the clock by `ms` first."""

    def __init__(self, mode: ExecutionMode = ExecutionMode.ASYNC, *, ms_per_token: int = 20) -> None:
        self.events: list[ReceivedEvent] = []
        self._now = 0
        self._index = 0
        self._pace = ms_per_token
        self._calls: dict[str, dict[str, Any]] = {}
        self._numbers = 0
        self._sampled = 0
        self._block: Control | None = None
        self._interrupts: list[effects.InterruptRow] = []
        self._say(
            Started(
                session_id="s-1",
                model="smollm2-135m-instruct",
                capabilities=frozenset({Capability.GENERATE}),
                prompt_tokens=212,
                tools=(OfferedTool("read_page", True),),
                mode=mode,
                on_end=OnEnd.WAIT,
            )
        )

    def _say(self, report: ServerReport) -> None:
        self.events.append(ReceivedEvent(len(self.events) + 1, self._index, self._now, report))

    def _report(self, make: Callable[..., effects.Report], **fields: Any) -> None:
        self._say(make(token_index=self._index, **fields))

    def wait(self, ms: int) -> None:
        self._now += ms

    def text(self, text: str) -> None:
        for word in _pieces(text):
            self._now += self._pace
            self._report(effects.Tokens, ids=(7,), text=word, in_block=self._block)
            self._index += 1
            self._sampled += 1

    def control(self, control: Control) -> None:
        self._now += self._pace
        self._report(effects.Tokens, ids=(1,), text="", control=control, in_block=self._block)
        self._index += 1
        self._sampled += 1
        if control is Control.END:
            self._block = None
        elif control is not Control.HEAD:
            self._block = control

    def call(self, name: str, body: str, *, dispatch: bool = True, refs: tuple[Reference, ...] = ()) -> None:
        self.control(Control.CALL)
        self.text(name)
        self.control(Control.HEAD)
        self.text(body)
        self.control(Control.END)
        index = len(self._calls)
        function = body.partition("(")[0]
        self._calls[name] = {"index": index, "id": name, "function": function, "emitted_ms": self._now}
        self._report(effects.CallEmitted, index=index, id=name, function=function, raw=body, references=refs)
        if dispatch:
            self.dispatch(name)

    def dispatch(self, name: str) -> None:
        call = self._calls[name]
        call["dispatched_ms"] = self._now
        self._report(
            effects.CallDispatched,
            index=call["index"],
            id=name,
            function=call["function"],
            arguments="{}",
            client_owned=True,
            timeout_ms=300_000,
        )

    def accept(self, source: str, status: Status = Status.OK) -> int:
        number, self._numbers = self._numbers, self._numbers + 1
        if source in self._calls:
            self._calls[source]["resolved_ms"] = self._now
        scheduling = Scheduling.IMMEDIATE
        self._report(effects.InterruptAccepted, number=number, source=source, status=status, scheduling=scheduling)
        return number

    def commit(self, number: int, source: str, payload: str, status: Status = Status.OK) -> None:
        ids = tuple(range(9))
        token_index = self._index
        self._report(effects.InterruptCommitted, number=number, source=source, status=status, payload=payload, ids=ids)
        self._interrupts.append(
            effects.InterruptRow(
                number=number, source=source, status=status, delivery=Delivery.DELIVERED, token_index=token_index
            )
        )
        if source in self._calls and status.terminal:
            result = {Status.OK: Result.OK, Status.CANCELLED: Result.CANCELLED}.get(status, Result.ERROR)
            self._settle(source, result, Delivery.DELIVERED, token_index)
        self._index += len(ids)

    def _settle(self, name: str, result: Result, delivery: Delivery, token_index: int | None) -> None:
        call = self._calls[name]
        timings = effects.CallTimings(
            emitted_ms=call["emitted_ms"],
            dispatched_ms=call.get("dispatched_ms"),
            resolved_ms=call.get("resolved_ms"),
            settled_ms=self._now,
        )
        row = effects.CallRow(
            index=call["index"],
            id=name,
            function=call["function"],
            result=result,
            delivery=delivery,
            token_index=token_index,
            timings=timings,
        )
        call["row"] = row
        self._report(effects.CallSettled, row=row)

    def result(self, source: str, payload: str, status: Status = Status.OK) -> None:
        self.commit(self.accept(source, status), source, payload, status)

    def trap(self, *ids: str, implicit: bool = False) -> None:
        if not implicit:
            self.control(Control.TRAP)
            if ids:
                self.text(",".join(ids))
            self.control(Control.END)
        trap = Trap(Quantifier.ALL, ids) if ids else Trap()
        self._report(effects.TrapEntered, trap=trap, implicit=implicit)

    def leave(self, **fields: Any) -> None:
        self._report(effects.TrapExited, **fields)

    def state(self, state: State, reason: str = "") -> None:
        self._report(effects.StateChanged, state=state, reason=reason)

    def finish(self, reason: FinishReason = FinishReason.STOP) -> list[ReceivedEvent]:
        if reason is FinishReason.STOP:
            self._now += self._pace
            self._report(effects.Tokens, ids=(2,), text="", end_of_sequence=True)
            self._index += 1
            self._sampled += 1
        for name, call in self._calls.items():
            if "row" not in call:
                self._settle(name, Result.CANCELLED, Delivery.UNDELIVERED, None)
        usage = effects.Usage(
            prompt_tokens=212,
            cached_tokens=0,
            sampled_tokens=self._sampled,
            injected_tokens=9 * len(self._interrupts),
        )
        rows = tuple(call["row"] for call in self._calls.values())
        self._report(
            effects.Finished, reason=reason, message="", usage=usage, calls=rows, interrupts=tuple(self._interrupts)
        )
        return self.events


def _pieces(text: str) -> list[str]:
    """About one piece a token: words with the space before them."""
    words = text.split(" ")
    return [word if number == 0 else " " + word for number, word in enumerate(words) if word or number]


PAGE = '{"title":"Open day","text":"The Physics department opens its laboratories on 14 May."}'
PEOPLE = '{"emails":["ada@example.org","alan@example.org"]}'
CHAIR = '{"name":"E. Noether","email":"noether@example.org"}'


def async_session() -> list[ReceivedEvent]:
    """The demonstration's task, calls running while the model writes; a person interrupts in mid-text."""
    t = Teller()
    t.wait(180)
    t.text("I will read the page, the attendees and the directory at once.")
    t.call("page", 'read_page(path="webpage.html")')
    t.call("people", 'read_attendees(path="attendees.xlsx")')
    t.call("chair", 'find_chair(department="Physics")')
    t.text(" While they are read, here is how I write a summary: I keep to the facts,")
    t.result("people", PEOPLE)
    t.text(" name the date and the")
    t.result("@user", "Keep it under thirty words, please.")
    t.text(" place, and leave out")
    t.result("chair", CHAIR)
    t.text(" everything else.")
    t.trap("page")
    t.wait(420)
    number = t.accept("page")
    t.leave()
    t.commit(number, "page", PAGE)
    refs = (Reference("people", ("emails",)), Reference("chair", ("email",)))
    t.call("mail", 'send_mail(to=people.emails, cc=chair.email, subject="Summary: Open day", body="…")', refs=refs)
    t.trap()
    t.wait(380)
    number = t.accept("mail")
    t.leave()
    t.commit(number, "mail", '{"message_id":"<1@example.org>"}')
    t.text("The mail was sent.")
    return t.finish()


def sync_session() -> list[ReceivedEvent]:
    """The same task, every call blocking."""
    t = Teller(ExecutionMode.SYNC)
    t.wait(180)
    t.text("I will read the page, the attendees and the directory at once.")
    for name, body, ms, payload in (
        ("page", 'read_page(path="webpage.html")', 1500, PAGE),
        ("people", 'read_attendees(path="attendees.xlsx")', 760, PEOPLE),
        ("chair", 'find_chair(department="Physics")', 900, CHAIR),
    ):
        t.call(name, body)
        t.trap(name, implicit=True)
        t.wait(ms)
        number = t.accept(name)
        t.leave()
        t.commit(number, name, payload)
    t.text(" While they are read, here is how I write a summary: I keep to the facts, name the date and the place.")
    t.call("mail", 'send_mail(to=people.emails, cc=chair.email, subject="Summary: Open day", body="…")')
    t.trap("mail", implicit=True)
    t.wait(380)
    number = t.accept("mail")
    t.leave()
    t.commit(number, "mail", '{"message_id":"<1@example.org>"}')
    t.text("The mail was sent.")
    return t.finish()
