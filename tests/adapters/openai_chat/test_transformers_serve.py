"""The adapter on somebody else's server: `transformers serve` with SmolLM2-135M."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from asynclm.client import AsyncLM, Finished, InterruptCommitted, Tokens
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm_adapters.openai_chat import open_engine

pytestmark = [pytest.mark.slow, pytest.mark.weights]

READY = "Application startup complete"


@pytest.fixture(scope="module")
def base_url(smollm2_dir: Path) -> Iterator[str]:
    """The server as a process; it loads the model before it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ("--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--log-level", "info")
    main = "from transformers.cli.transformers import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", main, "serve", str(smollm2_dir), *place],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if READY in line:
                break
        else:
            pytest.fail(f"transformers serve ended with {process.wait()}: {''.join(said)[-2000:]}")
        draining = threading.Thread(target=process.stdout.read)  # nothing that it says later may block it
        draining.start()
        yield f"http://127.0.0.1:{port}/v1"
        process.terminate()
        draining.join()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.fixture
async def llm(base_url: str, smollm2_dir: Path) -> AsyncIterator[AsyncLM]:
    engine = open_engine(str(smollm2_dir), base_url=base_url, api_key="any", interrupt_role="user", context_length=2048)
    async with Server(engine, ServerOptions(port=0)) as server, AsyncLM(f"localhost:{server.port}") as opened:
        yield opened


async def test_a_session_runs_to_its_end(llm: AsyncLM) -> None:
    async with llm.session("What is the capital of France?", max_new_tokens=60) as session:
        result = await session.result()
    assert "Paris" in result.text
    assert result.finished.reason.name == "STOP"


async def test_a_person_interrupts_and_the_next_request_has_what_they_said(llm: AsyncLM) -> None:
    """Credit holds the session back until the interrupt is there, so that nothing depends on the server's speed."""
    before, after = "", ""
    committed = False
    async with llm.session("Tell me a long story about a fox.", credit=8, max_new_tokens=80) as session:
        accepted = False
        async for event in session:
            match event.report:
                case Tokens(text=text) if committed:
                    after += text
                case Tokens(text=text):
                    before += text
                    if not accepted and event.token_index is not None and event.token_index >= 4:
                        accepted = True
                        await session.interrupt("Stop. What is the capital of France?")
                        await session.grant(72)
                case InterruptCommitted(source="@user"):
                    committed = True
                case Finished(reason=reason, hosted=hosted):
                    assert reason.name in ("STOP", "LENGTH")
                    assert hosted is not None
                    assert hosted.requests == 2
    assert before
    assert committed
    assert after


async def test_what_the_server_refuses_is_told(base_url: str) -> None:
    engine = open_engine("another-model", base_url=base_url, api_key="any", interrupt_role="user")
    async with (
        Server(engine, ServerOptions(port=0)) as server,
        AsyncLM(f"localhost:{server.port}") as llm,
        llm.session("Hi", max_new_tokens=5) as session,
    ):
        result = await session.result()
    assert result.finished.reason.name == "ENGINE_ERROR"
    assert "answered 400" in result.finished.message
