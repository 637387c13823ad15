"""Tools by what a command line says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynclm.tools import Tool, ToolLoadError, load_tools

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
from asynclm.tools import ToolSet, tool

@dataclass
class Point:
    x: int

@tool
def second(point: Point) -> int:
    return point.x

@tool
def first() -> None: ...

def plain(x: int) -> int:
    return x

def untyped(x): ...

_hidden = tool(plain)
group = ToolSet([first])
several = (first, plain)
twice = [first, first]
number = 3

class Nested:
    inner = first
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_tools.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "asynclm_test_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "many.py").write_text(SOURCE + "\n__all__ = ['first', 'number']\n")
    (folder / "broken.py").write_text("1 / 0")
    (folder / "missing.py").write_text("import asynclm_no_such_module")
    (folder / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield folder.name
    for name in set(sys.modules) - before:
        if name.startswith(folder.name):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ("second", "first")),
        (":first", ("first",)),
        (":plain", ("plain",)),
        (":group", ("first",)),
        (":several", ("first", "plain")),
        (":_hidden", ("plain",)),
        (":Nested.inner", ("first",)),
    ],
)
def test_from_a_file(file: Path, name: str, expected: tuple[str, ...]) -> None:
    assert load_tools(f"{file}{name}").names == expected


def test_a_file_is_loaded_once(file: Path) -> None:
    first, again = (load_tools(f"{file}:first").get("first") for _ in range(2))
    assert isinstance(first, Tool)
    assert first is again


def test_from_a_module_in_the_working_folder(package: str) -> None:
    assert load_tools(f"{package}.many").names == ("first",)
    assert load_tools(f"{package}.many:second").names == ("second",)


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (".many:nope", "has no 'nope'; it has first"),
        (".many:number", "a int is not a tool"),
        (".many:untyped", "parameter 'x' has no annotation"),
        (".many:twice", "'first' is declared twice"),
        (".nope", "there is no module"),
        (".broken", "fails to import: ZeroDivisionError"),
        (".missing", "imports 'asynclm_no_such_module', which is not installed"),
        (".empty", "declares no tools; mark functions with @tool"),
    ],
)
def test_what_cannot_be_loaded(package: str, suffix: str, message: str) -> None:
    with pytest.raises(ToolLoadError, match=message):
        load_tools(package + suffix)


@pytest.mark.parametrize("target", ["", ":name", "..relative", "no_such_file.py", "no_such_module_at_all"])
def test_what_is_no_target(target: str) -> None:
    with pytest.raises(ToolLoadError, match=r"give package\.module"):
        load_tools(target)


def test_a_file_that_fails_can_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "mended.py"
    path.write_text("1 / 0")
    with pytest.raises(ToolLoadError, match="ZeroDivisionError"):
        load_tools(str(path))
    path.write_text(SOURCE)
    assert "first" in load_tools(str(path))
