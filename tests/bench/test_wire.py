"""The wire benchmark's own parts: what it sends, that it counts, and that it holds the floor it names."""

from __future__ import annotations

import pytest

from asynclm.bench import wire, wire_server
from asynclm.bench.processes import ProcessError, server_process
from asynclm.cml.control import Control
from asynclm.engine.base import SamplingParams, StepRequest
from asynclm.engine.script import ScriptControl, ScriptEnd


def test_messages_come_back_from_one_as_they_went_in() -> None:
    messages = [b"", b"a", b"x" * 70_000]
    assert wire_server._split(wire_server.joined(messages)) == messages


def test_every_token_of_the_event_script_is_a_control_token() -> None:
    steps = wire._unmergeable(2 * wire.BLOCK + 7)
    assert len(steps) == 2 * wire.BLOCK + 1
    assert isinstance(steps[-1], ScriptEnd)
    assert {type(step) for step in steps[:-1]} == {ScriptControl}
    ends = [i for i, step in enumerate(steps) if isinstance(step, ScriptControl) and step.control is Control.END]
    assert ends == [wire.BLOCK - 1, 2 * wire.BLOCK - 1]


def test_tokens_are_stamped_with_the_time_of_their_step_where_it_is_asked_for() -> None:
    engine = wire_server.stamping_engine()
    plain = engine.open((1,), SamplingParams())
    assert engine.step([StepRequest(plain, forced=1)])[0].logprob is None
    asked = engine.open((1,), SamplingParams(logprobs=True))
    stamps = [engine.step([StepRequest(asked, forced=1)])[0].logprob for _ in range(2)]
    assert None not in stamps
    assert stamps == sorted(stamps)  # type: ignore[type-var]


def test_a_server_process_that_does_not_start_is_told() -> None:
    with pytest.raises(ProcessError, match="ended with 1, not ready"), server_process("asynclm.bench.nothing"):
        pass


@pytest.mark.slow
def test_a_small_run_measures_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("QUICK_EVENTS", 2_000), ("QUICK_ROUNDS", 1), ("QUICK_PINGS", 5)):
        monkeypatch.setattr(wire, name, value)
    record = wire.run(quick=True)
    found = {m.name: m for m in record.metrics}
    assert found["vs_bare_grpc"].floor == wire.FLOOR
    assert all(m.value is not None and m.value > 0 for m in record.metrics)
    assert found["tokens_an_event"].value > 1  # type: ignore[operator]
