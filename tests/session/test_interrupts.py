"""The rules of interrupts, one test each (spec: interrupts)."""

from __future__ import annotations

import pytest
from tests.session.player import CODEC, Player, every, names, only, units

from asynclm.cml.control import Control, Status
from asynclm.session import effects as fx
from asynclm.session.config import DeliveryPolicy, Granularity, OnEnd
from asynclm.session.events import InterruptReceived
from asynclm.session.state import FinishReason, RejectReason, Scheduling, State, UndeliveredReason

FAULT = '{"type": "t", "message": "m", "retryable": false}'


# --- safe points -----------------------------------------------------------------------------------------------


def test_the_whole_queue_is_committed_at_the_next_safe_point() -> None:
    """[INT-001], [INT-002], [INT-003], [INT-025], [INT-043]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]some text")
    start = player.session.token_index
    player.send("@user", "hi")
    player.send("a", '"r"')
    effects = player.safe_point()
    assert names(effects) == ["Inject", "InterruptCommitted", "InterruptCommitted", "CallSettled"]
    first, second = every(fx.InterruptCommitted, effects)
    assert first.ids == tuple(CODEC.frame("@user", Status.OK, "hi"))
    assert second.ids == tuple(units('[INTR]a[HEAD]"r"[END]'))
    assert (first.token_index, second.token_index) == (start, start + len(first.ids))
    assert (first.number, second.number) == (0, 1)
    assert only(fx.Inject, effects).ids == first.ids + second.ids
    assert only(fx.CallSettled, effects).row.token_index == second.token_index


@pytest.mark.parametrize("text", ["[CALL]f(", "[TRAP]wi", "\xc3"])
def test_nothing_is_committed_inside_a_block_or_a_text_sequence(text: str) -> None:
    """[INT-004]."""
    player = Player()
    player.write("word ")
    if text == "\xc3":
        player.sample(0xC3)
        assert player.state is State.IN_TEXT_SEQUENCE
    else:
        player.write(text)
    player.send("@user", "hi")
    assert player.safe_point() == []
    if text == "\xc3":
        player.sample(0xA9)
        assert player.text == "word é"
    else:
        player.write("[END]")
    assert ("@user", "hi") in [(c.source, c.payload) for c in every(fx.InterruptCommitted, player.safe_point())]


def test_nothing_is_committed_without_credit_or_paused() -> None:
    """[INT-005], [SES-021]."""
    player = Player(credit=1)
    player.write("x")
    player.send("@user", "hi")
    assert not player.session.can_step
    player.pause()
    player.grant(5)
    assert not player.session.can_step
    player.pause(False)
    assert player.session.can_step
    assert every(fx.InterruptCommitted, player.safe_point())


# --- sources, statuses, payloads -------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["@user", "@system", "@agent.kim"])
def test_clients_may_speak(source: str) -> None:
    """[INT-011], [INT-015]: plain text, empty text included."""
    player = Player()
    for text in ("{not json", "[CALL]", ""):
        assert only(fx.InterruptAccepted, player.send(source, text, seq=3)).client_seq == 3
    player.safe_point()
    assert player.committed == [(source, "{not json"), (source, "[CALL]"), (source, "")]


def test_a_spoken_control_word_stays_text() -> None:
    """[CML-054], [ERR-031]."""
    player = Player()
    player.send("@user", "[END][CALL]f()[END]<|eos|>")
    effects = player.safe_point()
    ids = only(fx.InterruptCommitted, effects).ids
    special = [i for i in ids if i > 255]
    assert special == [CODEC.control_ids[c] for c in (Control.INTR, Control.HEAD, Control.END)]


@pytest.mark.parametrize(
    ("source", "status", "reason"),
    [
        ("@runtime", None, RejectReason.BAD_SOURCE),
        ("@nobody", None, RejectReason.BAD_SOURCE),
        ("@agent.", None, RejectReason.BAD_SOURCE),
        ("@agent.9", None, RejectReason.BAD_SOURCE),
        ("not an id", None, RejectReason.BAD_SOURCE),
        ("within", None, RejectReason.BAD_SOURCE),
        ("", None, RejectReason.BAD_SOURCE),
        ("zero", None, RejectReason.UNKNOWN_ID),
        ("zero", Status.CANCELLED, RejectReason.UNKNOWN_ID),
        ("server", None, RejectReason.NOT_OWNER),
        ("server", Status.TIMEOUT, RejectReason.NOT_OWNER),
        ("done", None, RejectReason.ALREADY_RESOLVED),
        ("held", None, RejectReason.NOT_DISPATCHED),
        ("held", Status.TIMEOUT, RejectReason.NOT_DISPATCHED),
        ("mine", Status.TIMEOUT, RejectReason.BAD_STATUS),
        ("mine", Status.CANCELLED, RejectReason.BAD_STATUS),
        ("@user", Status.ERROR, RejectReason.BAD_STATUS),
        ("@system", Status.PARTIAL, RejectReason.BAD_STATUS),
    ],
)
def test_reasons_of_rejection_in_their_order(source: str, status: Status | None, reason: RejectReason) -> None:
    """[INT-011], [INT-012], [INT-020], [INT-021], [INT-022], [INT-023]: each has every later fault too."""
    player = Player(limits={"max_payload_bytes": 50, "max_queued": 1})
    player.write("[CALL]mine[HEAD]f()[END][CALL]server[HEAD]g()[END][CALL]done[HEAD]f()[END]")
    player.write("[CALL]held[HEAD]f(x=mine)[END]")
    player.send("done", "1")
    payload = "{" * 51
    effects = player.send(source, payload, status, seq=9)
    rejected = only(fx.InterruptRejected, effects)
    assert names(effects) == ["InterruptRejected"]
    assert (rejected.reason, rejected.payload, rejected.client_seq, rejected.source) == (reason, payload, 9, source)


@pytest.mark.parametrize(
    ("source", "payload", "status", "reason"),
    [
        ("a", "[" * 51, Status.PARTIAL, RejectReason.TOO_LARGE),
        ("a", "[", Status.PARTIAL, RejectReason.BAD_PAYLOAD),
        ("a", "1", Status.PARTIAL, RejectReason.QUEUE_FULL),
        ("@user", "x" * 51, None, RejectReason.TOO_LARGE),
        ("@user", "x", None, RejectReason.QUEUE_FULL),
        ("@user", "\ud800", None, RejectReason.BAD_PAYLOAD),
        ("a", '"\ud800"', None, RejectReason.BAD_PAYLOAD),
    ],
)
def test_the_last_reasons_in_their_order(
    source: str, payload: str, status: Status | None, reason: RejectReason
) -> None:
    """[INT-022], [LIM-006], [LIM-008], [ERR-047]."""
    player = Player(limits={"max_payload_bytes": 50, "max_queued": 1})
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END]")
    player.send("b", "1", Status.PARTIAL)
    assert only(fx.InterruptRejected, player.send(source, payload, status)).reason is reason


def test_a_terminal_result_is_never_refused_for_room() -> None:
    """[INT-024], [LIM-008]: nor does it take room, nor does what `@runtime` says."""
    player = Player(limits={"max_queued": 1})
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][CALL]nope()[END]")
    sent = [player.send("a", "1"), player.send("@user", "hi"), player.send("b", "1")]
    assert [names(effects) for effects in sent] == [["InterruptAccepted"]] * 3
    assert only(fx.InterruptRejected, player.send("@user", "hi")).reason is RejectReason.QUEUE_FULL


DEEP = "[" * 64 + "]" * 64


@pytest.mark.parametrize(
    ("status", "payload", "good"),
    [
        (None, "null", True),
        (None, ' [1, {"k": -0.5e10}] ', True),
        (None, "9" * 6_000, True),
        (None, DEEP, True),
        (None, f"[{DEEP}]", False),
        (None, f"[{DEEP[1:-1]}, []]", True),
        (None, f"[{'[], ' * 70}0]", True),
        (None, "[" * 100_000, False),
        (None, "", False),
        (None, "NaN", False),
        (None, "[Infinity]", False),
        (None, "'x'", False),
        (None, "1 2", False),
        (Status.OK, "true", True),
        (Status.PARTIAL, "0", True),
        (Status.ERROR, FAULT, True),
        (Status.ERROR, '{"type": "t", "message": "m"}', False),
        (Status.ERROR, '{"type": 1, "message": "m", "retryable": true}', False),
        (Status.ERROR, '{"type": "t", "message": null, "retryable": true}', False),
        (Status.ERROR, '{"type": "t", "message": "m", "retryable": "no"}', False),
        (Status.ERROR, '"broke"', False),
        (Status.PROGRESS, '{"message": "m", "fraction": 1}', True),
        (Status.PROGRESS, '{"message": "m", "fraction": null}', True),
        (Status.PROGRESS, '{"message": "m"}', True),
        (Status.PROGRESS, '{"message": "m", "fraction": 1.5}', False),
        (Status.PROGRESS, '{"message": "m", "fraction": true}', False),
        (Status.PROGRESS, '{"fraction": 0}', True),
        (Status.PROGRESS, '{"fraction": 1.0}', True),
        (Status.PROGRESS, '{"fraction": -0.1}', False),
        (Status.PROGRESS, '{"message": 1, "fraction": 0.5}', False),
        (Status.PROGRESS, '{"message": null, "fraction": null}', False),
        (Status.PROGRESS, "{}", False),
        (Status.PROGRESS, "0.5", False),
    ],
)
def test_payloads_have_the_shape_of_their_status(status: Status | None, payload: str, good: bool) -> None:
    """[INT-013], [LIM-007]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    effects = player.send("a", payload, status)
    if good:
        assert names(effects) == ["InterruptAccepted"]
    else:
        assert only(fx.InterruptRejected, effects).reason is RejectReason.BAD_PAYLOAD


