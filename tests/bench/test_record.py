from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from asynclm.bench import record as module
from asynclm.bench.record import BenchRecord, Better, Metric, metric, percentile, start


def lower(name: str = "m", *rounds: float, floor: float | None = 10.0) -> Metric:
    return metric(name, rounds, unit="us", better=Better.LOWER, floor=floor)


def record(*metrics: Metric, incomplete: bool = False) -> BenchRecord:
    return replace(start("parser"), metrics=metrics, incomplete=incomplete)


def test_a_metric_is_the_median_of_its_rounds_with_their_spread() -> None:
    found = lower("m", *range(11))
    assert (found.value, found.spread, found.samples) == (5, (1, 9), 11)
    assert metric("m", [1.0], unit="us", better=Better.LOWER, floor=None, samples=700).samples == 700


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (10, 1), (11, 2), (50, 5), (99, 10), (100, 10)])
def test_percentiles_are_values_that_were_measured(percent: int, value: int) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == value


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_there_is_no_percentile_of_nothing(values: list[float], percent: int) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


@pytest.mark.parametrize(
    ("better", "floor", "value", "met"),
    [
        (Better.LOWER, 10.0, 10.0, True),
        (Better.LOWER, 10.0, 10.1, False),
        (Better.HIGHER, 10.0, 10.0, True),
        (Better.HIGHER, 10.0, 9.9, False),
        (Better.HIGHER, None, 0.0, True),
        (Better.HIGHER, 10.0, None, False),
        (Better.HIGHER, None, None, True),
    ],
)
def test_floors(better: Better, floor: float | None, value: float | None, met: bool) -> None:
    rounds = [] if value is None else [value]
    assert metric("m", rounds, unit="1", better=better, floor=floor).met is met


def test_a_missed_floor_fails_the_run() -> None:
    assert record(lower("a", 1)).exit_code == 0
    missed = lower("b", 11)
    assert (record(lower("a", 1), missed).exit_code, record(lower("a", 1), missed).missed) == (1, (missed,))


def test_a_floor_without_its_peer_is_missed_unless_the_record_is_marked_incomplete() -> None:
    assert record(lower("vs_peer")).exit_code == 1
    assert record(lower("vs_peer"), incomplete=True).exit_code == 0
    assert record(lower("vs_peer"), lower("m", 11), incomplete=True).exit_code == 1


def test_the_file_has_the_format_that_every_benchmark_shares(tmp_path: Path) -> None:
    written = record(lower("a", 1, 2, 3), lower("b"))
    path = tmp_path / "results" / "parser.json"
    written.write(path)
    fields = json.loads(path.read_text(encoding="utf-8"))
    assert list(fields) == ["bench", "commit", "machine", "started", "metrics"]
    assert fields["metrics"]["a"] == {
        "value": 2,
        "unit": "us",
        "better": "lower",
        "floor": 10.0,
        "samples": 3,
        "spread": [1, 3],
    }
    assert fields["metrics"]["b"]["value"] is None
    assert BenchRecord.from_json(path.read_text(encoding="utf-8")) == written


def test_an_incomplete_record_says_so() -> None:
    written = record(lower("a"), incomplete=True)
    assert json.loads(written.to_json())["incomplete"] is True
    assert BenchRecord.from_json(written.to_json()) == written


def test_a_metric_is_measured_once() -> None:
    with pytest.raises(ValueError, match="'a' is measured twice"):
        record(lower("a", 1), lower("a", 2))


def test_a_record_names_commit_machine_and_time() -> None:
    made = start("parser")
    assert made.commit
    assert "CPUs" in made.machine
    assert "Python" in made.machine
    assert made.started.endswith("+00:00")


def test_outside_a_checkout_the_version_stands_for_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "run", fails)
    assert module.start("parser").commit.startswith("asynclm-protocol ")


def test_without_a_list_of_processors_the_platform_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROCESSORS", tmp_path / "none")
    assert "CPUs" in module.start("parser").machine
