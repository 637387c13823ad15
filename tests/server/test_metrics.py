"""What a server measures of itself: counted right, named as the specification names it, scraped over a real socket."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from tests.server.harness import PROMPT, Harness, Serve
from tests.spec.test_tables import rows

from asynclm.cml.control import Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import EngineStats, SequenceId
from asynclm.engine.loop import EngineLoop
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptText
from asynclm.engine.scripted import open_engine
from asynclm.engine.stats import SECONDS, Histogram
from asynclm.server.app import PortError, Server
from asynclm.server.metrics import by_name, families
from asynclm.server.options import ServerOptions
from asynclm.session.config import Constraints
from asynclm.session.effects import CallDispatched, Finished, InterruptRejected, TrapEntered
from asynclm.session.events import InterruptReceived, ProbeRequested
from asynclm.v1 import control_pb2
from asynclm.wire.values import Started
from tools import spec_lint

CALL, HEAD, END, TRAP = (ScriptControl(c) for c in (Control.CALL, Control.HEAD, Control.END, Control.TRAP))
F = ToolSpec(name="f", parameters={"type": "object"})
STORY = (ScriptText("ab"), CALL, ScriptText("a"), HEAD, ScriptText("f()"), END, TRAP, END, ScriptText("c"), ScriptEnd())
SAMPLED = 13


async def told(session: Any) -> None:
    """Plays `STORY`: a call, a rejected and an accepted interrupt, a trap."""
    await session.until(TrapEntered)
    await session.send(InterruptReceived(source="nobody", payload="1"))
    await session.until(InterruptRejected)
    await session.send(InterruptReceived(source="a", payload="1"))
    finished = await session.until(Finished)
    assert finished.usage.sampled_tokens == SAMPLED


async def info(h: Harness) -> Mapping[str, float]:
    return dict((await h.control.GetServerInfo(control_pb2.GetServerInfoRequest())).metrics)


def scrape(port: int) -> dict[str, float]:
    """Every sample of the text format, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        text = response.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.name.startswith(family.name)
            label = ",".join(f'{k}="{v}"' for k, v in sample.labels.items())
            found[f"{sample.name}{{{label}}}" if label else sample.name] = sample.value
    return found


async def scraped(server: Server) -> dict[str, float]:
    """A scrape from another thread, as a real one is."""
    assert server.metrics_port is not None
    return await asyncio.to_thread(scrape, server.metrics_port)


async def test_known_sessions_leave_known_numbers(serve: Serve) -> None:
    h = await serve(metrics_port=0)
    await h.load("s", *STORY)
    for _ in range(2):
        await told(await h.session(tools=(F,)))
    found = await info(h)
    assert found["asynclm_sessions_started_total"] == 2
    assert found['asynclm_sessions_finished_total{reason="STOP"}'] == 2
    assert found['asynclm_sessions_finished_total{reason="ABORTED"}'] == 0
    assert found["asynclm_calls_dispatched_total"] == 2
    assert found['asynclm_calls_settled_total{result="OK"}'] == 2
    assert found["asynclm_interrupts_accepted_total"] == found["asynclm_interrupts_committed_total"] == 2
    assert found['asynclm_interrupts_rejected_total{reason="UNKNOWN_ID"}'] == 2
    assert found["asynclm_interrupt_commit_seconds_count"] == found["asynclm_interrupt_answer_seconds_count"] == 2
    assert 0 < found["asynclm_interrupt_commit_seconds_sum"] < found["asynclm_interrupt_answer_seconds_sum"]
    assert found["asynclm_tokens_sampled_total"] == 2 * SAMPLED
    assert found["asynclm_tokens_injected_total"] == 2 * len(("[INTR]", "a", "[HEAD]", "1", "[END]"))
    assert found['asynclm_step_seconds_count{engine="scripted"}'] == 2 * SAMPLED
    assert found['asynclm_step_sequences_sum{engine="scripted"}'] == 2 * SAMPLED
    assert found['asynclm_step_seconds_sum{engine="scripted"}'] > 0
    assert found['asynclm_sessions{state="TRAPPED"}'] == found["asynclm_sequences_open"] == 0
    http = await scraped(h.server)
    assert {key: http[key] for key in found} == found


async def test_open_sessions_are_counted_where_they_stand(serve: Serve) -> None:
    """A scrape in the middle of sessions: by state, with what is queued."""
    h = await serve(metrics_port=0)
    await h.load("s", *STORY)
    trapped = await h.session(tools=(F,))
    await trapped.until(TrapEntered)
    waiting = await h.session(tools=(F,), credit=0)
    await waiting.until(Started)
    await waiting.send(InterruptReceived(source="@user", payload="hello"))
    await waiting.send(ProbeRequested(nonce="x"))
    while not any(type(e.report).__name__ == "Probed" for e in waiting.events):
        await waiting.next()
    found = await scraped(h.server)
    assert found['asynclm_sessions{state="TRAPPED"}'] == 1
    assert found['asynclm_sessions{state="DECODING"}'] == 1
    assert found["asynclm_sequences_open"] == 2
    assert found["asynclm_interrupts_queued"] == 1
    assert found["asynclm_interrupts_accepted_total"] == 1
    assert found["asynclm_interrupts_committed_total"] == 0
    buckets = [value for key, value in found.items() if key.startswith("asynclm_step_seconds_bucket")]
    assert len(buckets) == len(SECONDS) + 1
    assert buckets == sorted(buckets)
    assert buckets[-1] == found['asynclm_step_seconds_count{engine="scripted"}']
    trapped.call.cancel()
    waiting.call.cancel()


