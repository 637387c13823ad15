"""Measures vLLM's decode rate for `asynclm bench decode`; runs in vLLM's own environment, and knows nothing of asynclm.

    python vllm_decode.py MODEL

Reads jobs from standard input, one JSON object a line, and answers each with a line `RESULT {...}`:
`{"prompts": [[id, ...], ...], "new_tokens": n}` gives `{"tokens": n, "seconds": s}`: so many tokens of each
sequence from when all have their first one, and the time they took. vLLM runs inside this process, without its server,
which gives it both of two cores.
"""

from __future__ import annotations

import json
import os
import sys
import time

LONGEST = 1024
"""Tokens that a sequence may have; more than are measured, as the first sequence begins before the last."""

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def main() -> None:
    """Opens the model, says so, and answers jobs until standard input ends."""
    from vllm import LLM

    # Longest context and sequences are enough for every job; more would cost memory only.
    engine = LLM(
        sys.argv[1], dtype="bfloat16", gpu_memory_utilization=0.3, max_model_len=2048, max_num_seqs=32, seed=0
    ).llm_engine
    print("RESULT {}", flush=True)
    for number, line in enumerate(sys.stdin):
        job = json.loads(line)
        print("RESULT " + json.dumps(decode(engine, number, job["prompts"], job["new_tokens"])), flush=True)


def decode(engine, number, prompts, new_tokens):
    """Decodes greedily, past ends of sequence, and drops the sequences when enough is measured."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0, max_tokens=LONGEST, ignore_eos=True, detokenize=False)
    names = {
        engine.add_request(f"{number}-{place}", {"prompt_token_ids": p}, params) for place, p in enumerate(prompts)
    }
    counts = {}
    while len(counts) < len(names):
        counts |= {output.request_id: len(output.outputs[0].token_ids) for output in engine.step()}
    since = time.perf_counter()
    before = dict(counts)
    while min(counts[name] - before[name] for name in counts) < new_tokens:
        counts |= {output.request_id: len(output.outputs[0].token_ids) for output in engine.step()}
    seconds = time.perf_counter() - since
    if max(counts.values()) >= LONGEST:
        raise RuntimeError(f"a sequence had all of its {LONGEST} tokens before the others had {new_tokens}: {counts}")
    engine.abort_request(list(counts))
    while engine.has_unfinished_requests():
        engine.step()
    return {"tokens": sum(counts.values()) - sum(before.values()), "seconds": seconds}


if __name__ == "__main__":
    main()
