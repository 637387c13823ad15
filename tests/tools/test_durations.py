"""What tools usually take: learnt from calls, used where nothing is declared."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from asynclm.cml.toolspec import ToolSpec
from asynclm.server.tool_host import LocalToolHost
from asynclm.session.effects import CallCancelRequested, CallDispatched
from asynclm.session.events import Event, InterruptReceived
from asynclm.session.state import CancelOrigin
from asynclm.tools import tool
from asynclm.tools.durations import UsualDurations
from asynclm.tools.toolset import ToolSet

PATIENCE_S = 30


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_an_average_lies_within_what_was_seen(times: list[float]) -> None:
    durations = UsualDurations()
    for ms in times:
        durations.observe("f", ms)
    usual = durations.usual_ms("f")
    assert usual is not None
    assert max(1, 0.9 * min(times) - 1) <= usual <= max(1, 1.1 * max(times))


def test_the_latest_calls_count_most() -> None:
    durations = UsualDurations()
    for ms in [1000.0] + 20 * [100.0]:
        durations.observe("f", ms)
    assert durations.usual_ms("f") == 100
    assert durations.usual_ms("g") is None


def test_only_specs_that_declare_nothing_are_filled_in() -> None:
    durations = UsualDurations()
    specs = [ToolSpec(name="f"), ToolSpec(name="g", expected_duration_ms=7), ToolSpec(name="h")]
    assert durations.fill_in(specs) == specs
    durations.observe("f", 1234.5)
    durations.observe("g", 99)
    filled = durations.fill_in(specs)
    assert [spec.expected_duration_ms for spec in filled] == [1200, 7, None]
    assert durations.fill_in(specs)[0] is filled[0], "a spec is made anew only when the duration changes"
    durations.observe("f", 10_000)
    assert durations.fill_in(specs)[0].expected_duration_ms == 3400


class Host:
    """A tool host with a clock that is moved by hand, and a count of what it posts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.go_on = threading.Event()
        self.answered = threading.Semaphore(0)

        @tool
        def work() -> str:
            """Works until it is let go on."""
            assert self.go_on.wait(PATIENCE_S)
            return "done"

        @tool(cacheable=True)
        def same() -> str:
            """The same, and always with the same result."""
            assert self.go_on.wait(PATIENCE_S)
            return "same"

        self.host = LocalToolHost(ToolSet([work, same]), clock=lambda: self.now)
        self.host.connect(self.post)

    def post(self, session_id: str, event: Event) -> None:
        assert isinstance(event, InterruptReceived)
        self.answered.release()

    def dispatch(self, index: int, function: str) -> None:
        call = CallDispatched(
            token_index=0, index=index, id="x", function=function, arguments="{}", client_owned=False, timeout_ms=None
        )
        self.host.dispatch("s", call)

    def call(self, index: int, function: str, *, takes_s: float) -> None:
        self.go_on.clear()
        self.dispatch(index, function)
        self.now += takes_s
        self.go_on.set()
        assert self.answered.acquire(timeout=PATIENCE_S)


def test_a_host_learns_from_dispatch_to_result() -> None:
    host = Host()
    host.call(0, "work", takes_s=2.0)
    assert host.host.durations.usual_ms("work") == 2000
    host.call(1, "same", takes_s=0.5)
    host.call(2, "same", takes_s=9.0)
    assert host.host.durations.usual_ms("same") == 500, "what was kept from an earlier call says nothing"
    host.host.close()


def test_what_was_cancelled_says_nothing_of_a_tool() -> None:
    host = Host()
    host.dispatch(0, "work")
    host.now += 1
    request = CallCancelRequested(token_index=0, index=0, id="x", origin=CancelOrigin.CLIENT, client_owned=False)
    host.host.cancel("s", request)
    host.go_on.set()
    host.host.close()
    assert host.host.durations.usual_ms("work") is None