async def test_metrics_are_those_of_the_table(serve: Serve) -> None:
    """[WIRE-118], both ways: names, and the label of each."""
    h = await serve()
    await h.load("s", ScriptText("a"), ScriptEnd())
    await (await h.session()).until(Finished)
    told = {}
    for key in await info(h):
        name, _, label = key.partition("{")
        told[re.sub(r"_(sum|count)$", "", name)] = label.partition("=")[0]
    page = (spec_lint.ROOT / "spec" / "draft" / "protocol.md").read_text(encoding="utf-8")
    table = rows(page, "metric")
    assert told == {row[0].strip("`"): row[2].strip("`") for row in table}
    kinds = {f.name: f.kind.value for f in h.server.hub.metrics()}
    assert kinds == {row[0].strip("`"): row[1] for row in table}
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in kinds.items())


async def test_two_servers_in_one_process_measure_apart(serve: Serve) -> None:
    before = set(REGISTRY._names_to_collectors)
    one, other = await serve(metrics_port=0), await serve(metrics_port=0)
    await one.load("s", ScriptText("abc"), ScriptEnd())
    await (await one.session()).until(Finished)
    assert (await scraped(one.server))["asynclm_sessions_started_total"] == 1
    assert (await scraped(other.server))["asynclm_sessions_started_total"] == 0
    assert one.server.metrics_port != other.server.metrics_port
    assert set(REGISTRY._names_to_collectors) == before


async def test_the_port_is_off_unless_asked_for_and_closed_at_the_end(serve: Serve) -> None:
    assert (await serve()).server.metrics_port is None
    h = await serve(metrics_port=0)
    port = h.server.metrics_port
    await h.server.stop()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port)):
        pass
    assert not [t for t in threading.enumerate() if t.name == "asynclm-metrics"]


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(open_engine(), ServerOptions(port=0, metrics_port=port))
        with pytest.raises(PortError, match=f"cannot listen for metrics on 127.0.0.1, port {port}: .*in use"):
            await server.start()
        await server.stop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics_port": -1}, "metrics_port is -1; allowed: 0"),
        ({"metrics_port": 65536}, "metrics_port is 65536; allowed: 0"),
        ({"port": 7000, "metrics_port": 7000}, "the port that sessions use"),
        ({"metrics_port": 0, "metrics_host": "0.0.0.0"}, "metrics_host '0.0.0.0' is not loopback"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ServerOptions(**options)
    assert ServerOptions(metrics_port=0, metrics_host="0.0.0.0", allow_remote_plaintext=True).metrics_port == 0


async def test_what_the_engine_found_in_a_cache_reaches_finished_and_get_session(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[SES-095]."""
    h = await serve()
    asked: list[SequenceId] = []
    scripted = h.server.hub._preparation._scripted
    monkeypatch.setattr(scripted, "cached_tokens", lambda sequence: asked.append(sequence) or 3)
    await h.load("s", ScriptText("ab"), CALL, ScriptText("a"), HEAD, ScriptText("f()"), END, TRAP, END, ScriptEnd())
    session = await h.session(tools=(F,))
    started = await session.until(Started)
    await session.until(CallDispatched)
    request = control_pb2.GetSessionRequest(session_id=started.session_id)
    assert (await h.control.GetSession(request)).usage.cached_tokens == 3
    await session.send(InterruptReceived(source="a", payload="1"))
    finished = await session.until(Finished)
    assert (finished.usage.cached_tokens, finished.usage.prompt_tokens) == (3, started.prompt_tokens)
    assert len(asked) == 1


async def test_a_session_that_never_sampled_has_nothing_cached(serve: Serve) -> None:
    h = await serve()
    await h.load("s", ScriptEnd())
    session = await h.session(credit=0, messages=PROMPT, constraints=Constraints.NONE)
    await session.until(Started)
    await session.call.done_writing()
    assert (await session.until(Finished)).usage.cached_tokens == 0


def test_what_an_engine_tells_is_told() -> None:
    stats = EngineStats(
        kept=1, swapped=2, dropped=3, preemptions=4, recomputed_tokens=5, prefix_hit_tokens=6, prefilled_tokens=7,
        waiting_sequences=8, suspended_sequences=9, kv_bytes=10, kv_limit_bytes=11, swapped_bytes=12,
    )  # fmt: skip
    found = by_name(families(EngineLoop().snapshot(), stats))
    suspended = {p: found[f'asynclm_suspensions_total{{policy="{p}"}}'] for p in ("keep", "swap", "recompute")}
    assert suspended == {"keep": 1, "swap": 2, "recompute": 3}
    names = ("preemptions_total", "tokens_recomputed_total", "tokens_prefix_hits_total", "tokens_prefilled_total")
    assert [found[f"asynclm_{name}"] for name in names] == [4, 5, 6, 7]
    names = ("sequences_waiting", "sequences_suspended", "kv_bytes", "kv_limit_bytes", "kv_swapped_bytes")
    assert [found[f"asynclm_{name}"] for name in names] == [8, 9, 10, 11, 12]


def test_a_histogram_counts_each_value_once() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.add(value)
    now = histogram.now
    assert (now.counts, now.total, now.count) == ((2, 2, 1), 14.0, 5)
