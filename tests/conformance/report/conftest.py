"""What the tests of the reports share: a run with every verdict, and the same run broken off."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conformance.report import records

from asynclm_conformance.report import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    claim = "not conformant to draft at full: 2 failed"
    return records.run(tmp_path / "results.jsonl", records.one_of_each(), claim=claim)


@pytest.fixture
def broken_off(tmp_path: Path) -> Run:
    return records.run(tmp_path / "broken-off.jsonl", records.one_of_each()[:2], end=False)
