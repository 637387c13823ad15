"""`bench sessions`: its prompts and scripts, its bookkeeping, and its judgement of log-probabilities."""

from __future__ import annotations

import pytest

from asynclm.bench.recheck import Deviation, judge
from asynclm.bench.sessions import CONTEXT, SAMPLED, STREAM, Round
from asynclm.bench.trapping import FIRST_TEXT_ID, Sample, TrappedSession, prompt_ids, script
from asynclm.cml.control import Control, Status
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptSample
from asynclm.session.effects import InterruptCommitted, Report, Tokens
from asynclm.session.events import TokenLogprob
from asynclm.wire import ReceivedEvent


def test_prompts_differ_from_the_first_token_on_and_are_the_same_every_time() -> None:
    prompts = [prompt_ids(number, length=490, vocab_size=49_152) for number in range(1_000)]
    assert len({prompt[0] for prompt in prompts}) == 1_000
    assert {len(prompt) for prompt in prompts} == {490}
    assert min(map(min, prompts)) >= FIRST_TEXT_ID
    assert prompts[7] == prompt_ids(7, length=490, vocab_size=49_152)


def test_the_script_traps_on_a_pending_call_and_then_lets_the_model_sample() -> None:
    controls = [step.control for step in script(5) if isinstance(step, ScriptControl)]
    assert controls == [Control.CALL, Control.HEAD, Control.END, Control.TRAP, Control.END]
    assert script(5)[-2:] == (ScriptSample(max_tokens=5), ScriptEnd())
    assert 0 < STREAM - SAMPLED < STREAM < CONTEXT


def tokens(index: int, *ids: int) -> Tokens:
    top = tuple((TokenLogprob(token_id=i, logprob=-0.5, text=""),) for i in ids)
    return Tokens(
        token_index=index, ids=ids, text="", logprobs=(-0.5,) * len(ids), ranks=(1,) * len(ids), top_logprobs=top
    )


def note(session: TrappedSession, *reports: Report) -> None:
    for sequence, report in enumerate(reports, 1):
        session._note(ReceivedEvent(report=report, sequence=sequence, time_ms=0, token_index=report.token_index))


def committed(index: int, source: str, *ids: int) -> InterruptCommitted:
    return InterruptCommitted(token_index=index, number=0, source=source, status=Status.OK, payload="", ids=ids)


def test_a_context_is_the_prompt_and_the_stream_injections_included() -> None:
    session = TrappedSession((1, 2, 3))
    note(session, tokens(0, 10, 11), committed(2, "x", 20, 21), tokens(4, 12), tokens(5, 13))
    assert session.context == [1, 2, 3, 10, 11, 20, 21, 12, 13]
    assert session.samples == [Sample(7, ((12, -0.5),)), Sample(8, ((13, -0.5),))], "none before the result"


def test_a_stream_with_a_gap_is_no_context() -> None:
    session = TrappedSession((1,))
    note(session, tokens(0, 10), tokens(2, 12))
    with pytest.raises(ValueError, match="leave token indexes out"):
        _ = session.context


def test_only_sessions_within_the_noise_are_right() -> None:
    near, far = Deviation(2e-5, 1e-5, 0.2), Deviation(0.19, 1e-5, 0.2)
    assert judge([near, near]).right == 2
    assert judge([near, far]).right == 1
    assert judge([near, far]).server == 0.19


def test_a_comparison_that_cannot_tell_contexts_apart_says_that_none_is_right() -> None:
    assert judge([Deviation(0.01, 0.1, 0.2), Deviation(0.01, 0.01, 0.4)]).right == 0


def test_a_session_without_samples_is_not_right() -> None:
    nan = float("nan")
    assert judge([Deviation(nan, 1e-5, 0.2)]).right == 0


def test_sessions_that_did_not_come_back_are_not_counted() -> None:
    well, ill = TrappedSession((1,)), TrappedSession((2,))
    well.ended_well, well.to_token_s = True, 0.25
    round_ = Round("keep", sessions=[well, ill], alone=2)
    assert round_.ended_well == 1
    assert round_.resume_alone_ms == [250.0]
