from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from asynclm.bench import peers
from asynclm.bench.peers import VLLM_VARIABLE, MissingPeerError, PeerError, post, start_vllm, vllm_variables

SERVER = """#!{python}
import http.server, json, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b"")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "prompt" not in body:
            self.answer(400, b"no prompt")
        elif body.get("stream"):
            lines = [b"data: " + json.dumps(dict(text=text, model=body["model"])).encode() for text in "ab"]
            self.answer(200, b"\\n\\n".join((*lines, b"data: [DONE]", b"")))
        else:
            self.answer(200, json.dumps(dict(arguments=sys.argv[1:], binding=os.environ["BINDING"])).encode())

    def answer(self, code, data):
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose `vllm` is still to be written."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv(VLLM_VARIABLE, str(tmp_path))
    return tmp_path


def write_program(environment: Path, text: str) -> None:
    program = environment / "bin" / "vllm"
    program.write_text(text)
    program.chmod(0o755)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_missing_environment_is_told_with_the_script_that_makes_it(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingPeerError, match=r"ASYNCLM_VLLM_VENV is .*setup_vllm\.sh.*--without-peers"):
        peers.vllm_environment()
    monkeypatch.delenv(VLLM_VARIABLE)
    monkeypatch.setattr(peers, "PEERS_FOLDER", environment)
    with pytest.raises(MissingPeerError, match=r"\.venv-vllm holds no vLLM"):
        peers.vllm_environment()


def test_the_script_that_messages_name_is_there() -> None:
    assert (peers.PEERS_FOLDER.parents[1] / peers.SET_UP_VLLM).is_file()


def test_a_server_that_ends_is_told_with_the_end_of_its_log(environment: Path) -> None:
    write_program(environment, "#!/bin/sh\necho out of memory >&2\nexit 3\n")
    with pytest.raises(PeerError, match=r"code 3.*\nout of memory"), start_vllm(environment, threads=1):
        pass


def test_a_server_that_never_answers_is_ended(environment: Path) -> None:
    write_program(environment, "#!/bin/sh\necho $$ >$PID_FILE\nexec sleep 600\n")
    file = environment / "pid"
    variables = {"PID_FILE": str(file)}
    with (
        pytest.raises(PeerError, match="not ready"),
        start_vllm(environment, threads=1, variables=variables, timeout_s=0),
    ):
        pass
    assert not file.is_file() or not alive(int(file.read_text()))


def test_a_server_answers_while_the_context_lasts_and_ends_with_it(environment: Path) -> None:
    write_program(environment, SERVER.format(python=sys.executable))
    with start_vllm(environment, threads=1, arguments=["--max-num-seqs", "8"], variables={"BINDING": "here"}) as server:
        (plain,) = post(server, "/v1/completions", {"prompt": [1]})
        streamed = list(post(server, "/v1/completions", {"prompt": [1], "stream": True}))
        with pytest.raises(PeerError, match="refused /v1/completions: 400 b'no prompt'"):
            list(post(server, "/v1/completions", {}))
    assert plain["arguments"][:2] == ["serve", str(environment)]
    assert plain["arguments"][-2:] == ["--max-num-seqs", "8"]
    assert plain["binding"] == "here"
    assert streamed == [{"text": "a", "model": "model"}, {"text": "b", "model": "model"}]
    assert not alive(server.pid)
    assert not server.log.exists()
    with pytest.raises(PeerError, match=r"127\.0\.0\.1"):
        list(post(server, "/v1/completions", {"prompt": [1]}))


def test_threads_are_bound_to_as_many_cpus() -> None:
    variables = vllm_variables(1, kv_cache_gib=2)
    assert int(variables["VLLM_CPU_OMP_THREADS_BIND"]) in os.sched_getaffinity(0)
    assert variables["OMP_NUM_THREADS"] == "1"
    assert variables["VLLM_CPU_KVCACHE_SPACE"] == "2"
