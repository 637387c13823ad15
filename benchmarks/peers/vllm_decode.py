"""Measures vLLM's decode rate for `asynclm bench decode`; runs in vLLM's own environment, and knows nothing of asynclm.

    python vllm_decode.py MODEL

Reads jobs from standard input, one JSON object a line, and answers each with a line `RESULT {...}`:
`{"prompts": [[id, ...], ...], "new_tokens": n}` gives `{"tokens": n, "seconds": s}`: the tokens from when every
sequence has its first one to when the first has all of its, and the time they took. vLLM runs inside this process,
without its server, which gives it both of two cores; its scheduler's steps are counted as they come.
"""

from __future__ import annotations

import json
import os
import sys
import time

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
    """Decodes greedily; every sequence gets all its tokens, whatever they are."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False)
    for place, prompt in enumerate(prompts):
        engine.add_request(f"{number}-{place}", {"prompt_token_ids": prompt}, params)
    counts = {}
    since = seconds = 0.0
    tokens = before = 0
    while engine.has_unfinished_requests():
        for output in engine.step():
            counts[output.request_id] = len(output.outputs[0].token_ids)
        if not since and len(counts) == len(prompts):
            since = time.perf_counter()
            before = sum(counts.values())
        if since and not seconds and max(counts.values()) == new_tokens:
            seconds = time.perf_counter() - since
            tokens = sum(counts.values()) - before
    if list(counts.values()) != [new_tokens] * len(prompts):
        raise RuntimeError(f"{len(prompts)} sequences of {new_tokens} tokens were asked for, and vLLM gave {counts}")
    return {"tokens": tokens, "seconds": seconds}


if __name__ == "__main__":
    main()
