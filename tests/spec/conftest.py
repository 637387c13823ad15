"""What the tests of the specification share: the pages, read once."""

from __future__ import annotations

import pytest

from tools import spec_lint


@pytest.fixture(scope="session")
def defined() -> list[spec_lint.Requirement]:
    """Every requirement of the draft."""
    return spec_lint.all_requirements()


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """The text of every page of the draft, by file name."""
    return {page.name: page.read_text(encoding="utf-8") for page in spec_lint.draft_pages()}
