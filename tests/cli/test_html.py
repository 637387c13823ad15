from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from tests.cli.sessions import Teller, async_session, sync_session

from asynclm.demo.axis import axis_step, axis_ticks, duration, tick_label
from asynclm.demo.html import Mail, Section, render_html
from asynclm.demo.markup import Markup, element, text
from asynclm.demo.palette import DARK, LIGHT, page_css
from asynclm.demo.svg import description, render_svg
from asynclm.demo.timeline import build_timeline

VOID = {"meta", "br", "hr"}
SVG = "{http://www.w3.org/2000/svg}"


class Checked(HTMLParser):
    """Checks that elements close in order, and collects what a reader would see."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Checked:
    checked = Checked()
    checked.feed(page)
    checked.close()
    assert checked.open == []
    return checked


def page() -> str:
    runs = (build_timeline(async_session(), title="async"), build_timeline(sync_session(), title="sync"))
    mail = Mail(sender="a@example.org", to=("b@example.org", "c@example.org"), subject="S", body="The body.\n")
    section = Section(title="With delays", note="Seeded.", runs=runs, baseline="sync", mail={"async": (mail,)})
    second = Section(title="Without delays", runs=runs)
    return render_html(
        [section, second], title="The task", request="Do it.", notes=["A note."], about={"model": "small"}
    )


def test_the_page_says_everything() -> None:
    seen = parsed(page()).text
    for words in (
        "The task",
        "Do it.",
        "A note.",
        "small",
        "With delays",
        "2.26 s from first to last token",
        "2.12× faster",
        "b@example.org, c@example.org",
        "The body.",
        "async: 4 calls, 5 interrupts, 3 of them in running text",
        "in running text, 1.14 s",
        "at a trap, 1.74 s",
    ):
        assert words in seen


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    whole = page()
    tags = parsed(whole).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object"}
    assert not {name for _, attributes in tags for name in attributes} & {"src", "href", "srcset", "onload"}
    assert "url(" not in re.sub(r"url\(#", "", whole)
    assert "@import" not in whole


def test_drawings_have_words_for_those_who_do_not_see_them() -> None:
    tags = parsed(page()).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    drawings = [attributes for tag, attributes in tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(drawings) == 4
    for attributes in drawings:
        labels = attributes["aria-labelledby"]
        assert labels is not None
        assert set(labels.split()) <= set(ids)
    said = description(build_timeline(async_session(), title="async"))
    assert "Call page to read_page: written at 520 ms, started at 520 ms, resolved ok at 1.74 s" in said
    assert "@user came into the context at 1.14 s." in said


def test_what_models_and_tools_write_cannot_become_markup() -> None:
    hostile = "</title></style></svg><script>alert(1)</script><img src=x onerror=1> ' \" & \x1b \ud800"
    t = Teller()
    t.text(hostile)
    t.call("a", hostile)
    t.result("a", hostile)
    t.result("@user", hostile)
    run = build_timeline(t.finish(), title=hostile)
    mail = Mail(sender=hostile, to=(hostile,), cc=(hostile,), subject=hostile, body=hostile)
    section = Section(title=hostile, note=hostile, runs=(run,), baseline=hostile, mail={hostile: (mail,)})
    whole = render_html([section], title=hostile, request=hostile, notes=[hostile], about={hostile: hostile})
    tags = parsed(whole).tags
    assert not {tag for tag, _ in tags} & {"script", "img"}
    assert "alert(1)" in parsed(whole).text
    assert "\x1b" not in whole
    whole.encode("utf-8")
    ElementTree.fromstring(render_svg([run]))


def test_the_picture_stands_alone() -> None:
    runs = [build_timeline(async_session(), title="async"), build_timeline(sync_session(), title="sync")]
    root = ElementTree.fromstring(render_svg(runs))
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title") == "Timelines of async, sync"
    used = {c for node in root.iter() for c in node.get("class", "").split()}
    styled = set(re.findall(r"\.([a-z-]+)\{", root.findtext(f"{SVG}style") or ""))
    assert used <= styled
    width = float(root.get("width", "0"))
    for rect in root.iter(f"{SVG}rect"):
        if rect.get("x"):
            assert 0 <= float(rect.get("x", "")) <= width
            assert float(rect.get("x", "")) + float(rect.get("width", "")) <= width


def test_a_run_without_calls_or_time_is_drawn() -> None:
    empty = build_timeline(Teller().events, title="empty")
    ElementTree.fromstring(render_svg([empty]))
    parsed(render_html([Section(title="t", runs=(empty,), baseline="empty")], title="t"))
    ElementTree.fromstring(render_svg([]))


def test_every_colour_has_its_dark_counterpart() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert "@" not in page_css().replace("@media", "")


def test_elements_escape_text_and_leave_markup() -> None:
    assert element("p", "a<b", Markup("<br>"), class_='x"y', data_n=1.0, title=None) == (
        '<p class="x&quot;y" data-n="1">a&lt;b<br></p>'
    )
    assert element("br") == "<br>"
    assert text("\x00\x9f\n\t") == "\ufffd\ufffd\n\t"


@pytest.mark.parametrize(
    ("span", "ticks", "step"), [(5000, 8, 1000), (4999, 5, 1000), (1, 8, 1), (90, 8, 20), (61_000, 8, 10_000)]
)
def test_axis_steps_are_round(span: int, ticks: int, step: int) -> None:
    assert axis_step(span, ticks) == step
    assert axis_ticks(span, ticks)[-1] <= span
    assert len(axis_ticks(span, ticks)) <= ticks + 1


def test_times_are_written_for_people() -> None:
    assert [duration(ms) for ms in (0, 87, 1420, 15_250, 125_000)] == ["0 ms", "87 ms", "1.42 s", "15.2 s", "2 min 5 s"]
    assert [tick_label(ms, step) for ms, step in ((0, 1000), (2000, 1000), (500, 500), (40, 20))] == [
        "0 s",
        "2 s",
        "0.5 s",
        "40 ms",
    ]
