"""One engine in a process of its own for `asynclm bench decode`: this one, or `transformers`, in the same environment.

    python -m asynclm.bench.decode_worker KIND MODEL THREADS

Reads jobs from standard input, one JSON object a line, and answers each with a line `RESULT {...}`. `prompts` and
`new_tokens` give so many tokens of each sequence from when all have their first one, and the seconds they took; `texts`
gives, for each text, the most probable id after each of its tokens; `read` gives the memory's bytes a second.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

RESULT = "RESULT "
"""What a line of results begins with; peers write other lines as they like."""

OURS, ASLEEP, INT8, GENERATE, EAGER = "ours", "asleep", "int8", "generate", "eager"
OUR_KINDS = (OURS, ASLEEP, INT8)
READ_BYTES = 1 << 29
READS = 5
FORCED_TOKENS = 4
"""Tokens of a text computed in one pass: as few as when few sequences are decoded, by the same kernels."""


class Worker(Protocol):
    """Decodes."""

    def decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[int, float]:
        """Greedy tokens for all prompts at once; see the module."""
        ...


class OurWorker:
    """This engine, through `Engine.step` with one request a sequence, greedy, without masks."""

    def __init__(self, model: Path, threads: int, quantize: str | None) -> None:
        from asynclm.engine.torch import open_engine

        self._folder = model
        self._quantize = quantize
        self._engine = open_engine(
            str(model), dtype="bfloat16", device="cpu", threads=threads, quantize=quantize, kv_policy="keep",
            prefix_memory_mib=0, progress=False,
        )  # fmt: skip

    def decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[int, float]:
        """See `Worker.decode`."""
        from asynclm.engine.base import SamplingParams, StepRequest

        sequences = [self._engine.open(prompt, SamplingParams()) for prompt in prompts]
        requests = [StepRequest(sequence) for sequence in sequences]
        waiting = set(sequences)
        while waiting:
            waiting -= {sampled.sequence for sampled in self._engine.step(requests)}
        since = time.perf_counter()
        tokens = sum(len(self._engine.step(requests)) for _ in range(new_tokens))
        seconds = time.perf_counter() - since
        for sequence in sequences:
            self._engine.close(sequence)
        return tokens, seconds

    def best(self, texts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The most probable id after each token of each text, computed a few tokens at a time."""
        import torch

        from asynclm.engine.torch.model import Chunk, LlamaModel

        model = LlamaModel.load(self._folder, dtype=torch.bfloat16, device=torch.device("cpu"), quantize=self._quantize)
        found = []
        for ids in texts:
            cache = model.new_cache()
            cache.reserve(len(ids))
            best: list[int] = []
            for start in range(0, len(ids), FORCED_TOKENS):
                part = ids[start : start + FORCED_TOKENS]
                best += model.forward([Chunk(part, start, cache)], range(len(part))).argmax(-1).tolist()
            found.append(best)
        return found


class TransformersWorker:
    """`transformers` in bfloat16, as `from_pretrained` gives it: eager, with scaled dot product attention.

    `generate` is measured with a stopping criterion that takes the time after each token; the plain loop calls the
    model with its default cache and takes the most probable id, which spares what `generate` does around that.
    """

    def __init__(self, model: Path, threads: int, *, generate: bool) -> None:
        import torch
        from transformers import LlamaForCausalLM

        torch.set_num_threads(threads)
        self._model = LlamaForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
        self._generate = generate

    def decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[int, float]:
        """See `Worker.decode`; all prompts are of one length."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([list(prompt) for prompt in prompts])
            times = self._generated(ids, new_tokens) if self._generate else self._looped(ids, new_tokens)
        return len(prompts) * (len(times) - 1), times[-1] - times[0]

    def _generated(self, ids: Any, new_tokens: int) -> list[float]:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        times: list[float] = []

        class Clock(StoppingCriteria):  # type: ignore[misc,no-any-unimported,unused-ignore]
            def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
                times.append(time.perf_counter())
                return torch.zeros(len(input_ids), dtype=torch.bool)

        self._model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=new_tokens + 1,
            max_new_tokens=new_tokens + 1, stopping_criteria=StoppingCriteriaList([Clock()]),
        )  # fmt: skip
        return times

    def _looped(self, ids: Any, new_tokens: int) -> list[float]:
        times = []
        cache = None
        for _ in range(new_tokens + 1):
            result = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = result.past_key_values
            ids = result.logits[:, -1].argmax(-1, keepdim=True)
            times.append(time.perf_counter())
        return times


def read_rate() -> float:
    """Bytes a second at which torch's threads sum a buffer far larger than the caches: the median of some passes."""
    import torch

    buffer = torch.ones(READ_BYTES // 4)
    seconds = []
    for _ in range(READS + 1):
        start = time.perf_counter()
        buffer.sum()
        seconds.append(time.perf_counter() - start)
    return READ_BYTES / statistics.median(seconds[1:])  # the first brings the pages


def answer(worker: Worker, job: dict[str, Any]) -> dict[str, Any]:
    """What a job gives."""
    if "read" in job:
        return {"bytes_per_s": read_rate()}
    if "texts" in job:
        assert isinstance(worker, OurWorker)
        return {"best": worker.best(job["texts"])}
    tokens, seconds = worker.decode(job["prompts"], job["new_tokens"])
    return {"tokens": tokens, "seconds": seconds}


def make(kind: str, model: Path, threads: int) -> Worker:
    """The worker of a kind, one of ours, `GENERATE` or `EAGER`."""
    if kind in OUR_KINDS:
        return OurWorker(model, threads, "int8" if kind == INT8 else None)
    return TransformersWorker(model, threads, generate=kind == GENERATE)


def main() -> None:
    """Opens the model, says so, and answers jobs until standard input ends."""
    kind, model, threads = sys.argv[1:]
    worker = make(kind, Path(model), int(threads))
    print(RESULT + "{}", flush=True)
    for line in sys.stdin:
        print(RESULT + json.dumps(answer(worker, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
