"""Golden traces after the two worked examples of the AsyncLM paper (§3, figures 2(3) and 3).

The tasks, words and values are ours; what is taken from the figures is the order of things.
"""

from __future__ import annotations

import pytest
from tests.session.player import ANY_OBJECT, Player

from asynclm.cml.control import Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.session import effects as fx
from asynclm.session.config import Constraints, ExecutionMode
from asynclm.session.state import Delivery, State

MILLISECONDS = {"find": 200, "note": 50, "text": 80, "html": 120, "xls": 120, "txt": 150, "fetch": 300, "send": 90}
TOOLS = tuple(
    ToolSpec(name=name, parameters=ANY_OBJECT, expected_duration_ms=ms)
    for name, ms in (*MILLISECONDS.items(), ("save", 100))
)


def play(**settings: object) -> Player:
    return Player(tools=TOOLS, client_tools=frozenset(), **settings)  # type: ignore[arg-type]


def trace(player: Player) -> list[str]:
    """The session in short: runs of text, calls, interrupts, waits, the end."""
    lines: list[str] = []
    for effect in player.log:
        match effect:
            case fx.Tokens(text=text, in_block=None, control=None, end_of_sequence=False):
                if lines and lines[-1].startswith("text "):
                    lines[-1] += text
                else:
                    lines.append(f"text {text}")
            case fx.Tokens(end_of_sequence=True):
                lines.append("end of sequence")
            case fx.CallDispatched(function=function, id=call_id):
                lines.append(f"dispatch {call_id or '-'} {function}")
            case fx.InterruptCommitted(source=source, status=status, payload=payload):
                lines.append(f"commit {source}{'' if status is Status.OK else ':' + status.value} {payload}")
            case fx.TrapEntered():
                lines.append("trap")
            case fx.TrapExited():
                lines.append("go on")
            case fx.StateChanged(state=state):
                lines.append(f"state {state.value}")
            case fx.Finished(reason=reason):
                lines.append(f"finished {reason.value}")
    return lines


def test_the_florist() -> None:
    """Figure 3: a named search, an anonymous write, the interrupt, two anonymous messages, a last sentence, the end.

    End of sequence does not wait for anonymous calls.
    """
    player = play()
    player.write("I look for florists.")
    player.write('[CALL]f1[HEAD]find(what="florists")[END]')
    player.write('[CALL]note(file="order.txt", body="Two dozen roses, please.")[END]')
    player.write(" Meanwhile the order is writ")
    player.advance(200)
    player.host(0, '["555-0101", "555-0102"]')
    player.write("ten.")
    player.write('[CALL]text(to="555-0101")[END][CALL]text(to="555-0102")[END]')
    player.write(" Both were asked.[EOS]")
    assert trace(player) == [
        "text I look for florists.",
        "dispatch f1 find",
        "dispatch - note",
        "text  Meanwhile the order is writ",
        'commit f1 ["555-0101", "555-0102"]',
        "text ten.",
        "dispatch - text",
        "dispatch - text",
        "text  Both were asked.",
        "end of sequence",
        "finished stop",
    ]
    deliveries = [row.delivery for row in player.finished.calls]
    assert deliveries == [Delivery.DELIVERED, Delivery.NOT_AWAITED, Delivery.NOT_AWAITED, Delivery.NOT_AWAITED]


@pytest.mark.parametrize("trap", ["[TRAP][END]", "[TRAP]fetch[END]"])
def test_summarize_and_send(trap: str) -> None:
    """Figure 2(3): two results enter together after a block, a third after a long one; then the model must wait.

    The paper's own trap is bare; a trap on the id gives the same trace here.
    """
    player = play()
    player.write("[CALL]html[HEAD]html()[END][CALL]xls[HEAD]xls()[END][CALL]txt[HEAD]txt(")
    player.host(0, '"page"')
    player.host(1, '"sheet"')
    player.write(")[END]")
    player.write('[CALL]save[HEAD]save(summary="a long summary of the page')
    player.host(2, '"notes"')
    assert player.safe_point() == []
    player.write('")[END][CALL]fetch[HEAD]fetch()[END]')
    player.host(3, '"saved"')
    player.write(trap)
    assert (player.state, player.session.expected_wait_ms()) == (State.TRAPPED, 300)
    player.host(4, '"kim@example.org"')
    player.write('[CALL]send(to="kim@example.org")[END][EOS]')
    assert trace(player) == [
        "dispatch html html",
        "dispatch xls xls",
        "dispatch txt txt",
        'commit html "page"',
        'commit xls "sheet"',
        "dispatch save save",
        'commit txt "notes"',
        "dispatch fetch fetch",
        'commit save "saved"',
        "trap",
        "go on",
        'commit fetch "kim@example.org"',
        "dispatch - send",
        "end of sequence",
        "finished stop",
    ]


