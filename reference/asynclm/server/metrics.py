"""The server's measurements by name, as `GetServerInfo` and the metrics port give them (spec: protocol, section 9).

They are put together when somebody asks, from what the loop and the engine count anyway.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from asynclm.engine.base import EngineStats
from asynclm.engine.stats import Distribution, LoopSnapshot
from asynclm.session.state import FinishReason, RejectReason, Result, State


class Kind(enum.Enum):
    """What may be done with a metric's values."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: its values, by the value of its label.

    Attributes:
        name: its full name; counters end with `_total`.
        kind: what it is.
        help: what it says, for people.
        label: the name of its label, or "" for none.
        values: by the label's value, or by "".
        distributions: likewise, of a histogram.
    """

    name: str
    kind: Kind
    help: str
    label: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    distributions: Mapping[str, Distribution] = field(default_factory=dict)


def families(loop: LoopSnapshot, engine: EngineStats) -> tuple[Family, ...]:
    """Every metric; those with a label have all of its values from the start, but for names of engines."""
    return (*_of_steps(loop), *_of_sessions(loop), *_of_interrupts(loop), *_of_the_engine(engine))


def by_name(found: Iterable[Family]) -> dict[str, float]:
    """The metrics as one map: `name`, `name{label="value"}`; of a histogram its sum and its count."""
    return dict(_samples(found))


def _samples(found: Iterable[Family]) -> Iterator[tuple[str, float]]:
    for family in found:
        for value, number in family.values.items():
            yield family.name + _labelled(family.label, value), float(number)
        for value, distribution in family.distributions.items():
            label = _labelled(family.label, value)
            yield f"{family.name}_sum{label}", distribution.total
            yield f"{family.name}_count{label}", float(distribution.count)


def _labelled(label: str, value: str) -> str:
    return f'{{{label}="{value}"}}' if label else ""


def _counter(name: str, text: str, value: float) -> Family:
    return Family(name=f"asynclm_{name}_total", kind=Kind.COUNTER, help=text, values={"": value})


def _gauge(name: str, text: str, value: float) -> Family:
    return Family(name=f"asynclm_{name}", kind=Kind.GAUGE, help=text, values={"": value})


def _each(name: str, text: str, label: str, members: Iterable[enum.StrEnum], found: Mapping[Any, int]) -> Family:
    values = {member.name: float(found.get(member, 0)) for member in members}
    kind = Kind.COUNTER if name.endswith("_total") else Kind.GAUGE
    return Family(name=f"asynclm_{name}", kind=kind, help=text, label=label, values=values)


def _histogram(name: str, text: str, found: Mapping[str, Distribution], label: str = "") -> Family:
    return Family(name=f"asynclm_{name}", kind=Kind.HISTOGRAM, help=text, label=label, distributions=found)


def _of_steps(loop: LoopSnapshot) -> tuple[Family, ...]:
    return (
        _histogram("step_seconds", "Duration of decode steps.", loop.step_seconds, "engine"),
        _histogram("step_sequences", "Sequences in a decode step.", loop.step_sequences, "engine"),
        _gauge("inbox_jobs", "What waits for the engine's loop.", loop.inbox),
    )


def _of_sessions(loop: LoopSnapshot) -> tuple[Family, ...]:
    return (
        _each(
            "sessions", "Open sessions by state.", "state", (s for s in State if s is not State.FINISHED), loop.sessions
        ),
        _counter("sessions_started", "Sessions started.", loop.started),
        _each("sessions_finished_total", "Sessions finished, by reason.", "reason", FinishReason, loop.finished),
        _counter("calls_dispatched", "Calls given to their hosts.", loop.dispatched),
        _each("calls_settled_total", "Calls settled, by result.", "result", Result, loop.settled),
    )


def _of_interrupts(loop: LoopSnapshot) -> tuple[Family, ...]:
    return (
        _gauge("interrupts_queued", "Interrupts accepted and not committed yet.", loop.queued),
        _counter("interrupts_accepted", "Interrupts accepted.", loop.accepted),
        _counter("interrupts_committed", "Interrupts committed.", loop.committed),
        _each("interrupts_rejected_total", "Interrupts rejected, by reason.", "reason", RejectReason, loop.rejected),
        _histogram(
            "interrupt_commit_seconds",
            "From an interrupt's acceptance to its commit, on the machine's clock.",
            {"": loop.commit_seconds},
        ),
        _histogram(
            "interrupt_answer_seconds",
            "From an interrupt's acceptance to the first token sampled after its commit.",
            {"": loop.answer_seconds},
        ),
    )


def _of_the_engine(engine: EngineStats) -> tuple[Family, ...]:
    suspensions = {"keep": float(engine.kept), "swap": float(engine.swapped), "recompute": float(engine.dropped)}
    return (
        _counter("tokens_sampled", "Tokens sampled.", engine.sampled_tokens),
        _counter("tokens_injected", "Tokens of interrupts appended.", engine.injected_tokens),
        _counter("tokens_prefilled", "Tokens of prompts and interrupts computed.", engine.prefilled_tokens),
        _counter("tokens_recomputed", "Tokens computed again because their KV was dropped.", engine.recomputed_tokens),
        _counter("tokens_prefix_hits", "Prompt tokens whose KV was found in a cache.", engine.prefix_hit_tokens),
        Family(
            name="asynclm_suspensions_total",
            kind=Kind.COUNTER,
            help="Waits of sessions, by what became of their KV.",
            label="policy",
            values=suspensions,
        ),
        _counter("preemptions", "Sequences that lost their KV for want of memory.", engine.preemptions),
        _gauge("sequences_open", "Sequences open in the engine.", engine.open_sequences),
        _gauge("sequences_waiting", "Of those, asked for in the last step and left out.", engine.waiting_sequences),
        _gauge("sequences_suspended", "Of those, suspended.", engine.suspended_sequences),
        _gauge("kv_bytes", "KV cache on the device, kept prefixes included.", engine.kv_bytes),
        _gauge("kv_limit_bytes", "The most there may be; 0 for no limit.", engine.kv_limit_bytes),
        _gauge("kv_swapped_bytes", "KV cache held elsewhere.", engine.swapped_bytes),
    )
