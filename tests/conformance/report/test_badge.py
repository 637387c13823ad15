"""A badge says what can be claimed, in a colour and in words."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.conformance.report import records

from asynclm_conformance.report import ReportError, Run, write

SVG = "{http://www.w3.org/2000/svg}"


def badge(run: Run) -> tuple[str, str]:
    """Its title, and the colour of its right half."""
    out = io.StringIO()
    write([run], format="badge", out=out)
    root = ElementTree.fromstring(out.getvalue())
    halves = root.findall(f"{SVG}g/{SVG}rect")
    return root.findtext(f"{SVG}title") or "", halves[1].get("fill", "")


def test_green_is_for_what_is_conformant(tmp_path: Path) -> None:
    run = records.run(tmp_path / "r.jsonl", [records.result("a/b")])
    assert badge(run) == ("AsyncLM draft | full: conformant", "#1a7f37")


def test_red_is_for_what_is_not(run: Run) -> None:
    assert badge(run) == ("AsyncLM draft | full: not conformant", "#cf222e")


def test_grey_is_for_what_says_nothing(tmp_path: Path, broken_off: Run) -> None:
    assert badge(broken_off) == ("AsyncLM draft | full: interrupted", "#6e7781")
    partial = records.run(tmp_path / "p.jsonl", [], claim="no claim: nothing was run")
    assert badge(partial) == ("AsyncLM draft | full: no claim", "#6e7781")


def test_its_text_is_escaped() -> None:
    header = records.header()
    header.revision = records.SCRIPT_TAG
    title, _ = badge(Run(header, (), None))
    assert records.SCRIPT_TAG in title


def test_it_is_of_one_run(run: Run, broken_off: Run) -> None:
    with pytest.raises(ReportError, match="a badge is of one run; got 2"):
        write([run, broken_off], format="badge", out=io.StringIO())
