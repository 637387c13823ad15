"""The demonstration's page: one self-contained HTML file, no scripts, nothing fetched, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from asynclm.cml.control import Status
from asynclm.demo.axis import duration
from asynclm.demo.lanes import Timeline
from asynclm.demo.markup import Markup, element, join
from asynclm.demo.palette import page_css
from asynclm.demo.svg import facts, legend_svg, run_svg
from asynclm.demo.transcript import Landing, Span, SpanKind

MAX_PAYLOAD_CHARS = 2000
"""Longest interrupt payload that the transcript shows; what is longer is cut."""

_LAYOUT = """
*{box-sizing:border-box}
html{color-scheme:light dark}
body{margin:0;font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main,header,footer{max-width:1180px;margin:0 auto;padding:0 30px}
header{padding-top:44px}
h1{font-size:27px;line-height:1.25;letter-spacing:-.012em;margin:0 0 14px;font-weight:680;max-width:30em}
h2{font-size:19px;margin:52px 0 6px;font-weight:660;letter-spacing:-.005em}
h3{font-size:15px;margin:0;font-weight:660}
p{margin:0 0 10px;max-width:50em}
blockquote{margin:0 0 18px;padding:12px 18px;border:1px solid;border-radius:10px;max-width:52em}
blockquote{font-size:16px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:14px 0 0;font-size:13.5px}
dd{margin:0;overflow-wrap:anywhere}
figure{margin:24px 0 0}
figcaption{display:flex;gap:6px 18px;flex-wrap:wrap;align-items:baseline;margin-bottom:8px}
figcaption .facts{font-size:13.5px}
svg{display:block;width:100%;height:auto}
.legend{margin-top:20px}
.scroll{overflow-x:auto}
.scroll>svg{min-width:820px}
table{border-collapse:collapse;font-size:14px;margin-top:12px;font-variant-numeric:tabular-nums}
caption{text-align:left;font-size:13.5px;padding-bottom:6px}
th,td{padding:7px 22px 7px 0;border-bottom:1px solid;text-align:right;white-space:nowrap}
th{font-weight:500;font-size:13px}
th:first-child,td:first-child,th.left,td.left{text-align:left}
tbody th{font-weight:600;font-size:14px}
.bar{display:inline-block;height:9px;border-radius:2px;vertical-align:1px;margin-right:9px}
.mails{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:18px;margin-top:14px}
.panel{border:1px solid;border-radius:10px;padding:16px 20px}
.mail dl{margin:8px 0 12px}
.mail .text,.transcript{white-space:pre-wrap;overflow-wrap:anywhere}
.mail .text{font-size:14px}
details{margin-top:12px}
summary{cursor:pointer;font-size:14px;padding:3px 0}
summary:focus-visible,a:focus-visible{outline:2px solid currentColor;outline-offset:3px;border-radius:3px}
.transcript{font:13px/1.75 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;margin:10px 0 0}
.control{font-weight:700}
.intr{border-radius:4px;padding:1px 4px;-webkit-box-decoration-break:clone;box-decoration-break:clone}
.tag{font:11.5px system-ui,sans-serif;white-space:nowrap}
footer{margin-top:56px;padding-top:16px;padding-bottom:44px;font-size:13px}
footer>div{border-top:1px solid;padding-top:14px}
"""


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A message as a mail server received it."""

    sender: str
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    subject: str = ""
    body: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Runs that belong together, on one time axis.

    Attributes:
        title: the heading.
        runs: the runs, with different titles.
        note: a sentence or two under the heading.
        baseline: title of the run that latencies are held against; None for no table of latencies.
        mail: what was delivered in a run, by the run's title.
    """

    title: str
    runs: tuple[Timeline, ...]
    note: str = ""
    baseline: str | None = None
    mail: Mapping[str, tuple[Mail, ...]] = field(default_factory=dict)


def render_html(
    sections: Sequence[Section],
    *,
    title: str,
    request: str = "",
    notes: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
) -> str:
    """The page.

    Args:
        sections: the runs, in groups.
        title: the page's heading.
        request: what the model was asked.
        notes: paragraphs under the request.
        about: facts beside them: model, machine, seed, delays.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(_LAYOUT.replace("\n", "") + page_css())),
    )
    top = [element("h1", title)]
    if request:
        top.append(element("blockquote", request, class_="panel"))
    top += [element("p", note) for note in notes]
    if about:
        top.append(element("dl", *_terms(about)))
    foot = (
        "Times come from each session's own clock and events. Latency is the time from the first to the last generated "
        "token, as in the AsyncLM paper."
    )
    body = element(
        "body",
        element("header", *top),
        element("main", *(_section(section, f"s{number}") for number, section in enumerate(sections))),
        element("footer", element("div", foot, class_="rule muted")),
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def _section(section: Section, ident: str) -> Markup:
    span = max((run.duration_ms for run in section.runs), default=1) or 1
    parts = [element("h2", section.title)]
    if section.note:
        parts.append(element("p", section.note, class_="muted"))
    parts += [_figure(run, span, f"{ident}-r{number}") for number, run in enumerate(section.runs)]
    parts.append(element("div", legend_svg(f"{ident}-legend"), class_="legend scroll"))
    if section.baseline is not None:
        parts.append(_latencies(section))
    if section.mail:
        parts += [element("h2", "What arrived in the mailbox"), _mails(section)]
    parts.append(element("h2", "What was written"))
    shown = max(section.runs, key=_in_text, default=None)
    parts += [_transcript(run, opened=run is shown) for run in section.runs]
    return element("section", *parts)


def _figure(run: Timeline, span: int, ident: str) -> Markup:
    caption = element("figcaption", element("h3", run.title), element("span", facts(run), class_="facts"))
    drawing = element("div", run_svg(run, span, ident), class_="scroll")
    return element("figure", caption, drawing, _events_table(run))


def _events_table(run: Timeline) -> Markup:
    """The calls' times in figures, for those who would rather read them."""
    names = ("call", "function", "written", "started", "resolved", "in the context", "result")
    head = element(
        "tr", *(element("th", name, scope="col", class_="left" if i == 1 else None) for i, name in enumerate(names))
    )
    rows = []
    for call in run.calls:
        times = (call.emitted_ms, call.dispatched_ms, call.resolved_ms, call.committed_ms)
        rows.append(
            element(
                "tr",
                element("th", call.label, scope="row"),
                element("td", call.function, class_="left"),
                *(element("td", "–" if ms is None else duration(ms)) for ms in times),
                element("td", str(call.result) if call.result else "–"),
            )
        )
    if not rows:
        return Markup("")
    table = element("table", element("thead", head), element("tbody", *rows))
    return element(
        "details", element("summary", f"The calls of {run.title} in figures"), element("div", table, class_="scroll")
    )


def _latencies(section: Section) -> Markup:
    """Latency ratios: how many times faster than the baseline each run was."""
    base = next(run for run in section.runs if run.title == section.baseline)
    longest = max(run.latency_ms for run in section.runs) or 1
    names = (
        "mode",
        "first to last token",
        f"against {base.title}",
        "stood still",
        "decoded while calls ran",
        "sampled",
        "injected",
    )
    head = element(
        "tr", *(element("th", name, scope="col", class_="left" if i == 1 else None) for i, name in enumerate(names))
    )
    rows = []
    for run in section.runs:
        width = f"width:{160 * run.latency_ms / longest:.0f}px"
        bar = element("span", class_="bar base" if run is base else "bar", style=width)
        ratio = "1" if run is base else f"{base.latency_ms / max(run.latency_ms, 1):.2f}× faster"
        if run is not base and run.latency_ms > base.latency_ms:
            ratio = f"{run.latency_ms / max(base.latency_ms, 1):.2f}× slower"
        cells = [
            element("td", bar, duration(run.latency_ms), class_="left"),
            element("td", ratio),
            element("td", duration(run.waiting_ms)),
            element("td", duration(run.overlap_ms)),
            element("td", str(run.usage.sampled_tokens) if run.usage else "–"),
            element("td", str(run.usage.injected_tokens) if run.usage else "–"),
        ]
        rows.append(element("tr", element("th", run.title, scope="row"), *cells))
    table = element("table", element("thead", head), element("tbody", *rows))
    return join((element("h2", "Latency"), element("div", table, class_="scroll")))


def _mails(section: Section) -> Markup:
    cards = []
    for run_title, mails in section.mail.items():
        for mail in mails:
            lines = {"from": mail.sender, "to": ", ".join(mail.to), "cc": ", ".join(mail.cc), "subject": mail.subject}
            card = (
                element("h3", run_title),
                element("dl", *_terms({name: line for name, line in lines.items() if line})),
                element("div", mail.body.strip(), class_="text"),
            )
            cards.append(element("article", *card, class_="panel mail"))
    return element("div", *cards, class_="mails")


def _transcript(run: Timeline, *, opened: bool) -> Markup:
    spans = [_span(span) for span in run.transcript]
    landed = _in_text(run)
    said = f"{run.title}: {len(run.calls)} calls, {len(run.interrupts)} interrupts"
    said += f", {landed} of them in running text" if landed else ""
    body = element("div", element("div", *spans, class_="transcript"), class_="panel")
    return element("details", element("summary", said), body, open="" if opened else None)


def _in_text(run: Timeline) -> int:
    """How many interrupts landed in running text."""
    return sum(interrupt.landing is Landing.TEXT for interrupt in run.interrupts)


def _span(span: Span) -> Markup | str:
    landed = span.interrupt
    if landed is None:
        return span.text if span.kind is SpanKind.TEXT else element("span", span.text, class_=span.kind.value)
    words = [] if landed.from_call else ["word"]
    words += ["bad"] if landed.from_call and landed.status not in (Status.OK, Status.PARTIAL, Status.PROGRESS) else []
    words += ["landed"] if landed.landing is Landing.TEXT else []
    gap, shown = span.text[: len(span.text) - len(span.text.lstrip())], span.text.lstrip()
    if len(shown) > MAX_PAYLOAD_CHARS:
        shown = f"{shown[:MAX_PAYLOAD_CHARS]}… ({len(landed.payload)} characters)"
    tag = element("span", f" {landed.landing.words}, {duration(landed.time_ms)}", class_="tag")
    return join((gap, element("span", shown, class_=" ".join(["intr", *words])), tag))


def _terms(lines: Mapping[str, str]) -> list[Markup]:
    return [part for name, line in lines.items() for part in (element("dt", name), element("dd", line))]
