"""The two servers that `bench wire` compares: `python -m asynclm.bench.wire_server ours | bare`.

*ours* is the whole server on the scripted engine, which stamps each token with the time of its step where log-
probabilities are asked for. *bare* is a stream of the same kind and nothing else: messages that were serialised before
the run, yielded from one coroutine.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from asynclm.bench.processes import READY
from asynclm.engine import scripted
from asynclm.engine.base import Sampled, StepRequest
from asynclm.engine.scripted import ScriptedEngine
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.session.config import Limits

BARE_METHOD = "/asynclm.bench.Bare/Stream"
PLENTY = 1 << 40
"""More than any run spends."""


class StampingEngine(ScriptedEngine):
    """The scripted engine; log-probabilities are the time of the step, in seconds of the machine's monotonic clock."""

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        """Plays and stamps."""
        sampled = super().step(requests)
        if all(token.logprob is None for token in sampled):
            return sampled
        now = time.monotonic()
        return [Sampled(token.sequence, token.token_id, now) for token in sampled]


def stamping_engine() -> StampingEngine:
    """The engine of `ours`, on a byte tokenizer."""
    plain = scripted.open_engine()
    return StampingEngine(tokenizer=plain.tokenizer, codec=plain.codec, template=plain.template, context_length=PLENTY)


async def serve_ours() -> None:
    """Serves scripts until the process is told to stop."""
    limits = Limits(max_new_tokens=PLENTY, max_block_tokens=PLENTY, context_length=PLENTY)
    async with Server(stamping_engine(), ServerOptions(port=0, session_limits=limits, drain_seconds=0.0)) as server:
        print(f"{READY}{server.address}", flush=True)
        await server.serve_until_signal()


async def serve_bare() -> None:
    """Serves streams: the client's first message is what to send, each with its length; its second is how many."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.stream_stream_rpc_method_handler(_stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("asynclm.bench.Bare", {"Stream": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"{READY}127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


async def _stream(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    messages = _split(await anext(requests))
    yield messages[0]
    count = int(await anext(requests))
    for message in itertools.islice(itertools.cycle(messages), count):
        yield message
    async for request in requests:  # an echo: what the round trip of one message takes
        yield request


def joined(messages: Sequence[bytes]) -> bytes:
    """Messages as one."""
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def _split(data: bytes) -> list[bytes]:
    messages, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        messages.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return messages


if __name__ == "__main__":
    asyncio.run(serve_ours() if sys.argv[1] == "ours" else serve_bare())
