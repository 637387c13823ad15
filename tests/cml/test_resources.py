from __future__ import annotations

from pathlib import Path

import pytest

from asynclm.cml import resources
from asynclm.cml.resources import resource


def test_the_grammar_is_found_in_the_repository() -> None:
    assert "document:" in resource("grammar/cml.lark").read_text(encoding="utf-8")
    assert resource("grammar").is_dir()


def test_what_the_wheel_carries_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_data" / "grammar").mkdir(parents=True)
    (tmp_path / "_data" / "grammar" / "cml.lark").write_text("packaged")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    assert resource("grammar/cml.lark").read_text(encoding="utf-8") == "packaged"
    assert resource("grammar").joinpath("cml.lark").is_file()


def test_what_is_nowhere_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"grammar/none\.lark"):
        resource("grammar/none.lark")
