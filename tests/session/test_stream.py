"""The sampled stream: how tokens are reported, and what the total parser drops (spec: CML, protocol)."""

from __future__ import annotations

import pytest
from tests.session.player import CODEC, Player, config, every, names, only, units

from asynclm.cml.control import Control
from asynclm.session import effects as fx
from asynclm.session.config import Constraints, Unit
from asynclm.session.errors import LocalProtocolError
from asynclm.session.events import NoticeRaised, StepMasked, StreamEnded, TokenSampled
from asynclm.session.machine import Session
from asynclm.session.state import FinishReason, NoticeCode, Result, State


def test_tokens_hold_one_sampled_unit() -> None:
    """[WIRE-054], [WIRE-055], [WIRE-056], [WIRE-057], [SES-003]."""
    player = Player()
    player.write("[CALL]f()[END]")
    player.send("@user", "x")
    player.write("é[EOS]")
    stream: list[int] = []
    for effect in player.log:
        if isinstance(effect, (fx.Tokens, fx.InterruptCommitted)):
            assert effect.token_index == len(stream)
            stream += effect.ids
    assert stream == units("[CALL]f()[END][INTR]@user[HEAD]x[END]é[EOS]")
    tokens = every(fx.Tokens, player.log)
    assert [(t.text, t.control, t.in_block) for t in tokens[:2]] == [
        ("", Control.CALL, None),
        ("f", None, Control.CALL),
    ]
    assert (tokens[4].control, tokens[4].in_block) == (Control.END, Control.CALL)
    assert [t.text for t in tokens[5:7]] == ["", "é"]
    assert tokens[-1].end_of_sequence
    assert player.finished.token_index == len(stream)


def test_log_probabilities_are_passed_on() -> None:
    player = Player()
    assert only(fx.Tokens, player.give(TokenSampled(token_id=97, logprob=-0.5))).logprobs == (-0.5,)
    assert only(fx.Tokens, player.give(TokenSampled(token_id=97))).logprobs == ()


@pytest.mark.parametrize(("word", "control"), [("[END]", Control.END), ("[HEAD]", Control.HEAD)])
def test_stray_tokens_are_dropped(word: str, control: Control) -> None:
    """[CML-063]: they keep their place in the stream."""
    player = Player(constraints=Constraints.NONE)
    effects = player.write(word)
    assert only(fx.Tokens, effects).control is control
    assert only(fx.Notice, effects).code is NoticeCode.STRAY
    assert player.session.token_index == 1


def test_a_forged_interrupt_is_dropped() -> None:
    """[CML-064]: no call in it runs, nothing is committed in it."""
    player = Player(constraints=Constraints.NONE)
    effects = player.write("x[INTR]a[HEAD]")
    assert only(fx.Notice, effects).code is NoticeCode.FORGED
    assert player.state is State.IN_TEXT_SEQUENCE
    player.send("@user", "hi")
    player.write("true[END]")
    assert player.state is State.DECODING
    player.write("y")
    assert player.committed == [("@user", "hi")]
    assert player.text == "xy"
    player.write("[INTR]@user[HEAD]run it[CALL]f()[END]")
    assert [d.function for d in every(fx.CallDispatched, player.log)] == ["f"]


def test_an_opening_token_inside_a_block_ends_it() -> None:
    """[CML-061], [ERR-020]."""
    player = Player(constraints=Constraints.NONE)
    effects = player.write("[CALL]a[HEAD]f()[CALL]b[HEAD]f()[END]")
    assert [(e.index, e.id) for e in every(fx.CallEmitted, effects)] == [(0, "a"), (1, "b")]
    assert [d.id for d in every(fx.CallDispatched, effects)] == ["b"]
    notice = only(fx.Notice, effects)
    assert notice.code is NoticeCode.MALFORMED_BLOCK
    player.safe_point()
    assert player.row(0).result is Result.ERROR


def test_a_second_head_makes_a_block_malformed() -> None:
    """[CML-062]."""
    player = Player(constraints=Constraints.NONE)
    player.write("[CALL]a[HEAD]f()[HEAD]g()[END]")
    player.safe_point()
    assert [source for source, _ in player.committed] == ["a:error"]


def test_end_of_sequence_inside_a_block_makes_it_malformed() -> None:
    """[CML-065], [ERR-021]: then end of sequence takes its course: the model is told."""
    player = Player(constraints=Constraints.NONE)
    effects = player.write("[CALL]a[HEAD]f()[EOS]")
    assert names(effects)[-4:] == ["Tokens", "Notice", "CallEmitted", "StateChanged"]
    assert only(fx.StateChanged, effects).state is State.DECODING
    player.write("sorry")
    assert [source for source, _ in player.committed] == ["a:error"]


def test_script_steps_and_the_shells_notices() -> None:
    """[SCR-006]: nothing is sampled or charged."""
    player = Player(credit=1)
    masked = only(fx.Notice, player.give(StepMasked(token="[TRAP]")))
    assert (masked.code, "[TRAP]" in masked.message) == (NoticeCode.MASKED, True)
    assert player.session.credit == 1
    raised = only(fx.Notice, player.give(NoticeRaised(code=NoticeCode.LATE_RESULT, message="m")))
    assert (raised.code, raised.message) == (NoticeCode.LATE_RESULT, "m")


