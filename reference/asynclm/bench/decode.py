"""Tokens a second of plain greedy decoding, beside other engines on the same weights, prompts and threads.

Each engine is a process of its own with the same bfloat16 safetensors folder; in each round all of them decode the same
prompts one after another, while the others are stopped, so that a ratio is one of neighbours in time. A rate counts so
many tokens of each sequence from when all have their first one: prefill is left out. Ours is measured through
`Engine.step`, vLLM inside a process through its own engine's step (without its server and with both cores, which is
faster than served), transformers through `generate` with prompts of equal length in one batch.

OpenMP's threads spin between two parallel regions, ours (`OMP_WAIT_POLICY=ACTIVE`) and the peers' by their defaults: an
engine has the cores to itself here. `asynclm serve` lets them sleep, as tools want the cores too: `asleep` is that.

"Stock eager bfloat16" (`eager`) is a plain loop over transformers' model in bfloat16 with its default cache, with the
most probable id taken each time: torch's own products, without what `generate` does around them.
"""

from __future__ import annotations

import pydoc_data.topics
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from asynclm.bench.decode_worker import ASLEEP, EAGER, GENERATE, INT8, OUR_KINDS, OURS
from asynclm.bench.peers import PEERS_FOLDER, PeerError, vllm_environment, vllm_variables
from asynclm.bench.record import BenchRecord, Better, Metric, metric, start
from asynclm.bench.workers import WorkerProcess, iomp_of

VLLM = "vllm"
THREADS = 2
COUNTS = (1, 8, 16)
PROMPT_TOKENS = 128
NEW_TOKENS = 64
LONG_PROMPT_TOKENS = 512
"""A second length, without a floor: attention weighs more there."""

ROUNDS = 15
QUICK_ROUNDS = 3
START_TIMEOUT_S = 400.0
FLOORS = {GENERATE: 1.5, VLLM: 1.0}
NAMES = {GENERATE: "transformers"}
INT8_VS_EAGER_FLOOR = 1.6
INT8_VS_BF16_FLOOR = 1.0
BANDWIDTH_GOAL = 0.5
TEXTS = 8
TEXT_TOKENS = 256

Rates = dict[tuple[str, int, int], list[float]]
"""Tokens a second in each round, by engine, sequences and prompt tokens."""


def run(*, quick: bool = False, without_peers: bool = False) -> BenchRecord:
    """Measures rates and ratios; a peer that is not there leaves its ratios without a value.

    Args:
        quick: three rounds.
        without_peers: start neither transformers nor vLLM.
    """
    record = start("decode")
    console = Console(stderr=True)
    folder, ids = _model()
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rates: Rates = {}
    read: list[float] = []
    with ExitStack() as stack:
        workers = _start_all(stack, folder, without_peers, console)
        for number in track(range(rounds + 1), "Decoding", console=console, transient=True):
            this_round = _round(workers, ids, number)
            this_read = workers[OURS].ask({"read": True})["bytes_per_s"]
            if number:  # the first warms up
                read.append(this_read)
                for key, rate in this_round.items():
                    rates.setdefault(key, []).append(rate)
        agreed = _agreement(workers[OURS], workers[INT8], ids)
    weight_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return replace(record, metrics=tuple(metrics(rates, read, weight_bytes, agreed)))


def metrics(rates: Rates, read: Sequence[float], weight_bytes: int, agreed: Sequence[float]) -> Iterator[Metric]:
    """The metrics of a run.

    Args:
        rates: of each engine that was measured, with as many rounds for each.
        read: bytes of memory read a second, in the same rounds.
        weight_bytes: bytes of weights, all of which a step reads.
        agreed: for each text, the share of positions where int8 and bfloat16 have one most probable id.
    """

    def of(engine: str, count: int, length: int = PROMPT_TOKENS) -> list[float]:
        return rates.get((engine, count, length), [])

    def ratio(name: str, over: Sequence[float], under: Sequence[float], floor: float | None) -> Metric:
        values = [a / b for a, b in zip(over, under, strict=True)] if over and under else []
        return metric(name, values, unit="1", better=Better.HIGHER, floor=floor)

    for engine, floor in FLOORS.items():
        for count in COUNTS:
            name = f"vs_{NAMES.get(engine, engine)}_{count}"
            yield ratio(name, of(OURS, count), of(engine, count), floor)
    for count in COUNTS:
        ours, theirs = of(OURS, count, LONG_PROMPT_TOKENS), of(VLLM, count, LONG_PROMPT_TOKENS)
        yield ratio(f"vs_vllm_{count}_at_{LONG_PROMPT_TOKENS}", ours, theirs, None)
    yield ratio("int8_vs_eager_1", of(INT8, 1), of(EAGER, 1), INT8_VS_EAGER_FLOOR)
    yield ratio("int8_vs_best_bf16_1", of(INT8, 1), of(OURS, 1), INT8_VS_BF16_FLOOR)
    ceilings = [bytes_per_s / weight_bytes for bytes_per_s in read]
    yield ratio("of_bandwidth_ceiling_1", of(OURS, 1), ceilings, BANDWIDTH_GOAL)
    yield metric(
        "int8_top1_agreement", agreed, unit="1", better=Better.HIGHER, floor=None, samples=len(agreed) * TEXT_TOKENS
    )
    gigabytes = [bytes_per_s / 1e9 for bytes_per_s in read]
    yield metric("memory_read", gigabytes, unit="GB/s", better=Better.HIGHER, floor=None)
    for (engine, count, length), values in sorted(rates.items()):
        name = f"{NAMES.get(engine, engine)}_{count}" + ("" if length == PROMPT_TOKENS else f"_at_{length}")
        yield metric(name, values, unit="tokens/s", better=Better.HIGHER, floor=None)


