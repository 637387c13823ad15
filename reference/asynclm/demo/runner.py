"""The demonstration: one task in every execution mode, through the gRPC server, on real weights and real tools.

The embedded model is not trained for such a task, so its decisions (which calls, which traps) are a script; the weights
compute every step and sample all prose. A few short prompts beside it show the model's own decisions.
"""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from asynclm.client import AsyncLM
from asynclm.demo.html import Mail, Section, render_html
from asynclm.demo.lanes import Timeline
from asynclm.demo.mail import DeliveredMail, MailServer
from asynclm.demo.network import Network
from asynclm.demo.prompts import FIRST_TOKEN, QUESTIONS, conversation, own_tools
from asynclm.demo.safe import visible
from asynclm.demo.svg import render_svg
from asynclm.demo.task import Task, build_script, load_task
from asynclm.demo.terminal import legend, render_terminal
from asynclm.demo.timeline import TimelineBuilder
from asynclm.demo.tools import demo_tools
from asynclm.demo.transcript import Landing, Span, SpanKind
from asynclm.demo.world import World, build_world
from asynclm.engine.base import Engine, SamplingParams
from asynclm.engine.script import SCRIPT_PREFIX, WEIGHTS_SUFFIX
from asynclm.prompt.template import Message, Role, TextPart
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.session.config import Constraints, ExecutionMode
from asynclm.session.effects import Finished
from asynclm.tools.toolset import ToolSet
from asynclm.wire import Instructions

HONEST_LINE = (
    "The decisions (which calls, which traps, the first words of a passage) are a script, since this base model is not "
    "trained for CML; the weights compute every step, and the prose, the summary included, is sampled by the model."
)

OWN_LINE = (
    "Three worked examples in the prompt and the first token, [CALL], are given; everything after it is the untrained "
    "model's own sampling, under grammar and state gates, as it came out."
)

MODES = (ExecutionMode.SYNC, ExecutionMode.SYNC_PARALLEL, ExecutionMode.ASYNC)

PROSE = SamplingParams(temperature=0.6, top_p=0.9, seed=11)
"""How the model samples prose; seeded, so that a run can be repeated."""

STYLES = {
    SpanKind.TEXT: "default",
    SpanKind.BODY: "cyan",
    SpanKind.CONTROL: "bold magenta",
    SpanKind.INTERRUPT: "black on yellow",
}


class DemoError(RuntimeError):
    """A session of the demonstration did not end as it has to."""


@dataclass(frozen=True)
class Run:
    """One session of the demonstration and the mail it sent."""

    timeline: Timeline
    mail: tuple[DeliveredMail, ...]


@dataclass(frozen=True)
class DemoResult:
    """Everything that the demonstration showed."""

    world: World
    delayed: tuple[Run, ...]
    instant: tuple[Run, ...]
    own: tuple[Timeline, ...]
    page: Path


async def run_demo(engine: Engine, *, output: Path, seed: int, console: Console) -> DemoResult:
    """Runs the demonstration and writes `demo.html` and `timeline.svg` into the output folder.

    Args:
        engine: an engine with weights; it is shut down at the end.
        output: folder for the world's files and the results.
        seed: seed of the world and of the tools' delays.
        console: where to show what happens.

    Raises:
        DemoError: a session did not finish, or a mail was not delivered.
    """
    world = build_world(output, page_seed=seed, attendees_seed=seed, directory_seed=seed)
    task = load_task()
    network = Network.seeded(seed)
    # One set of tools serves both series; emptying the delays turns the network's delay off for the second.
    delays = dict(network.delays_ms)
    with MailServer() as mail:
        tools = demo_tools(output, (mail.host, mail.port), Network(delays)) | own_tools()
        async with served(engine, tools) as llm:
            stage = Stage(llm, console, mail, task, tools)
            console.print(Rule(task.title))
            console.print(Text(task.request, style="italic"))
            console.print(f"\n{HONEST_LINE}\n")
            console.print(f"Files: {output}   Tool delays (seed {seed}): {network.describe()}\n")
            delayed = [await stage.play(mode) for mode in MODES]
            console.print(Rule("Without tool delays"))
            delays.clear()
            instant = [await stage.play(mode, quiet=True) for mode in MODES]
            console.print(Rule("The model's own decisions, under grammar and state gates"))
            console.print(f"{OWN_LINE}\n")
            await llm.load_script(FIRST_TOKEN.id, FIRST_TOKEN.steps)
            own = [await stage.ask(question) for question in QUESTIONS]
    page = output / "demo.html"
    result = DemoResult(world, tuple(delayed), tuple(instant), tuple(own), page)
    page.write_text(_page(result, engine, task, network, seed), encoding="utf-8")
    (output / "timeline.svg").write_text(render_svg([run.timeline for run in delayed]), encoding="utf-8")
    _show(result, console)
    return result


@asynccontextmanager
async def served(engine: Engine, tools: ToolSet) -> AsyncIterator[AsyncLM]:
    """A server with these tools on a free port, and a client of it."""
    async with Server(engine, ServerOptions(port=0), tools) as server, AsyncLM(server.address) as llm:
        yield llm


