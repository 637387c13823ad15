from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from tests.cli.screen import Screen
from tests.cli.sessions import Teller, async_session, sync_session

from asynclm.cli.bars import call_bars, edit_line
from asynclm.cli.ledger import bill, ledger
from asynclm.cli.line_editor import LineEditor
from asynclm.cli.live import LiveView
from asynclm.cli.plain import PlainView
from asynclm.cml.control import Status
from asynclm.demo.svg import render_svg
from asynclm.demo.terminal import legend, render_terminal
from asynclm.demo.timeline import TimelineBuilder, build_timeline
from asynclm.session import effects
from asynclm.session.state import FinishReason, NoticeCode, RejectReason
from asynclm.wire.values import ReceivedEvent

EXPECTED = Path(__file__).parent / "expected"
SESSIONS = {"async": async_session, "sync": sync_session}
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(events: list[ReceivedEvent]) -> str:
    out = io.StringIO()
    view = PlainView(out)
    for event in events:
        view.event(event, event.time_ms)
    view.close()
    return out.getvalue()


def live(events: list[ReceivedEvent], *, width: int = 100, ticks: bool = True) -> str:
    """What a terminal received, its control sequences included."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=30, color_system="standard", highlight=False)
    view = LiveView(console, editor=LineEditor(), title="told")
    for event in events:
        view.event(event, event.time_ms)
        if ticks:
            view.tick(event.time_ms)
    view.close()
    return out.getvalue()


def printed(console_output: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in ANSI.sub("", console_output).splitlines())


@pytest.mark.parametrize("name", SESSIONS)
def test_the_plain_view_writes_a_line_for_each_thing_that_happens(name: str) -> None:
    assert plain(SESSIONS[name]()) == (EXPECTED / f"plain_{name}.txt").read_text()


@pytest.mark.parametrize("name", SESSIONS)
def test_the_timeline_and_the_ledger_as_text(name: str) -> None:
    events = SESSIONS[name]()
    console = Console(file=io.StringIO(), width=100)
    console.print(render_terminal(build_timeline(events, title=name), 100))
    assert isinstance(events[-1].report, effects.Finished)
    console.print(ledger(events[-1].report))
    assert isinstance(console.file, io.StringIO)
    assert printed(console.file.getvalue()) == (EXPECTED / f"timeline_{name}.txt").read_text()


def test_no_row_of_a_drawing_is_wider_than_it_may_be() -> None:
    for width in (40, 80, 120):
        console = Console(file=io.StringIO(), width=width + 50)
        console.print(render_terminal(build_timeline(async_session(), title="async"), width))
        assert isinstance(console.file, io.StringIO)
        heading, *rows = console.file.getvalue().splitlines()
        assert heading.startswith("async")
        assert max(len(row) for row in rows) <= width


def test_a_call_without_a_result_ends_with_its_session_not_with_the_axis() -> None:
    t = Teller(ms_per_token=100)
    t.call("a", "f()")
    t.call("b", "g(x=a)", dispatch=False)
    timeline = build_timeline(t.finish(FinishReason.FINISHED_BY_CLIENT), title="told")
    console = Console(file=io.StringIO(), width=100)
    console.print(render_terminal(timeline, 100, span_ms=timeline.duration_ms * 2))
    assert isinstance(console.file, io.StringIO)
    for row in console.file.getvalue().splitlines()[3:]:
        assert row[62:].strip(" ╳") == ""
    whole = ElementTree.fromstring(render_svg([timeline, build_timeline(sync_session(), title="longer")]))
    first = next(whole.iter("{http://www.w3.org/2000/svg}g"))
    bars = [rect for rect in first.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") == "run"]
    assert all(float(bar.get("x", "")) + float(bar.get("width", "")) < 500 for bar in bars)


def test_the_legend_explains_every_shape() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(legend())
    assert isinstance(console.file, io.StringIO)
    assert set("▒█▓┄╌━─◆▲") <= set(console.file.getvalue())


def test_plain_lines_of_everything_else() -> None:
    t = Teller()
    t.text("line one\nline two\n\nrest")
    t.call("a", 'f(x="one\\ntwo")')
    t.result("a", '{"type": "x",\n"message": "no"}', Status.ERROR)
    for report in (
        effects.Notice(token_index=0, code=NoticeCode.STRAY, message="[END] outside a block"),
        effects.InterruptRejected(
            token_index=0, source="b", reason=RejectReason.UNKNOWN_ID, message="no call", payload="\x1b[2J"
        ),
        effects.TrapExited(token_index=0, timed_out=True),
        effects.TrapExited(token_index=0, empty=True),
    ):
        t.events.append(ReceivedEvent(99, 0, 0, report))
    assert plain(t.events).splitlines()[1:] == [
        "text      line one",
        "text      line two",
        "text",
        "text      rest",
        'call      a f(x="one\\ntwo")',
        "start     a f {}",
        'interrupt a error {"type": "x",⏎"message": "no"} (while decoding, token 8)',
        "notice    stray: [END] outside a block",
        "rejected  b unknown_id: no call ␛[2J",
        "trap      timed out",
        "trap      nothing to wait for",
    ]


def test_plain_notes_stand_on_their_own_line() -> None:
    out = io.StringIO()
    view = PlainView(out)
    for event in (t := Teller(), t.text("half"))[0].events:
        view.event(event, 0)
    view.held("paused")
    view.held(None)
    view.tick(100)
    assert out.getvalue().splitlines()[1:] == [
        "text      half",
        "note      decoding is held: paused",
        "note      decoding goes on",
    ]


@pytest.mark.parametrize("ticks", [True, False])
def test_the_live_view_leaves_the_transcript_the_timeline_and_the_ledger(ticks: bool) -> None:
    screen = Screen()
    screen.feed(live(async_session(), ticks=ticks))
    assert screen.text == (EXPECTED / "live_async.txt").read_text()


@pytest.mark.parametrize("width", [30, 77])
def test_nothing_of_the_transcript_is_lost_at_any_width(width: int) -> None:
    screen = Screen()
    screen.feed(live(async_session(), width=width))
    expected = "".join(span.text for span in build_timeline(async_session(), title="").transcript)
    assert "".join(screen.text.split()).startswith("".join(expected.split()))
    assert max(len(row) for row in screen.text.splitlines()) <= width


def test_the_live_view_shows_what_moves() -> None:
    screen = Screen()
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=60, height=20), editor=LineEditor())
    t = Teller()
    t.text("Hello")
    t.call("a", "f()")
    for event in t.events:
        view.event(event, event.time_ms)
    view.tick(t.events[-1].time_ms + 1000)
    screen.feed(out.getvalue())
    assert screen.text.splitlines() == [
        "Hello [CALL] a [HEAD] f() [END]",
        "─" * 59,
        "a f                     ━━━━━━━━━━━━━━━━━ running 1.00 s",
        "writing a call or trap · 6 tokens, 0 injected · 1 pending",
        "›   type to interrupt · Ctrl-P pauses · Ctrl-C stops",
    ]
    view.close()


def test_the_live_view_colours_control_tokens_and_what_was_injected() -> None:
    output = live(async_session())
    assert re.search(r"\x1b\[1;36m ?\[CALL\]", output)
    assert re.search(r"\x1b\[7;35m\[INTR\] @user|\x1b\[35;7m\[INTR\] @user", output)
    assert re.search(r"\x1b\[32m\[INTR\] page", output)


def test_what_a_model_writes_cannot_drive_the_terminal() -> None:
    t = Teller()
    t.text("\x1b[2J\x1b]0;title\x07\x9b31m")
    t.call("a", 'f("\x1b[H")')
    t.result("a", '"\x1b[31m"')
    t.result("@user", "\u202eevil")
    output = live(t.finish())
    assert "␛[2J␛]0;title␇\ufffd31m" in printed(output)
    for sequence in ("\x1b[2J", "\x1b]0", "\x9b", "\u202e"):
        assert sequence not in output
    assert "\x1b" not in plain(t.events)


def test_long_payloads_are_cut_in_view() -> None:
    t = Teller()
    t.result("@user", "x" * 100_000)
    assert len(live(t.events)) < 10_000
    assert len(plain(t.events)) < 2_000


def test_the_state_line_says_what_holds_decoding() -> None:
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=90, height=20))
    t = Teller()
    t.call("a", "f()")
    t.trap("a")
    for event in t.events:
        view.event(event, event.time_ms)
    view.tick(1000)
    assert "waiting for a" in out.getvalue()
    assert "1 pending" in out.getvalue()
    view.held("paused")
    view.tick(1100)
    assert "held: paused" in out.getvalue()
    view.close()


def test_bars_of_calls_in_every_state() -> None:
    t = Teller(ms_per_token=100)
    t.call("done", "f()")
    t.call("queued", "g()")
    t.call("running", "h()")
    t.call("held", "i(x=running)", dispatch=False)
    t.result("done", "1")
    t.accept("queued")
    builder = TimelineBuilder("told")
    for event in t.events:
        builder.feed(event.report, event.time_ms)
    lines = [line.plain for line in call_bars(builder.calls, 3000, 100, 10)]
    assert [line.split()[0] for line in lines] == ["done", "queued", "running", "held"]
    states = [re.split("[━─╌◆ ]{2,}", line)[-1].strip("━─╌◆ ") for line in lines]
    assert states == ["1.50 s", "1.00 s queued", "running 1.50 s", "held"]
    assert "◆" in lines[0]
    assert {"━", "─"} <= set(lines[1])
    assert set(lines[3][24:80]) <= {" ", "╌"}
    assert all(len(line) <= 100 for line in lines)


def test_settled_calls_make_room_for_running_ones() -> None:
    t = Teller()
    t.call("slow", "f()")
    for number in range(9):
        t.call(f"c{number}", "f()")
        t.result(f"c{number}", "1")
    builder = TimelineBuilder("told")
    for event in t.events:
        builder.feed(event.report, event.time_ms)
    lines = [line.plain.split()[0] for line in call_bars(builder.calls, 3000, 80, 3)]
    assert lines == ["7", "slow", "c7", "c8"]
    assert call_bars(builder.calls, 3000, 80, 0) == []


def test_the_line_under_edit_keeps_its_cursor_in_view() -> None:
    editor = LineEditor()
    assert edit_line(editor, 60, "hint").plain == "›   hint"
    editor.feed(b"abc\x1b[D")
    assert edit_line(editor, 60, "hint").plain == "› abc"
    editor.feed("漢".encode() * 50)
    line = edit_line(editor, 40, "hint")
    assert line.cell_len < 40
    assert line.plain.startswith("› 漢")
    assert any(span.style == "reverse" for span in line.spans)


def test_a_session_that_ended_badly_says_so() -> None:
    t = Teller()
    t.text("x")
    assert "stalled" in plain(t.finish(FinishReason.STALLED))


def test_what_a_hosted_session_cost_is_printed() -> None:
    cost = effects.HostedUsage(
        requests=10,
        prompt_tokens=900,
        cached_tokens=300,
        completion_tokens=80,
        discarded_tokens=7,
        estimated_requests=2,
        first_token_ms=tuple(range(300, 309)),
    )
    assert bill(cost) == (
        "requests 10 (2 estimated) · prompt 900 tokens (300 of them cached) · completion 80 (7 of them discarded) · "
        "first tokens after 300 ms, 301 ms, 302 ms, 303 ms, 304 ms, 305 ms, 306 ms, 307 ms …"
    )
    assert bill(effects.HostedUsage()).endswith("first tokens after none")
    usage = effects.Usage(prompt_tokens=1, cached_tokens=0, sampled_tokens=1, injected_tokens=0)
    ended = effects.Finished(
        token_index=1, reason=FinishReason.STOP, message="", usage=usage, calls=(), interrupts=(), hosted=cost
    )
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(ledger(ended))
    assert "hosted: requests 10" in console.export_text()