def test_payloads_are_carried_as_they_were_spelled() -> None:
    """[INT-014], [WIRE-058]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    payload = ' {"b" : 1.50,\n "a":"\\u00e9" } '
    player.send("a", payload)
    player.safe_point()
    assert player.committed == [("a", payload)]


def test_an_interrupt_names_its_call_one_way() -> None:
    """[WIRE-038]."""
    with pytest.raises(ValueError, match="exactly one of source and call_index"):
        InterruptReceived(payload="1")
    with pytest.raises(ValueError, match="exactly one of source and call_index"):
        InterruptReceived(payload="1", source="a", call_index=0)


def test_a_result_for_an_index_that_no_call_has() -> None:
    player = Player()
    rejected = only(fx.InterruptRejected, player.host(3, "1"))
    assert (rejected.reason, rejected.source) == (RejectReason.UNKNOWN_ID, "")


# --- scheduling ------------------------------------------------------------------------------------------------


def test_default_scheduling() -> None:
    """[INT-030]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]g()[END]")
    sent = [
        player.send("@user", "x"),
        player.send("a", "1", Status.PARTIAL),
        player.send("a", '{"message": "m"}', Status.PROGRESS),
        player.send("a", "1"),
        player.host(1, "1", Status.PARTIAL, Scheduling.IMMEDIATE),
    ]
    assert [only(fx.InterruptAccepted, effects).scheduling for effects in sent] == [
        Scheduling.IMMEDIATE,
        Scheduling.SILENT,
        Scheduling.SILENT,
        Scheduling.IMMEDIATE,
        Scheduling.IMMEDIATE,
    ]


