"""An interrupt the way of servers that have none: the stream is closed, and the request sent anew with more in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from random import Random
from typing import Any

import torch

from asynclm.bench.interrupt_server import payload
from asynclm.bench.peers import PeerError, VllmServer, post, start_vllm
from asynclm.cml.binding import bind
from asynclm.cml.control import Status
from asynclm.engine.torch.manager import DEFAULT_MODEL, resolve_model
from asynclm.prompt.hf_tokenizer import HfTokenizer

SEED = 20241209
MOST_TOKENS = 1500
BETWEEN = (3, 9)
"""Tokens that are read before each interrupt, at random."""


def delays(counts: Sequence[int], prompt_tokens: int, samples: int) -> Mapping[int, list[float]]:
    """Seconds from closing a stream of vLLM's to the first token of the next, by number of streams.

    Args:
        counts: numbers of streams at once; one of them is interrupted, the others run on.
        prompt_tokens: length of the prompts.
        samples: interrupts for each number.

    Raises:
        PeerError: vLLM is not there, or does not answer as expected.
    """
    folder = resolve_model(DEFAULT_MODEL, progress=False).folder
    tokenizer = HfTokenizer.from_folder(folder)
    injected = list(bind(tokenizer).frame("@user", Status.OK, payload("running", 1)))
    with start_vllm(folder, threads=torch.get_num_threads()) as server:
        return {count: _delays(server, count, prompt_tokens, samples, injected) for count in counts}


def _delays(server: VllmServer, count: int, prompt_tokens: int, samples: int, injected: Sequence[int]) -> list[float]:
    random = Random(f"{SEED} {count}")
    prompts = [[random.randrange(2000, 20000) for _ in range(prompt_tokens)] for _ in range(count)]
    over = threading.Event()
    others = [threading.Thread(target=_run_on, args=(server, prompt, over), daemon=True) for prompt in prompts[1:]]
    for other in others:
        other.start()
    try:
        return _resubmit(server, prompts[0], samples, injected, random)
    finally:
        over.set()
        for other in others:
            other.join()


def _run_on(server: VllmServer, prompt: Sequence[int], over: threading.Event) -> None:
    while not over.is_set():
        with closing(_stream(server, prompt)) as stream:
            for _ in stream:
                if over.is_set():
                    return


def _resubmit(
    server: VllmServer, prompt: Sequence[int], samples: int, injected: Sequence[int], random: Random
) -> list[float]:
    found: list[float] = []
    ids = list(prompt)
    stream = _stream(server, ids)
    for number in range(samples + 1):
        for _ in range(random.randint(*BETWEEN)):
            ids += next(stream)
        time.sleep(random.uniform(0.0, 0.02))
        began = time.monotonic()
        stream.close()
        if len(ids) > MOST_TOKENS:
            ids = list(prompt)
        ids += injected
        stream = _stream(server, ids)
        ids += next(stream)
        if number:  # the first finds nothing in any cache
            found.append(time.monotonic() - began)
    stream.close()
    return found


def _stream(server: VllmServer, ids: Sequence[int]) -> Any:
    body = {"prompt": list(ids), "max_tokens": 4096 - len(ids), "temperature": 0, "ignore_eos": True}
    return _ids(post(server, "/v1/completions", {**body, "stream": True, "return_token_ids": True}))


def _ids(answer: Iterator[dict[str, Any]]) -> Iterator[list[int]]:
    for part in answer:
        ids = part["choices"][0].get("token_ids")
        if ids:
            yield list(ids)
    raise PeerError("vLLM ended a stream that was to go on")