def test_the_same_with_futures() -> None:
    """One pass, no trap: what depends on a result is held until it is there (ADR 0005)."""
    player = play()
    player.write("[CALL]page[HEAD]html()[END][CALL]who[HEAD]fetch()[END]")
    player.write("[CALL]sent[HEAD]send(to=who.mail, body=page)[END]Done as soon as I can.[EOS]")
    assert player.state is State.DRAINING
    player.host(0, '"page"')
    player.write(" The page is here.[EOS]")
    player.host(1, '{"mail": "kim@example.org"}')
    player.write(" And the address.[EOS]")
    player.host(2, "true")
    player.write(" Sent.[EOS]")
    assert trace(player) == [
        "dispatch page html",
        "dispatch who fetch",
        "text Done as soon as I can.",
        "end of sequence",
        "state draining",
        "state decoding",
        'commit page "page"',
        "text  The page is here.",
        "end of sequence",
        "state draining",
        "state decoding",
        "dispatch sent send",
        'commit who {"mail": "kim@example.org"}',
        "text  And the address.",
        "end of sequence",
        "state draining",
        "state decoding",
        "commit sent true",
        "text  Sent.",
        "end of sequence",
        "finished stop",
    ]


CALL_A, CALL_B, TRAP = "[CALL]a[HEAD]html()[END]", "[CALL]b[HEAD]xls()[END]", "[TRAP]a, b[END]"


def test_one_script_asynchronous() -> None:
    """Calls run beside the text; the trap waits for both."""
    player = play(constraints=Constraints.STATIC)
    player.write(f"{CALL_A}{CALL_B}mean")
    player.host(1, "2")
    player.write(f"while{TRAP}")
    player.host(0, "1")
    player.write("ok[EOS]")
    assert trace(player) == [
        "dispatch a html",
        "dispatch b xls",
        "text mean",
        "commit b 2",
        "text while",
        "trap",
        "go on",
        "commit a 1",
        "text ok",
        "end of sequence",
        "finished stop",
    ]


def test_one_script_synchronous_in_parallel() -> None:
    """Calls start together at the trap, and nothing enters before both are there."""
    player = play(constraints=Constraints.STATIC, mode=ExecutionMode.SYNC_PARALLEL)
    player.write(f"{CALL_A}{CALL_B}meanwhile{TRAP}")
    player.host(1, "2")
    player.host(0, "1")
    player.write("ok[EOS]")
    assert trace(player) == [
        "text meanwhile",
        "dispatch a html",
        "dispatch b xls",
        "trap",
        "go on",
        "commit b 2",
        "commit a 1",
        "text ok",
        "end of sequence",
        "finished stop",
    ]


def test_one_script_synchronous() -> None:
    """Each call stands still for its result; the trap finds both and holds at once."""
    player = play(constraints=Constraints.STATIC, mode=ExecutionMode.SYNC)
    player.write(CALL_A)
    player.host(0, "1")
    player.write(CALL_B)
    player.host(1, "2")
    player.write(f"meanwhile{TRAP}ok[EOS]")
    assert trace(player) == [
        "dispatch a html",
        "trap",
        "go on",
        "commit a 1",
        "dispatch b xls",
        "trap",
        "go on",
        "commit b 2",
        "text meanwhile",
        "trap",
        "go on",
        "text ok",
        "end of sequence",
        "finished stop",
    ]