def test_when_idle_waits_for_a_trap() -> None:
    """[INT-031], [TRAP-003]: and goes in arrival order then."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("@user", "later", scheduling=Scheduling.WHEN_IDLE)
    player.send("@system", "now")
    player.write("x")
    assert player.committed == [("@system", "now")]
    assert names(player.write("[TRAP]a[END]"))[-2:] == ["TrapEntered", "TrapExited"]
    player.safe_point()
    assert player.committed[1:] == [("@user", "later")]


def test_when_idle_does_not_survive_a_trap() -> None:
    """[INT-031]: after the wake, one that comes before the commit waits again."""
    player = Player(credit=100)
    player.write("[CALL]a[HEAD]f()[END][TRAP][END]")
    player.send("a", "1")
    player.send("@user", "later", scheduling=Scheduling.WHEN_IDLE)
    player.safe_point()
    assert player.committed == [("a", "1")]


def test_silent_is_committed_but_wakes_nothing() -> None:
    """[INT-032]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][TRAP][END]")
    player.send("@user", "psst", scheduling=Scheduling.SILENT)
    player.send("@system", "psst", scheduling=Scheduling.SILENT)
    assert player.state is State.TRAPPED
    player.send("a", "1")
    player.safe_point()
    assert [source for source, _ in player.committed] == ["@user", "@system", "a"]


