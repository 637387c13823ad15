"""The arithmetic of `bench decode` on made-up rates, its workers' errors, and its own engine's worker on a tiny job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asynclm.bench import decode
from asynclm.bench.decode import LONG_PROMPT_TOKENS, NEW_TOKENS, PROMPT_TOKENS, Rates, metrics
from asynclm.bench.decode_worker import ASLEEP, EAGER, GENERATE, INT8, OURS, OurWorker, TransformersWorker, answer
from asynclm.bench.peers import PEERS_FOLDER, VLLM_VARIABLE, PeerError
from asynclm.bench.record import Metric
from asynclm.bench.workers import WorkerProcess

WEIGHT_BYTES = 10**9


def rates_of(**values: list[float]) -> Rates:
    """`ours_8=[…]` as a key of rates."""
    return {(name.rsplit("_", 1)[0], int(name.rsplit("_", 1)[1]), PROMPT_TOKENS): v for name, v in values.items()}


def by_name(rates: Rates, read: list[float]) -> dict[str, Metric]:
    return {m.name: m for m in metrics(rates, read, WEIGHT_BYTES, [0.5, 1.0, 1.0])}


def test_ratios_are_of_one_round_each() -> None:
    rates = rates_of(ours_1=[10, 20, 40], generate_1=[5, 20, 10], vllm_1=[20, 40, 80], int8_1=[20, 50, 100])
    rates |= rates_of(eager_1=[5, 10, 25])
    rates["ours", 8, LONG_PROMPT_TOKENS] = [3, 3, 3]
    rates["vllm", 8, LONG_PROMPT_TOKENS] = [2, 1, 1]
    found = by_name(rates, [20e9, 50e9, 100e9])
    assert found["vs_transformers_1"].value == 2  # of 2, 1 and 4
    assert found["vs_transformers_1"].spread == (1, 4)
    assert found["vs_vllm_1"].value == 0.5
    assert not found["vs_vllm_1"].met
    assert found["vs_vllm_8_at_512"].value == 3
    assert found["int8_vs_eager_1"].value == 4
    assert found["int8_vs_best_bf16_1"].value == 2.5
    assert found["of_bandwidth_ceiling_1"].value == 0.4  # of 10 / 20, 20 / 50 and 40 / 100
    assert found["int8_top1_agreement"].value == 1
    assert found["memory_read"].value == 50
    assert found["transformers_1"].value == 10
    assert found["ours_8_at_512"].unit == "tokens/s"


def test_peers_that_are_missing_leave_their_ratios_without_a_value() -> None:
    found = by_name(rates_of(ours_1=[10], ours_8=[10], ours_16=[10], int8_1=[20]), [20e9])
    missing = {name for name, m in found.items() if m.value is None}
    assert missing == {
        *(f"vs_{peer}_{count}" for peer in ("transformers", "vllm") for count in (1, 8, 16)),
        *(f"vs_vllm_{count}_at_512" for count in (1, 8, 16)),
        "int8_vs_eager_1",
    }
    assert not any(found[name].met for name in missing if found[name].floor is not None)


def test_every_engine_begins_in_turn_with_the_same_prompts() -> None:
    asked: list[tuple[str, int, int]] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def ask(self, job: dict[str, Any]) -> dict[str, Any]:
            assert job["new_tokens"] == NEW_TOKENS
            assert len({tuple(prompt) for prompt in job["prompts"]}) == len(job["prompts"])
            asked.append((self.name, len(job["prompts"]), len(job["prompts"][0])))
            return {"tokens": 30, "seconds": 2.0}

    workers: Any = {name: Fake(name) for name in (OURS, ASLEEP, INT8, GENERATE, EAGER, decode.VLLM)}
    first = decode._round(workers, range(5000), 0)
    assert set(first.values()) == {15}
    assert set(first) == set(asked)
    assert (INT8, 8, PROMPT_TOKENS) not in first
    assert (GENERATE, 16, LONG_PROMPT_TOKENS) not in first
    begins = []
    for number in range(6):
        asked.clear()
        decode._round(workers, range(5000), number)
        begins.append(asked[0][0])
    assert sorted(begins) == sorted(workers)


def test_a_missing_peer_is_told_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from contextlib import ExitStack

    from rich.console import Console

    monkeypatch.setenv(VLLM_VARIABLE, str(tmp_path))
    ready = [sys.executable, "-c", "print('RESULT {}', flush=True); input()"]
    monkeypatch.setattr(decode, "_start_own", lambda engine, folder: WorkerProcess(engine, ready))
    with ExitStack() as stack:
        workers = decode._start_all(stack, tmp_path, False, Console(stderr=True, width=300))
        assert set(workers) == {OURS, ASLEEP, INT8, GENERATE, EAGER}
    assert "setup_vllm.sh" in capsys.readouterr().err
    with ExitStack() as stack:
        assert set(decode._start_all(stack, tmp_path, True, Console(stderr=True))) == {OURS, ASLEEP, INT8}


def worker(program: str) -> WorkerProcess:
    return WorkerProcess("a peer", [sys.executable, "-c", program])


def test_a_worker_answers_and_other_lines_are_passed_over() -> None:
    answers = "for line in sys.stdin: print('x\\nRESULT', line, flush=True)"
    program = f"import sys\nprint('loading'); print('RESULT {{}}', flush=True)\n{answers}"
    process = worker(program)
    try:
        process.ready(60)
        assert process.ask({"n": 1}) == {"n": 1}
        assert process.ask({"n": [2]}) == {"n": [2]}
        state = Path(f"/proc/{process._process.pid}/stat")
        if state.exists():  # stopped, or about to be
            while state.read_text().rpartition(")")[2].split()[0] != "T":
                pass
    finally:
        process.end()
    assert process._process.returncode is not None


def test_a_worker_that_ends_is_told_with_what_it_wrote() -> None:
    process = worker("import sys; print('half way'); sys.exit('no memory')")
    with pytest.raises(PeerError, match=r"a peer ended; .*\nhalf way\nno memory"):
        process.ready(60)
    with pytest.raises(PeerError, match="a peer ended"):
        process.ask({})
    process.end()


def test_a_worker_that_never_answers_is_ended() -> None:
    process = worker("import time; time.sleep(600)")
    with pytest.raises(PeerError, match="a peer gave no result in 0 s"):
        process.ready(0)
    process.end()


def test_vllms_script_stands_alone() -> None:
    script = PEERS_FOLDER / "vllm_decode.py"
    assert "import asynclm" not in script.read_text()
    assert "from asynclm" not in script.read_text()
    done = subprocess.run([sys.executable, str(script), "x"], capture_output=True, text=True, check=False)
    assert "No module named 'vllm'" in done.stderr


@pytest.mark.weights
def test_both_workers_decode_the_same_tokens_in_number(smollm2_dir: Path) -> None:
    prompts = [list(range(100, 130)), list(range(300, 330))]
    job = {"prompts": prompts, "new_tokens": 4}
    ours = OurWorker(smollm2_dir, 2, None)
    for each in (ours, *(TransformersWorker(smollm2_dir, 2, generate=generate) for generate in (False, True))):
        result = json.loads(json.dumps(answer(each, job)))
        assert result["tokens"] == 2 * 4
        assert result["seconds"] > 0
    (best,) = answer(ours, {"texts": [prompts[0]]})["best"]
    assert len(best) == 30