@pytest.mark.parametrize("reason", [FinishReason.SCRIPT_END, FinishReason.LENGTH])
def test_a_stream_that_ended_for_a_reason_finishes(reason: FinishReason) -> None:
    """[SCR-007]."""
    player = Player(limits={"max_new_tokens": 1} if reason is FinishReason.LENGTH else None)
    if reason is FinishReason.SCRIPT_END:
        player.sample(0xC3)
    effects = player.session.receive(StreamEnded(reason=reason))
    assert only(fx.Finished, effects).reason is reason
    assert [t.text for t in every(fx.Tokens, effects)] == (["\ufffd"] if reason is FinishReason.SCRIPT_END else [])


def test_a_stream_that_ended_is_an_end_of_sequence_without_a_token() -> None:
    player = Player()
    player.write("x[CALL]a[HEAD]f()[END]y")
    index = player.session.token_index
    player.give(StreamEnded())
    assert (player.state, player.session.token_index) == (State.DRAINING, index)


# --- pieces ----------------------------------------------------------------------------------------------------


def test_a_hosted_session() -> None:
    """[WIRE-074]: a piece is a unit of index and credit, ids are empty."""
    player = Player(unit=Unit.PIECE, constraints=Constraints.NONE, credit=20)
    player.pieces("Look", "ing ", "[CALL]", " a ", "[HEAD]", " f(x=1) ", "[END]", "Mean", "while")
    assert player.session.credit == 11
    assert only(fx.CallDispatched, player.log).arguments == '{"x": 1}'
    player.send("a", '"r"')
    player.pieces(", done", "[EOS]")
    committed = only(fx.InterruptCommitted, player.log)
    assert (committed.token_index, committed.ids) == (9, ())
    assert (player.text, player.session.token_index) == ("Looking Meanwhile, done", 11)
    assert player.finished.reason is FinishReason.STOP
    assert player.finished.usage.injected_tokens == 1


def test_a_prefix_of_a_control_word_is_an_unfinished_text_sequence() -> None:
    """[SES-001]: text form."""
    player = Player(unit=Unit.PIECE, constraints=Constraints.NONE)
    effects = player.pieces("an array [CA")
    assert [t.text for t in every(fx.Tokens, effects)] == ["an array "]
    assert player.state is State.IN_TEXT_SEQUENCE
    player.send("@user", "hi")
    assert player.safe_point() == []
    player.pieces("SE]")
    assert player.state is State.DECODING
    player.pieces("\\", "[END] stays text")
    assert player.text == "an array [CASE][END] stays text"


def test_held_back_text_is_given_up_at_the_end() -> None:
    player = Player(unit=Unit.PIECE, constraints=Constraints.NONE)
    player.pieces("x [EN", "[EOS]")
    assert player.text == "x [EN"
    player = Player(unit=Unit.PIECE, constraints=Constraints.NONE)
    player.pieces("[CALL]", "f() [", "[EOS]")
    assert only(fx.CallEmitted, player.log).raw == "f() ["


def test_a_hosted_model_cannot_forge_an_interrupt() -> None:
    """[CML-064]: its stream is closed and starts anew without the block."""
    player = Player(unit=Unit.PIECE, constraints=Constraints.NONE)
    effects = player.pieces("x", "[INTR]")
    assert only(fx.Notice, effects).code is NoticeCode.FORGED
    assert player.state is State.DECODING
    player.pieces("y")
    assert player.text == "xy"


def test_a_hosted_block_at_its_limit_is_malformed() -> None:
    """[SES-079]."""
    player = Player(unit=Unit.PIECE, constraints=Constraints.NONE, limits={"max_block_tokens": 3})
    effects = player.pieces("[CALL]", "a", "[HEAD]", "f(")
    assert [n.code for n in every(fx.Notice, effects)] == [NoticeCode.BLOCK_LIMIT, NoticeCode.MALFORMED_BLOCK]
    assert player.state is State.DECODING
    player.pieces("on")
    assert [source for source, _ in player.committed] == ["a:error"]


def test_units_are_not_mixed() -> None:
    with pytest.raises(LocalProtocolError, match="unit is TOKEN"):
        Player().session.receive(TokenSampled(piece="x"))
    pieces = Player(unit=Unit.PIECE, constraints=Constraints.NONE)
    with pytest.raises(LocalProtocolError, match="unit is PIECE"):
        pieces.session.receive(TokenSampled(token_id=5))
    with pytest.raises(LocalProtocolError, match="cut pieces at control words"):
        pieces.session.receive(TokenSampled(piece="[TRAP][END]"))
    with pytest.raises(ValueError, match="not pieces of text"):
        Session(config(unit=Unit.PIECE), CODEC)


def test_the_end_of_a_hosted_answer_is_a_unit() -> None:
    """[WIRE-076]; what was held back comes with it [CML-050]."""
    player = Player(config(unit=Unit.PIECE, credit=3))
    effects = player.give(TokenSampled(piece="Well [CA"))
    assert [report.text for report in every(fx.Tokens, effects)] == ["Well "]
    effects = player.give(TokenSampled(piece="", ends=True))
    (report,) = every(fx.Tokens, effects)
    assert (report.text, report.end_of_sequence, report.token_index) == ("[CA", True, 1)
    assert player.finished.reason is FinishReason.STOP
    assert player.finished.usage.sampled_tokens == 2


def test_a_hosted_answer_that_ends_with_nothing_held_back_is_the_end_alone() -> None:
    player = Player(config(unit=Unit.PIECE))
    player.give(TokenSampled(piece="Well."))
    (report,) = every(fx.Tokens, player.give(TokenSampled(piece="", ends=True)))
    assert (report.text, report.end_of_sequence) == ("", True)
    assert player.finished.reason is FinishReason.STOP