def _round(workers: Mapping[str, WorkerProcess], ids: Sequence[int], number: int) -> dict[tuple[str, int, int], float]:
    """One rate for each engine and case; who begins changes from round to round."""
    rates = {}
    for length in (PROMPT_TOKENS, LONG_PROMPT_TOKENS):
        for count in COUNTS:
            here = [engine for engine in workers if _takes_part(engine, count, length)]
            turn = number % len(here)
            job = {"prompts": _prompts(ids, count, length), "new_tokens": NEW_TOKENS}
            for engine in here[turn:] + here[:turn]:
                result = workers[engine].ask(job)
                rates[engine, count, length] = result["tokens"] / result["seconds"]
    return rates


def _takes_part(engine: str, count: int, length: int) -> bool:
    if engine in (INT8, EAGER):
        return count == 1 and length == PROMPT_TOKENS
    return length == PROMPT_TOKENS or engine in (OURS, VLLM)


def _prompts(ids: Sequence[int], count: int, length: int) -> list[list[int]]:
    """Stretches of the text, each from another place."""
    return [list(ids[place * 37 : place * 37 + length]) for place in range(count)]


def _agreement(plain: WorkerProcess, int8: WorkerProcess, ids: Sequence[int]) -> list[float]:
    """The share of positions with one most probable id, for each text, given the text before."""
    texts = [list(ids[place * TEXT_TOKENS : (place + 1) * TEXT_TOKENS]) for place in range(TEXTS)]
    found = [worker.ask({"texts": texts})["best"] for worker in (plain, int8)]
    return [statistics.fmean(a == b for a, b in zip(*pair, strict=True)) for pair in zip(*found, strict=True)]


def _model() -> tuple[Path, list[int]]:
    """The embedded model's folder, and ids of real text: the reference of Python's own help."""
    from asynclm.engine.torch import DEFAULT_MODEL
    from asynclm.engine.torch.manager import resolve_model
    from asynclm.prompt.hf_tokenizer import HfTokenizer

    folder = resolve_model(DEFAULT_MODEL).folder
    names = sorted(pydoc_data.topics.topics)
    text = "\n\n".join(pydoc_data.topics.topics[name] for name in names)[: TEXTS * TEXT_TOKENS * 8]
    return folder, HfTokenizer.from_folder(folder).encode(text)


def _start_all(stack: ExitStack, folder: Path, without_peers: bool, console: Console) -> dict[str, WorkerProcess]:
    """Starts all engines, and says of each peer that does not start why."""
    workers = {}
    for engine in (*OUR_KINDS, *(() if without_peers else (GENERATE, EAGER, VLLM))):
        try:
            worker = _start_vllm(folder) if engine == VLLM else _start_own(engine, folder)
            stack.callback(worker.end)
            worker.ready(START_TIMEOUT_S)
        except PeerError as error:
            if engine in OUR_KINDS:
                raise
            console.print(str(error), style="red", markup=False, highlight=False)
        else:
            workers[engine] = worker
    return workers


def _start_own(engine: str, folder: Path) -> WorkerProcess:
    command = [sys.executable, "-m", "asynclm.bench.decode_worker", engine, str(folder), str(THREADS)]
    variables = {"OMP_WAIT_POLICY": "PASSIVE" if engine == ASLEEP else "ACTIVE"} if engine in OUR_KINDS else {}
    return WorkerProcess(NAMES.get(engine, engine), command, variables)


def _start_vllm(folder: Path) -> WorkerProcess:
    environment = vllm_environment()
    command = [str(environment / "bin" / "python"), str(PEERS_FOLDER / "vllm_decode.py"), str(folder)]
    variables = {**vllm_variables(THREADS), "VLLM_LOGGING_LEVEL": "WARNING", **iomp_of(environment)}
    return WorkerProcess("vLLM", command, variables)
