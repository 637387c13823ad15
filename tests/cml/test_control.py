from __future__ import annotations

from asynclm.cml.control import NAME, OPENING, RESERVED_IDS, Control, Status


def test_partial_and_progress_leave_a_call_open() -> None:
    assert {status for status in Status if not status.terminal} == {Status.PARTIAL, Status.PROGRESS}


def test_three_tokens_open_a_block() -> None:
    assert set(Control) - OPENING == {Control.END, Control.HEAD}


def test_every_reserved_word_is_a_name() -> None:
    assert all(NAME.fullmatch(word) for word in RESERVED_IDS)