class Stage:
    """Plays sessions and shows them as they go."""

    def __init__(self, llm: AsyncLM, console: Console, mail: MailServer, task: Task, tools: ToolSet) -> None:
        self._llm = llm
        self._console = console
        self._mail = mail
        self._task = task
        self._expected = {spec.name: spec.expected_duration_ms or 0 for spec in tools.specs}

    async def play(self, mode: ExecutionMode, *, quiet: bool = False) -> Run:
        """Runs the task in one mode."""
        script = build_script(self._task, mode, self._expected)
        await self._llm.load_script(script.id, script.steps)
        self._mail.clear()
        title = mode.value.replace("_", "-")
        self._console.print(Text(f"{title}", style="bold"))
        timeline = await self._watch(
            title,
            [
                Message(Role.SYSTEM, (TextPart(self._task.system),)),
                Message(Role.USER, (TextPart(self._task.request),)),
            ],
            quiet=quiet,
            model=f"{SCRIPT_PREFIX}{script.id}{WEIGHTS_SUFFIX}",
            mode=mode,
            # One prompt for all modes: the script knows how to call, the model is told of the functions only.
            instructions=Instructions.TOOLS,
            sampling=PROSE,
            server_tools=sorted({call.function for call in self._task.calls}),
            # The script may trap on a call whose result is there already; under GATES that wish would be masked.
            constraints=Constraints.STATIC,
        )
        if len(self._mail.delivered) != 1:
            raise DemoError(f"{title}: {len(self._mail.delivered)} mails were delivered; there has to be one")
        return Run(timeline, tuple(self._mail.delivered))

    async def ask(self, question: str) -> Timeline:
        """Lets the model decide by itself, under grammar and state gates; its first token is given."""
        self._console.print(Text(f"> {question}", style="bold"))
        return await self._watch(
            question,
            conversation(question),
            quiet=False,
            model=f"{SCRIPT_PREFIX}{FIRST_TOKEN.id}{WEIGHTS_SUFFIX}",
            instructions=Instructions.TOOLS,
            server_tools=list(own_tools().names),
            constraints=Constraints.GRAMMAR,
            max_new_tokens=64,
        )

    async def _watch(self, title: str, messages: Sequence[Message], *, quiet: bool, **options: object) -> Timeline:
        builder = TimelineBuilder(title)
        finished: Finished | None = None
        async for event in self._llm.session(messages, **options):  # type: ignore[arg-type]
            for span in builder.feed(event.report, event.time_ms):
                if not quiet:
                    self._console.print(_styled(span), end="", soft_wrap=True)
            if isinstance(event.report, Finished):
                finished = event.report
        timeline = builder.timeline()
        if finished is None:
            raise DemoError(f"{title}: the session did not finish")
        lines = "" if quiet else "\n"
        self._console.print(
            f"{lines}  {timeline.latency_ms / 1000:.2f} s, {finished.usage.sampled_tokens} tokens sampled, "
            f"{finished.usage.injected_tokens} injected, ended: {finished.reason.value}\n",
            style="dim",
            highlight=False,
        )
        return timeline


def _styled(span: Span) -> Text:
    return Text(visible(span.text), style=STYLES[span.kind])


def _show(result: DemoResult, console: Console) -> None:
    """The end of the show: timelines on one axis, latencies, the mail."""
    console.print(Rule("Timelines"))
    console.print(legend())
    span = max(run.timeline.duration_ms for run in result.delayed)
    for run in result.delayed:
        console.print(render_terminal(run.timeline, console.width, span_ms=span))
        console.print()
    console.print(_latencies(result))
    delivered = result.delayed[-1].mail[0]
    console.print(Rule("The mail, as the SMTP server received it (async)"))
    console.print(f"To: {', '.join(delivered.to)}\nCc: {', '.join(delivered.cc)}\nSubject: {delivered.subject}\n")
    console.print(visible(delivered.body.strip()), markup=False, highlight=False)
    landed = [i for i in result.delayed[-1].timeline.interrupts if i.landing is Landing.TEXT]
    console.print(f"\nInterrupts that landed in running text: {', '.join(i.head for i in landed) or 'none'}")
    console.print(f"Page: {result.page}")


def _latencies(result: DemoResult) -> Table:
    table = Table(title="Latency, first to last token", title_justify="left")
    for name in ("mode", "with tool delays", "sync is … times this", "without delays", "sync is … times this "):
        table.add_column(name, justify="left" if name == "mode" else "right")
    for delayed, instant in zip(result.delayed, result.instant, strict=True):
        cells = [delayed.timeline.title]
        for run, runs in ((delayed, result.delayed), (instant, result.instant)):
            cells += [
                f"{run.timeline.latency_ms / 1000:.2f} s",
                f"{runs[0].timeline.latency_ms / max(run.timeline.latency_ms, 1):.2f}",
            ]
        table.add_row(*cells)
    return table


def _page(result: DemoResult, engine: Engine, task: Task, network: Network, seed: int) -> str:
    def mails(runs: Sequence[Run]) -> dict[str, tuple[Mail, ...]]:
        return {
            run.timeline.title: tuple(
                Mail(sender=m.sender, to=tuple(m.to), cc=tuple(m.cc), subject=m.subject, body=m.body) for m in run.mail
            )
            for run in runs
        }

    sections = [
        Section(
            title="With tool delays",
            runs=tuple(run.timeline for run in result.delayed),
            note=f"The same calls and the same prose in each mode. Delays: {network.describe()}.",
            baseline="sync",
            mail=mails(result.delayed),
        ),
        Section(
            title="Without tool delays",
            runs=tuple(run.timeline for run in result.instant),
            note="What remains is decoding: where tools take no time there is nothing to overlap.",
            baseline="sync",
        ),
        Section(
            title="The model's own decisions",
            runs=result.own,
            note=OWN_LINE,
        ),
    ]
    info = engine.info
    about = {
        "model": info.model,
        **info.description,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "seed": str(seed),
        "tool delays": network.describe(),
    }
    return render_html(sections, title=task.title, request=task.request, notes=[HONEST_LINE], about=about)
