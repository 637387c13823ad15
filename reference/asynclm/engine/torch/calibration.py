"""Measures what it costs here to bring a KV cache back, once for each machine and kind of model.

Lengths are doubled for as long as the budget lasts, so that a large model on a slow machine is not waited for; what is
measured is kept in the cache folder, under all that it depends on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asynclm.engine.torch.cache import cached, publish
from asynclm.engine.torch.cost_curves import CostCurves, Sample
from asynclm.engine.torch.kv_policy import KvPolicy, make_policy
from asynclm.engine.torch.model import Chunk, LlamaModel
from asynclm.engine.torch.swap import SwapStore

BUDGET_S = 1.5
"""What one calibration may take, or so: a length that would probably take longer than what is left is not begun."""

TOO_SLOW = 1.5
"""Curves that say this many times what a short context takes now were measured on a busy machine: once more, then."""

SHORTEST = 32
LONGEST = 8192
_REPEATED_MS = 50.0
_FORM = 1  # raise it when what is measured, or how, changes
_FILE = "curves.json"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Measured curves, and whether they were measured just now or found in the cache."""

    curves: CostCurves
    measured: bool


def open_policy(
    name: str,
    model: LlamaModel,
    swap: SwapStore,
    *,
    step_tokens: int,
    context_length: int,
    variant: Mapping[str, str],
    progress: bool = True,
) -> tuple[KvPolicy, CostCurves | None]:
    """The policy of this name; measures costs first if it goes by them, and says so on standard error.

    Args:
        name: one of `options.KV_POLICIES`.
        model: what recomputing is measured with.
        swap: what swapping is measured with.
        step_tokens: tokens that one step recomputes.
        context_length: the longest context there can be.
        variant: what else the costs depend on, as quantisation or the folder that is swapped to.
        progress: whether to say that costs are being measured.

    Returns:
        The policy, and the curves it goes by, or None.
    """
    if name != "auto":
        return make_policy(name), None
    key = cost_key(model, step_tokens=step_tokens, variant=variant)

    def measure() -> CostCurves:
        if progress:
            Console(stderr=True).print("Measuring what bringing a KV cache back costs here (once)", highlight=False)
        return measure_costs(model, swap, step_tokens=step_tokens, context_length=context_length)

    def outdated(curves: CostCurves) -> bool:
        tokens = min(SHORTEST, context_length)
        now = measure_costs(model, swap, step_tokens=step_tokens, context_length=tokens)
        return TOO_SLOW * now.recompute(tokens) < curves.recompute(tokens)

    curves = calibrated(key, measure, outdated).curves
    return make_policy(name, curves), curves


def calibrated(
    key: Mapping[str, Any],
    measure: Callable[[], CostCurves],
    outdated: Callable[[CostCurves], bool] = lambda curves: False,
) -> Calibrated:
    """The curves of a key: from the cache folder, else measured and put there.

    An entry that cannot be read is measured anew; a folder that cannot be written is done without.

    Args:
        key: everything that they depend on, as JSON has it.
        measure: measures them.
        outdated: whether curves that were found should be measured anew.
    """
    text = json.dumps(key, sort_keys=True)
    entry = f"kv-costs-{hashlib.sha256(text.encode()).hexdigest()[:16]}-{_FORM}"
    folder = cached(entry)
    if folder is not None:
        with contextlib.suppress(OSError, ValueError):
            found = _read(folder / _FILE)
            if not outdated(found):
                return Calibrated(found, measured=False)
        shutil.rmtree(folder, ignore_errors=True)
    curves = measure()

    def build(target: Path) -> None:
        body = {"key": dict(key), "curves": curves.to_json()}
        (target / _FILE).write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")

    with contextlib.suppress(OSError):
        publish(entry, build)
    return Calibrated(curves, measured=True)


def cost_key(model: LlamaModel, *, step_tokens: int, variant: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the costs depend on: sizes of the model, not its weights."""
    device = model.device
    return {
        "model": dataclasses.asdict(model.config),
        "dtype": str(model.dtype),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "torch": torch.__version__,
        "step_tokens": step_tokens,
        "variant": dict(variant),
    }


def measure_costs(
    model: LlamaModel,
    swap: SwapStore,
    *,
    step_tokens: int,
    context_length: int,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> CostCurves:
    """Measures both ways back over contexts of doubling length.

    Args:
        model: the loaded model.
        swap: the store that caches go to.
        step_tokens: tokens that one step recomputes.
        context_length: no longer context is measured.
        budget_s: seconds after which no further length is begun.
        clock: seconds.
    """
    stopwatch = _Stopwatch(model, clock)
    _prefill(model, 1, step_tokens)  # whatever is set up at first use is not part of the costs
    recompute: list[Sample] = []
    swapped: list[Sample] = []
    end = clock() + budget_s
    tokens = min(SHORTEST, context_length)
    while True:
        cache, again_ms = stopwatch.fastest(functools.partial(_prefill, model, tokens, step_tokens))
        recompute.append((tokens, again_ms))
        rows = cache.rows[:, :, :, :tokens]
        _, moved_ms = stopwatch.fastest(functools.partial(_there_and_back, swap, rows))
        swapped.append((tokens, moved_ms))
        tokens *= 2
        left_ms = (end - clock()) * 1000
        if tokens > min(context_length, LONGEST) or left_ms < 2.4 * (again_ms + moved_ms):
            return CostCurves.fit(recompute=recompute, swap=swapped)


class _Stopwatch:
    """Takes the time of work on a device."""

    def __init__(self, model: LlamaModel, clock: Callable[[], float]) -> None:
        self._device = model.device
        self._clock = clock

    def fastest(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """The work's result and its time in milliseconds: the shorter of two rounds if it is short.

        The shorter, since everything that disturbs a measurement makes it longer.
        """
        result, time_ms = self._once(work)
        if time_ms < _REPEATED_MS:
            result, again_ms = self._once(work)
            time_ms = min(time_ms, again_ms)
        return result, time_ms

    def _once(self, work: Callable[[], Any]) -> tuple[Any, float]:
        start = self._now()
        result = work()
        return result, max(1e-3, (self._now() - start) * 1000)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock()


def _prefill(model: LlamaModel, tokens: int, step_tokens: int) -> Any:
    """Computes a context step by step, as a resumed sequence is."""
    cache = model.new_cache()
    cache.reserve(tokens)
    for start in range(0, tokens, step_tokens):
        length = min(step_tokens, tokens - start)
        ids = [(7 * place + 3) % model.config.vocab_size for place in range(start, start + length)]
        model.forward([Chunk(ids, start, cache)], [length - 1])
    return cache


def _there_and_back(swap: SwapStore, rows: torch.Tensor) -> None:
    handle = swap.put(rows)
    try:
        swap.get(handle)
    finally:
        swap.free(handle)


def _read(path: Path) -> CostCurves:
    found = json.loads(path.read_text(encoding="utf-8"))
    return CostCurves.from_json(found.get("curves") if isinstance(found, dict) else None)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
