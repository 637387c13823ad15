"""Targets, tokens and TLS."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import trustme
from tests.client.player import Control, playing

from asynclm.client import AsyncLM, UnavailableError
from asynclm.client.connection import ConnectionOptions
from asynclm.v1 import control_pb2

PAGES = [control_pb2.ListSessionsResponse()]


@pytest.mark.parametrize(
    ("target", "address", "secure"),
    [
        ("localhost:50151", "localhost:50151", False),
        ("grpc://10.0.0.1:5", "10.0.0.1:5", False),
        ("grpcs://example.org:443", "example.org:443", True),
        ("[::1]:50151", "[::1]:50151", False),
    ],
)
def test_targets(target: str, address: str, secure: bool) -> None:
    options = ConnectionOptions(target=target)
    assert (options.address, options.secure) == (address, secure)


@pytest.mark.parametrize(
    "target", ["", "localhost", "http://localhost:5", "localhost:x", "localhost:99999", "a:1/b", ":5"]
)
def test_what_is_no_target(target: str) -> None:
    with pytest.raises(ValueError, match="give host:port"):
        AsyncLM(target)


def test_half_a_key_pair() -> None:
    with pytest.raises(ValueError, match="both"):
        AsyncLM("localhost:1", certificate_file="a.pem")


def test_a_token_does_not_travel_in_plaintext() -> None:
    with pytest.raises(ValueError, match="not loopback"):
        AsyncLM("10.0.0.1:5", token="s3cret")
    AsyncLM("127.0.0.1:5", token="s3cret")
    AsyncLM("localhost:5", token="s3cret")
    AsyncLM("10.0.0.1:5", token="s3cret", tls=True)
    AsyncLM("10.0.0.1:5", token="s3cret", allow_plaintext_token=True)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def credentials(authority: trustme.CA, *, mutual: bool) -> grpc.ServerCredentials:
    issued = authority.issue_cert("localhost")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    root = authority.cert_pem.bytes() if mutual else None
    pairs = [(issued.private_key_pem.bytes(), chain)]
    return grpc.ssl_server_credentials(pairs, root, require_client_auth=mutual)


async def test_tls_with_a_token(authority: trustme.CA, ca_file: Path) -> None:
    pages = Control(PAGES)
    async with playing(control=pages, credentials=credentials(authority, mutual=False)) as port:
        async with AsyncLM(f"localhost:{port}", ca_file=ca_file, token="s3cret") as llm:
            assert await llm.sessions() == []
        async with AsyncLM(f"localhost:{port}", tls=True) as llm:
            with pytest.raises(UnavailableError):
                await llm.sessions()
    assert [m["authorization"] for m in pages.metadata] == ["Bearer s3cret"]


async def test_mutual_tls(authority: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    issued = authority.issue_cert("client@example.org")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    async with playing(control=Control(PAGES), credentials=credentials(authority, mutual=True)) as port:
        target = f"grpcs://localhost:{port}"
        async with AsyncLM(target, ca_file=ca_file, certificate_file=certificate, key_file=key) as llm:
            assert await llm.sessions() == []
        async with AsyncLM(target, ca_file=ca_file) as llm:
            with pytest.raises(UnavailableError):
                await llm.sessions()
