"""The recorded session in the documentation is what a run gives today."""

from __future__ import annotations

from tools.hosted_session import PAGE, record


async def test_the_page_is_up_to_date() -> None:
    assert await record() == PAGE.read_text(encoding="utf-8"), "python tools/hosted_session.py writes it anew"
