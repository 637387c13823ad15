from __future__ import annotations

import importlib
import io
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from asynclm.bench import report
from asynclm.bench.record import BenchRecord, Better, metric, start
from asynclm.bench.registry import BENCHMARKS, UnknownBenchmarkError, run
from asynclm.bench.report import run_and_report, table


def record(value: float | None) -> BenchRecord:
    rounds = [] if value is None else [value]
    ratio = metric("vs_peer", rounds, unit="1", better=Better.HIGHER, floor=1.5)
    rate = metric("rate", [123456.0], unit="tokens/s", better=Better.HIGHER, floor=None)
    return replace(start("decode"), metrics=(ratio, rate))


def printed(found: BenchRecord) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(table(found))
    return out.getvalue()


def test_the_table_shows_value_floor_and_verdict() -> None:
    good, bad, none = printed(record(2.0)), printed(record(1.0)), printed(record(None))
    assert "≥ 1.5" in good
    assert "ok" in good
    assert "missed" not in good
    assert "123,456" in good
    assert "missed" in bad
    assert "not measured" in none


@pytest.mark.parametrize(("value", "code"), [(2.0, 0), (1.0, 1), (None, 1)])
def test_the_exit_code_follows_the_floors(
    value: float | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool, bool]] = []

    def fake(name: str, *, quick: bool, without_peers: bool) -> BenchRecord:
        asked.append((name, quick, without_peers))
        return record(value)

    monkeypatch.setattr(report, "run", fake)
    out = io.StringIO()
    path = tmp_path / "out.json"
    assert run_and_report("decode", quick=True, json_path=path, console=Console(file=out, width=100)) == code
    assert asked == [("decode", True, False)]
    assert json.loads(path.read_text(encoding="utf-8"))["bench"] == "decode"
    assert ("floor 1.5" in out.getvalue()) == (code == 1)


def test_an_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownBenchmarkError, match=f"'nonsense': there are {', '.join(BENCHMARKS)}"):
        run("nonsense")


def test_without_a_path_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "run", lambda name, **options: record(2.0))
    out = io.StringIO()
    assert run_and_report("decode", console=Console(file=out, width=100)) == 0
    assert "written" not in out.getvalue()


def test_a_record_without_peers_is_marked_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_peers(*, quick: bool, without_peers: bool) -> BenchRecord:
        return record(None if without_peers else 2.0)

    module = ModuleType("fake")
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    module.run = with_peers  # type: ignore[attr-defined]
    alone = run("parser", without_peers=True)
    assert alone.incomplete
    assert alone.exit_code == 0
    assert "incomplete" in printed(alone)
    assert not run("parser").incomplete
    module.run = lambda *, quick: record(2.0)  # type: ignore[attr-defined]  # one that has no peers
    assert not run("parser", without_peers=True).incomplete


def test_every_benchmark_has_a_description() -> None:
    assert all(BENCHMARKS.values())
