"""What a model may write when (spec: sessions, section 2)."""

from __future__ import annotations

import pytest
from tests.session.player import Player, every, kind_of, only, units

from asynclm.session import effects as fx
from asynclm.session.config import Constraints
from asynclm.session.mask import BlockRule, Kind
from asynclm.session.state import NoticeCode, Result

OUTSIDE = {Kind.TEXT, Kind.CALL, Kind.TRAP, Kind.EOS}
BLOCK = {Kind.TEXT, Kind.END}
ANY = set(Kind) - {Kind.INTR}


@pytest.mark.parametrize("text", ["", "x", "[CALL]", "[CALL]a[HEAD]f(", "[TRAP]a", "[CALL]f()[END]"])
@pytest.mark.parametrize("constraints", list(Constraints))
def test_intr_is_never_sampled(constraints: Constraints, text: str) -> None:
    """[SES-010]."""
    player = Player(constraints=constraints)
    player.write(text)
    assert Kind.INTR not in player.session.mask().kinds


@pytest.mark.parametrize("text", ["", "x", "[CALL]a[HEAD]", "[TRAP]", "[HEAD][END]"])
def test_none_masks_nothing_else(text: str) -> None:
    """[SES-011]."""
    player = Player(constraints=Constraints.NONE)
    player.write(text)
    assert player.session.mask().kinds == ANY


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", OUTSIDE),
        ("text", OUTSIDE),
        ("[CALL]", BLOCK | {Kind.HEAD}),
        ("[CALL]a", BLOCK | {Kind.HEAD}),
        ("[CALL]a[HEAD]", BLOCK),
        ("[CALL]a[HEAD]f()", BLOCK),
        ("[CALL]a[HEAD]f()[END]", OUTSIDE),
        ("[TRAP]", BLOCK),
        ("[TRAP]zero", BLOCK),
        ("[TRAP][END]", OUTSIDE),
    ],
)
def test_static(text: str, kinds: set[Kind]) -> None:
    """[SES-012]."""
    player = Player(constraints=Constraints.STATIC)
    player.write(text)
    assert player.session.mask().kinds == kinds
    assert player.session.mask().block_rule is None


def test_an_unfinished_text_sequence_masks_nothing() -> None:
    """[SES-013]: a control token ends it, and it becomes U+FFFD."""
    player = Player(constraints=Constraints.STATIC)
    player.sample(0xC3)
    assert player.session.mask().kinds == OUTSIDE
    [tokens] = player.write("[CALL]")
    assert (tokens.text, tokens.control.name) == ("\ufffd", "CALL")  # type: ignore[union-attr]
    player.write("f()[END]")
    player.sample(0xC3)
    player.write("[EOS]")
    assert player.text == "\ufffd\ufffd"


@pytest.mark.parametrize("constraints", [Constraints.GATES, Constraints.GRAMMAR])
def test_the_trap_gate(constraints: Constraints) -> None:
    """[SES-014]: open while a named call is pending, until it is settled."""
    player = Player(constraints=constraints)

    def gate() -> bool:
        return Kind.TRAP in player.session.mask().kinds

    assert not gate()
    player.write("[CALL]f()[END]")
    assert not gate()
    player.write("[CALL]a[HEAD]f()[END]")
    assert gate()
    player.send("a", "1")
    assert gate()
    player.safe_point()
    assert not gate()


@pytest.mark.parametrize("gate_end", [True, False])
def test_the_end_gate(gate_end: bool) -> None:
    """[SES-015]."""
    player = Player(constraints=Constraints.GATES, gate_end=gate_end)
    player.write("[CALL]a[HEAD]f()[END]")
    assert (Kind.EOS in player.session.mask().kinds) is not gate_end
    player.send("a", "1")
    player.safe_point()
    assert Kind.EOS in player.session.mask().kinds


@pytest.mark.parametrize("constraints", [Constraints.NONE, Constraints.STATIC])
def test_gates_need_their_constraints(constraints: Constraints) -> None:
    """[SES-012], [SES-023]."""
    player = Player(constraints=Constraints.STATIC)
    player.write("[CALL]a[HEAD]f()[END]")
    assert player.session.mask().kinds == OUTSIDE
    with pytest.raises(ValueError, match="gate_end is true with constraints"):
        Player(constraints=constraints, gate_end=True)


def test_the_grammar_rules_inside_blocks_only() -> None:
    """[SES-016], [SES-017]."""
    player = Player(constraints=Constraints.GRAMMAR)
    assert player.session.mask().block_rule is None
    player.write("x[CALL]")
    assert player.session.mask().block_rule is BlockRule.CALL
    player.write("a[HEAD]f()[END]")
    assert player.session.mask().block_rule is None
    player.write("[TRAP]")
    assert player.session.mask().block_rule is BlockRule.TRAP


def test_the_block_number_tells_when_a_new_block_began() -> None:
    player = Player(constraints=Constraints.NONE)
    numbers = []
    for text in ("x", "[CALL]", "f()", "[END]", "[TRAP]", "[CALL]"):
        player.write(text)
        numbers.append(player.session.mask().block_number)
    assert numbers == [0, 1, 1, 1, 2, 3]


@pytest.mark.parametrize("constraints", list(Constraints))
@pytest.mark.parametrize("opened", ["[CALL]", "[TRAP]"])
def test_at_the_block_limit_only_the_end_may_follow(constraints: Constraints, opened: str) -> None:
    """[SES-078]: under every constraint, and above the grammar."""
    player = Player(constraints=constraints, limits={"max_block_tokens": 3})
    player.write("[CALL]a[HEAD]")
    assert only(fx.Notice, player.write("f")).code is NoticeCode.BLOCK_LIMIT
    assert player.session.mask().kinds == {Kind.END}
    assert player.session.mask().block_rule is None
    player.write("[END]")
    player.safe_point()
    assert player.row(0).result is Result.ERROR
    player.write(f"{opened}ab")
    assert player.session.mask().kinds != {Kind.END}
    player.write("c")
    assert player.session.mask().kinds == {Kind.END}


def test_a_shell_that_does_not_mask_is_told_once() -> None:
    """[SES-078]."""
    player = Player(limits={"max_block_tokens": 2})
    effects = player.write("[CALL]f()x")
    assert [n.code for n in every(fx.Notice, effects)] == [NoticeCode.BLOCK_LIMIT]


def test_a_block_at_its_limit_is_judged_as_it_stands() -> None:
    """[SES-078]: it may be whole."""
    player = Player(limits={"max_block_tokens": 5})
    player.write("[CALL]a[HEAD]f()[END]")
    assert only(fx.CallDispatched, player.log).id == "a"


def test_masks_are_not_made_anew_for_each_token() -> None:
    player = Player()
    player.write("x")
    first = player.session.mask()
    player.write("y")
    assert player.session.mask() is first
    player.write("[CALL]a")
    inside = player.session.mask()
    player.write("b")
    assert player.session.mask() is inside


@pytest.mark.parametrize("word", ["[CALL]", "[TRAP]", "[END]", "[HEAD]", "[INTR]", "[EOS]", "x"])
def test_kinds_cover_the_vocabulary(word: str) -> None:
    assert kind_of(units(word)[0]).name in (word.strip("[]"), "TEXT")
    assert len(units(word)) == 1
