from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.sessions import Teller, async_session, sync_session

from asynclm.cml.blocks import Trap
from asynclm.cml.control import Quantifier, Status
from asynclm.demo.lanes import Activity, Segment, Timeline
from asynclm.demo.timeline import build_timeline
from asynclm.demo.transcript import Landing, SpanKind, trap_condition
from asynclm.session.config import ExecutionMode
from asynclm.session.state import Delivery, FinishReason, Result, State


def told(tell: Callable[[Teller], None], mode: ExecutionMode = ExecutionMode.ASYNC) -> Timeline:
    teller = Teller(mode, ms_per_token=10)
    tell(teller)
    return build_timeline(teller.events, title="told")


def test_what_the_model_did_follows_without_gaps() -> None:
    def tell(t: Teller) -> None:
        t.wait(90)
        t.text("one two")  # 100, 110
        t.call("a", "f(x=1)")  # [CALL] 120 … [END] 160
        t.trap()  # 170, 180
        t.wait(200)
        number = t.accept("a")
        t.leave()
        t.commit(number, "a", "1")
        t.text("three")  # 390
        t.finish()  # 400

    timeline = told(tell)
    assert timeline.segments == (
        Segment(Activity.PREFILL, 0, 100),
        Segment(Activity.TEXT, 100, 110),
        Segment(Activity.BLOCK, 110, 180),
        Segment(Activity.TRAPPED, 180, 380, "the next interrupt"),
        Segment(Activity.TEXT, 380, 400),
    )
    assert (timeline.first_token_ms, timeline.last_token_ms, timeline.latency_ms) == (100, 400, 300)
    assert (timeline.waiting_ms, timeline.duration_ms, timeline.reason) == (200, 400, FinishReason.STOP)


def test_a_call_has_its_five_moments() -> None:
    call = build_timeline(async_session(), title="async").calls[0]
    assert (call.written_ms, call.emitted_ms, call.dispatched_ms, call.resolved_ms, call.committed_ms) == (
        440,
        520,
        520,
        1740,
        1740,
    )
    assert (call.label, call.function, call.run_ms) == ("page", "read_page", 1220)
    assert (call.result, call.delivery) == (Result.OK, Delivery.DELIVERED)


def test_overlap_counts_decoding_beside_calls_once() -> None:
    def tell(t: Teller) -> None:
        t.call("a", "f()")  # until 50
        t.call("b", "g()")  # until 100
        t.text("one two three")  # until 130
        t.result("a", "1")
        t.result("b", "1")
        t.text("four")

    assert told(tell).overlap_ms == 80
    assert build_timeline(sync_session(), title="sync").overlap_ms == 0


@pytest.mark.parametrize(
    ("tell", "landing"),
    [
        (lambda t: t.text("some text"), Landing.TEXT),
        (lambda t: t.call("a", "f()"), Landing.BLOCK),
        (lambda t: None, Landing.BLOCK),
        (lambda t: (t.text("x"), t.trap(), t.leave()), Landing.TRAP),
        (lambda t: t.state(State.DRAINING), Landing.END),
        (lambda t: t.state(State.IDLE), Landing.END),
    ],
)
def test_an_interrupt_lands_where_the_model_was(tell: Callable[[Teller], object], landing: Landing) -> None:
    def session(t: Teller) -> None:
        tell(t)
        t.result("@user", "hello")

    (landed,) = told(session).interrupts
    assert landed.landing is landing
    assert not landed.from_call


def test_after_a_trap_text_is_running_text_again() -> None:
    def tell(t: Teller) -> None:
        t.trap()
        t.leave()
        t.result("@user", "one")
        t.text("go on")
        t.result("@user", "two")

    assert [landed.landing for landed in told(tell).interrupts] == [Landing.TRAP, Landing.TEXT]