@pytest.mark.parametrize("scheduling", list(Scheduling))
def test_scheduling_does_not_change_when_a_call_is_resolved(scheduling: Scheduling) -> None:
    """[INT-033], [TRAP-010]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]g(x=a)[END][TRAP]a[END]")
    effects = player.send("a", "1", scheduling=scheduling)
    assert names(effects) == ["InterruptAccepted", "TrapExited", "Resume", "CallDispatched"]
    player.safe_point()
    assert player.committed == [("a", "1")]


# --- order and batches -----------------------------------------------------------------------------------------


def test_arrival_order() -> None:
    """[INT-040], [INT-025]."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END]")
    for source in ("b", "@user", "a", "@system"):
        player.send(source, "1")
    player.safe_point()
    assert [source for source, _ in player.committed] == ["b", "@user", "a", "@system"]


def test_updates_go_just_before_their_terminal() -> None:
    """[INT-041]: those that wait for idleness too."""
    player = Player()
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END]")
    player.send("a", "1", Status.PARTIAL)
    player.send("@user", "x")
    player.send("b", "2", Status.PARTIAL)
    player.send("a", "3", Status.PARTIAL, Scheduling.WHEN_IDLE)
    player.send("b", "4", Status.PARTIAL, Scheduling.WHEN_IDLE)
    player.send("a", "5")
    player.safe_point()
    assert player.committed == [
        ("@user", "x"),
        ("b:partial", "2"),
        ("a:partial", "1"),
        ("a:partial", "3"),
        ("a", "5"),
    ]


def test_a_batch_is_committed_as_far_as_it_fits() -> None:
    """[INT-042], [INT-045]."""
    frame = len(CODEC.frame("@user", Status.OK, "x"))
    player = Player(limits={"context_length": 10 + 3 + 2 * frame}, prompt_tokens=10)
    player.write("abc")
    for text in ("x", "y", "z"):
        player.send("@user", text)
    effects = player.safe_point()
    assert names(effects) == ["Inject", "InterruptCommitted", "InterruptCommitted", "Finished"]
    assert player.finished.reason is FinishReason.CONTEXT_FULL
    last = player.finished.interrupts[2]
    assert (last.reason, last.payload) == (UndeliveredReason.CONTEXT_FULL, "z")


def test_a_first_interrupt_that_does_not_fit_injects_nothing() -> None:
    """[INT-042]."""
    player = Player(limits={"context_length": 20})
    player.write("[CALL]f()[END]")
    player.send("@user", "much too long for it")
    assert names(player.safe_point()) == ["Finished"]


def test_injected_tokens_cost_nothing() -> None:
    """[INT-046], [SES-095]."""
    player = Player(credit=10, limits={"max_new_tokens": 5}, prompt_tokens=3)
    player.write("abcd")
    player.send("@user", "a long message that is over any limit of tokens")
    player.write("e")
    assert player.session.credit == 5
    usage = player.finished.usage
    injected = sum(len(c.ids) for c in every(fx.InterruptCommitted, player.log))
    assert (usage.prompt_tokens, usage.sampled_tokens, usage.injected_tokens) == (3, 5, injected)


# --- holding a safe point back ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granularity", "text", "more", "held"),
    [
        (Granularity.TOKEN, "wor", "d", 0),
        (Granularity.WORD, "wor", "d", 2),
        (Granularity.WORD, "wor", " x", 1),
        (Granularity.WORD, "wor", ", x", 1),
        (Granularity.WORD, "5", "6 x", 2),
        (Granularity.WORD, "e\u0301", "!x", 1),
        (Granularity.WORD, "wor ", "d", 0),
        (Granularity.SENTENCE, "One", ". x", 1),
        (Granularity.SENTENCE, "One. ", "x", 0),
        (Granularity.SENTENCE, "One.\n", "x", 0),
        (Granularity.SENTENCE, "One; ", "two! x", 4),
        (Granularity.SENTENCE, "  ", "x", 9),
    ],
)
def test_granularity_holds_a_safe_point_back(granularity: Granularity, text: str, more: str, held: int) -> None:
    """[INT-050], [INT-051], [INT-052]."""
    player = Player(granularity=granularity, granularity_hold=9, limits={"max_new_tokens": 50})
    player.write(text)
    player.send("@user", "hi")
    steps = 0
    for letter in more + " " * 9:
        if player.committed:
            break
        player.write(letter)
        steps += 1
    assert steps - 1 == held, "letters sampled before the commit"


