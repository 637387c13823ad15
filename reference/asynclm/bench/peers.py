"""Peers to compare with, each in an environment of its own: where it is, and vLLM's server started and ended.

The environments are made by scripts under `benchmarks/peers`. Nothing here is imported from a peer.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VLLM_VARIABLE = "ASYNCLM_VLLM_VENV"
"""Environment variable that names vLLM's environment, where it does not lie in its usual place."""

SET_UP_VLLM = "benchmarks/peers/setup_vllm.sh"
PEERS_FOLDER = Path(__file__).parents[3] / "benchmarks" / "peers"
START_TIMEOUT_S = 300.0
"""vLLM compiles the model at its first start, which takes about a minute; later it finds that in its cache."""

STOP_TIMEOUT_S = 20.0
LOG_TAIL = 3000


class PeerError(RuntimeError):
    """A peer cannot be measured; the message says why and what to do."""


class MissingPeerError(PeerError):
    """A peer's environment is not there; the message names the script that makes it."""


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A running vLLM server.

    Attributes:
        base_url: `http://127.0.0.1:PORT`; the OpenAI API is below it, at `/v1`.
        model: the name to ask it for.
        log: the file it writes its output to; removed with the server.
        pid: its process; its engine is a child of it.
    """

    base_url: str
    model: str
    log: Path
    pid: int


def vllm_environment() -> Path:
    """The folder of vLLM's virtual environment.

    Raises:
        MissingPeerError: it is not there.
    """
    named = os.environ.get(VLLM_VARIABLE)
    folder = Path(named).expanduser() if named else PEERS_FOLDER / ".venv-vllm"
    if not (folder / "bin" / "vllm").is_file():
        where = f"${VLLM_VARIABLE} is {str(folder)[:200]!r}, which" if named else f"{folder}"
        raise MissingPeerError(
            f"vLLM: {where} holds no vLLM. Set it up with {SET_UP_VLLM}, name another environment with "
            f"${VLLM_VARIABLE}, or leave peers out with --without-peers"
        )
    return folder


def vllm_variables(threads: int, kv_cache_gib: int = 1) -> dict[str, str]:
    """Environment variables for vLLM on this many CPU threads, in addition to those that are set.

    Its default keeps one CPU free for its server, which on two CPUs halves its decode rate.
    """
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus)),
        "OMP_NUM_THREADS": str(threads),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }


@contextmanager
def start_vllm(
    model: Path,
    *,
    threads: int,
    arguments: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[VllmServer]:
    """Runs `vllm serve` in bfloat16 on CPU while the context lasts.

    Args:
        model: a checkpoint folder.
        threads: CPU threads of its engine.
        arguments: further ones for `vllm serve`. Its prefix cache and chunked prefill are on unless they say otherwise.
        variables: further environment variables.
        timeout_s: how long it may take to answer.

    Yields:
        The server, healthy.

    Raises:
        MissingPeerError: its environment is not there.
        PeerError: it ended, or was not healthy in time; the message has the end of its log.
    """
    program = vllm_environment() / "bin" / "vllm"
    port = _free_port()
    command = [str(program), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "bfloat16", "--gpu-memory-utilization", "0.3", "--served-model-name", "model"]
    command += ["--disable-uvicorn-access-log", *arguments]
    environment = {**os.environ, **vllm_variables(threads), **(variables or {})}
    with tempfile.TemporaryDirectory(prefix="asynclm-vllm-") as folder:
        log = Path(folder) / "vllm.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        try:
            server = VllmServer(f"http://127.0.0.1:{port}", "model", log, process.pid)
            _wait_until_healthy(server, process, timeout_s)
            yield server
        finally:
            end_process_group(process)


def post(server: VllmServer, path: str, body: Mapping[str, Any], timeout_s: float = 120.0) -> Iterator[dict[str, Any]]:
    """Sends a request to a vLLM server and yields the objects of its answer, several if `stream` is asked for.

    Args:
        server: the server.
        path: as `/v1/completions`.
        body: the request, sent as JSON.
        timeout_s: for each read.

    Raises:
        PeerError: the server refused it, or cannot be reached.
    """
    data = json.dumps({"model": server.model, **body}).encode()
    request = urllib.request.Request(server.base_url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            if not body.get("stream"):
                yield json.load(answer)
                return
            for line in answer:
                if line.startswith(b"data: {"):
                    yield json.loads(line.removeprefix(b"data: "))
    except urllib.error.HTTPError as error:
        raise PeerError(f"vLLM refused {path}: {error.code} {error.read(500)!r}") from None
    except OSError as error:
        raise PeerError(f"vLLM at {server.base_url}{path}: {error}") from None


def end_process_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that was started in a session of its own, and all of its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue


def _wait_until_healthy(server: VllmServer, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while process.poll() is None:
        try:
            with urllib.request.urlopen(server.base_url + "/health", timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise PeerError(f"vLLM was not ready after {timeout_s:.0f} s; {_tail(server.log)}") from None
            time.sleep(0.25)
    raise PeerError(f"vLLM ended at its start with code {process.returncode}; {_tail(server.log)}")


def _tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    return f"the end of its log:\n{text[-LOG_TAIL:]}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