def test_draining_and_idle_are_no_decoding() -> None:
    def tell(t: Teller) -> None:
        t.text("x")  # 10
        t.state(State.DRAINING)
        t.wait(50)
        t.state(State.DECODING)
        t.text("y")  # 70
        t.state(State.IDLE)
        t.wait(30)
        t.state(State.DECODING)

    assert told(tell).segments[1:] == (
        Segment(Activity.DRAINING, 10, 60, "end of sequence"),
        Segment(Activity.TEXT, 60, 70),
        Segment(Activity.IDLE, 70, 100),
    )


def test_a_call_that_never_came_back_is_told_by_the_ledger() -> None:
    def tell(t: Teller) -> None:
        t.call("a", "f()")
        t.call("held", "g(x=a)", dispatch=False)
        t.finish(FinishReason.FINISHED_BY_CLIENT)

    running, held = told(tell).calls
    assert (running.delivery, running.committed_ms, running.run_ms) == (Delivery.UNDELIVERED, None, None)
    assert held.dispatched_ms is None


def test_the_transcript_spells_blocks_as_the_text_form_does() -> None:
    spans = build_timeline(async_session(), title="async").transcript
    text = "".join(span.text for span in spans)
    assert text.startswith(
        "I will read the page, the attendees and the directory at once. [CALL] page [HEAD] "
        'read_page(path="webpage.html") [END] [CALL] people [HEAD] '
    )
    assert "and the [INTR] @user [HEAD] Keep it under thirty words, please. [END] place, and" in text
    assert "[TRAP] page [END] [INTR] page [HEAD] {" in text
    assert "[TRAP] [END] [INTR] mail [HEAD]" in text
    assert all(span.text for span in spans)


def test_statuses_are_spelled_beside_the_source() -> None:
    def tell(t: Teller) -> None:
        t.call("a", "f()")
        t.result("a", '{"message": "no"}', Status.ERROR)

    timeline = told(tell)
    assert timeline.transcript[-1].text == ' [INTR] a:error [HEAD] {"message": "no"} [END]'
    assert timeline.calls[0].result is Result.ERROR


def test_conditions_in_words() -> None:
    assert trap_condition(Trap()) == "the next interrupt"
    assert trap_condition(Trap(Quantifier.ALL)) == "everything pending"
    assert trap_condition(Trap(Quantifier.ANY, ("a",))) == "a"
    assert trap_condition(Trap(Quantifier.ANY, ("a", "b"))) == "any of a, b"


steps = st.one_of(
    st.tuples(st.just("text"), st.sampled_from(["a", "one two", " x"])),
    st.tuples(st.just("wait"), st.integers(0, 50)),
    st.tuples(st.just("call"), st.none()),
    st.tuples(st.just("trap"), st.none()),
    st.tuples(st.just("say"), st.none()),
    st.tuples(st.just("state"), st.sampled_from([State.DRAINING, State.IDLE, State.DECODING])),
)


@given(st.lists(steps, max_size=25), st.booleans())
def test_segments_never_overlap_and_every_character_is_kept(story: list[tuple[str, object]], ends: bool) -> None:
    t = Teller(ms_per_token=7)
    names = (f"c{number}" for number in itertools.count())
    for verb, what in story:
        match verb, what:
            case "text", str(text):
                t.text(text)
            case "wait", int(ms):
                t.wait(ms)
            case "call", _:
                t.call(next(names), "f()")
            case "trap", _:
                t.trap()
                t.wait(5)
                t.leave()
            case "say", _:
                t.result("@user", "hello")
            case "state", State() as state:
                t.state(state)
    if ends:
        t.finish()
    timeline = build_timeline(t.events, title="told")
    for earlier, later in itertools.pairwise(timeline.segments):
        assert earlier.end_ms <= later.start_ms
    assert all(0 <= s.start_ms < s.end_ms <= timeline.duration_ms for s in timeline.segments)
    assert timeline.spent_ms(*Activity) <= timeline.duration_ms
    sampled = "".join(e.report.text for e in t.events if type(e.report).__name__ == "Tokens")
    written = "".join(s.text for s in timeline.transcript if s.kind in (SpanKind.TEXT, SpanKind.BODY))
    assert written.replace(" ", "") == sampled.replace(" ", "")