@pytest.mark.parametrize("granularity", [Granularity.WORD, Granularity.SENTENCE])
def test_granularity_holds_no_longer_than_stated(granularity: Granularity) -> None:
    """[INT-052]: counted from the acceptance of the oldest."""
    player = Player(granularity=granularity, granularity_hold=3)
    player.write("x")
    player.send("@user", "first")
    player.write("yy")
    player.send("@user", "second")
    assert not player.committed
    player.write("yy")
    assert len(player.committed) == 2


def test_granularity_counts_from_the_oldest_whatever_its_place() -> None:
    """[INT-041], [INT-052]: an update moves behind a younger interrupt, and is the oldest all the same."""
    player = Player(granularity=Granularity.WORD, granularity_hold=4)
    player.write("[CALL]a[HEAD]f()[END]x")
    player.send("a", "1", Status.PARTIAL)
    player.write("xx")
    player.send("@system", "s")
    player.send("a", "2")
    player.write("xx")
    assert not player.committed
    player.write("x")
    assert [source for source, _ in player.committed] == ["@system", "a:partial", "a"]


@pytest.mark.parametrize("granularity", [Granularity.WORD, Granularity.SENTENCE])
def test_granularity_does_not_hold_where_no_text_is_cut(granularity: Granularity) -> None:
    """[INT-050], [INT-055]: at the start, after a block, after a commit, after end of sequence."""
    player = Player(granularity=granularity, granularity_hold=99, on_end=OnEnd.KEEP)
    player.send("@user", "at the start")
    assert every(fx.InterruptCommitted, player.safe_point())
    player.send("@user", "after a commit")
    assert every(fx.InterruptCommitted, player.safe_point())
    player.write("word[CALL]f()[END]")
    player.send("@user", "after a block")
    assert every(fx.InterruptCommitted, player.safe_point())
    player.write("word[EOS]")
    player.send("@user", "in idle")
    assert every(fx.InterruptCommitted, player.safe_point())


def test_a_window_gathers_results() -> None:
    """[INT-053], [INT-054]: decoding goes on meanwhile, and what the application says waits with them."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][CALL]c[HEAD]f()[END]")
    player.send("a", "1")
    assert player.session.next_timer_ms == 100
    player.write("x")
    player.advance(60)
    player.send("b", "2")
    player.send("@system", "hi")
    player.write("y")
    assert not player.committed
    player.advance(40)
    player.write("z")
    assert [source for source, _ in player.committed] == ["a", "b", "@system"]
    assert player.text == "xyz"


def test_the_window_closes_when_nothing_more_can_come() -> None:
    """[INT-053]: results keep coming only as long as a call is unresolved."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    assert [c.source for c in every(fx.InterruptCommitted, player.safe_point())] == ["a"]
    assert player.session.next_timer_ms is None


def test_after_a_wake_decoding_waits_for_the_window() -> None:
    """[INT-053]: a step without the results that the model waited for would be of no use."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][TRAP][END]")
    player.send("a", "1")
    assert player.state is State.DECODING
    assert not player.session.can_step
    player.probe()
    assert only(fx.Probed, player.log).queued == 1
    player.advance(100)
    assert player.session.can_step
    player.write("x")
    assert player.committed == [("a", "1")]


def test_a_new_window_opens_after_the_commit() -> None:
    """[INT-053]."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][CALL]c[HEAD]f()[END]")
    player.send("a", "1", Status.PARTIAL)
    player.advance(100)
    player.send("a", "2", Status.PARTIAL)
    player.write("x")
    assert len(player.committed) == 2
    player.send("a", "3")
    player.write("x")
    assert len(player.committed) == 2
    player.advance(100)
    player.write("x")
    assert len(player.committed) == 3


def test_people_end_the_window() -> None:
    """[INT-061]: in running text and behind a trap; what waits goes with them."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END]")
    player.send("a", "1")
    player.write("x")
    player.send("@user", "aside", scheduling=Scheduling.SILENT)
    player.send("@user", "later", scheduling=Scheduling.WHEN_IDLE)
    player.write("x")
    assert not player.committed
    player.send("@agent.kim", "hi")
    player.write("x")
    assert [source for source, _ in player.committed] == ["a", "@user", "@agent.kim"]
    player.write("[CALL]c[HEAD]f()[END][TRAP]any b, c[END]")
    assert player.session.can_step, "the message that waited for a trap ends it"
    player.write("x[TRAP]any b, c[END]")
    player.send("b", "2")
    assert not player.session.can_step
    player.send("@user", "hi")
    player.write("x")
    assert len(player.committed) == 6


def test_lazy_results_wait_for_the_next_wait() -> None:
    """[INT-060], [INT-061]: trap, end of sequence, or a person's word."""
    player = Player(delivery=DeliveryPolicy.LAZY)
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][CALL]c[HEAD]f()[END]")
    player.send("a", "1", Status.PARTIAL)
    player.send("a", "1")
    player.send("@system", "hi")
    player.write("x")
    assert not player.committed
    player.write("[TRAP]a[END]y")
    assert [source for source, _ in player.committed] == ["a:partial", "a", "@system"]
    player.send("b", "2")
    player.write("z")
    assert len(player.committed) == 3
    player.send("@user", "hi")
    player.write("z")
    assert len(player.committed) == 5
    player.send("c", "3")
    player.write("z")
    assert len(player.committed) == 5
    player.write("[EOS]z")
    assert len(player.committed) == 6


@pytest.mark.parametrize("delivery", [None, DeliveryPolicy.LAZY])
def test_the_shell_can_ask_whether_the_next_safe_point_commits(delivery: DeliveryPolicy | None) -> None:
    """[INT-060]: whoever has to send a request for the next step waits for what goes with it."""
    player = Player(delivery=delivery, credit=100)
    assert not player.session.commits_next
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    assert player.session.commits_next is (delivery is None)
    player.pause()
    assert not player.session.commits_next


def test_an_update_opens_a_window() -> None:
    """[INT-053]: it is a result too."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", "1", Status.PARTIAL)
    player.write("x")
    assert (player.session.next_timer_ms, player.committed) == (100, [])


def test_people_open_no_window() -> None:
    """[INT-053]: only results are gathered."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("@user", "hi")
    assert every(fx.InterruptCommitted, player.safe_point())


@pytest.mark.parametrize("ending", ["[TRAP][END]", "[EOS]"])
@pytest.mark.parametrize("on_end", [OnEnd.WAIT, OnEnd.KEEP])
def test_every_wake_waits_for_the_window(ending: str, on_end: OnEnd) -> None:
    """[INT-056]: TRAPPED, DRAINING, IDLE."""
    player = Player(coalesce_ms=100, on_end=on_end)
    player.write(f"[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END]{ending}")
    player.send("a", "1")
    assert (player.state, player.session.can_step) == (State.DECODING, False)
    player.send("b", "2")
    assert player.session.can_step, "nothing more can come"
    player.write("x")
    assert len(player.committed) == 2


def test_an_end_of_sequence_that_goes_on_waits_for_the_window() -> None:
    """[INT-056], [SES-041]."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END]")
    player.send("a", "1")
    player.write("x[EOS]")
    assert (player.state, player.session.can_step) == (State.DECODING, False)
    player.advance(100)
    player.write("y")
    assert player.committed == [("a", "1")]


def test_after_the_commit_a_window_holds_text_up_no_more() -> None:
    """[INT-056]: in running text decoding goes on."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][CALL]c[HEAD]f()[END][TRAP][END]")
    player.send("a", "1")
    player.advance(100)
    player.write("x")
    player.send("b", "2")
    assert player.session.can_step
    player.write("y")
    assert player.committed == [("a", "1")]


def test_a_window_that_closed_early_leaves_nothing_behind() -> None:
    """[INT-053]: the next result opens a whole one."""
    player = Player(coalesce_ms=100)
    player.write("[CALL]a[HEAD]f()[END]")
    player.send("a", "1")
    player.write("x[CALL]b[HEAD]f()[END][CALL]c[HEAD]f()[END]")
    player.advance(30)
    player.send("b", "2")
    assert player.session.next_timer_ms == 130
    player.advance(100)
    player.write("y")
    assert [source for source, _ in player.committed] == ["a", "b"]


@pytest.mark.parametrize("ending", ["[EOS]", ""])
def test_granularity_does_not_hold_after_an_end_or_a_commit(ending: str) -> None:
    """[INT-055], [SES-041]: in the middle of a word."""
    player = Player(granularity=Granularity.WORD, granularity_hold=2)
    player.write("[CALL]a[HEAD]f()[END]wor")
    player.send("@system", "one")
    if ending:
        player.write(ending)
    else:
        player.write("ds")
    assert every(fx.InterruptCommitted, player.safe_point())
    player.send("@system", "two")
    assert every(fx.InterruptCommitted, player.safe_point())
