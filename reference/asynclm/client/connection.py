"""The connection to a server: target, TLS, token, message sizes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from asynclm.client.errors import AsyncLMError, error_from_status
from asynclm.wire import fault_from_rpc_error, shorten

MAX_MESSAGE_BYTES = 16 << 20
"""Size of one message to the server; what a server of this project allows as well."""


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """How to reach a server.

    Attributes:
        target: `host:port`, `grpc://host:port`, or `grpcs://host:port` for TLS.
        tls: whether to use TLS.
        ca_file: the authority that signed the server's certificate; None for the system's. Implies `tls`.
        certificate_file, key_file: the client's own certificate and key, for mTLS. Imply `tls`.
        token: bearer token sent with every rpc.
        allow_plaintext_token: send the token over plaintext beyond loopback, asked for by name.
        max_message_bytes: size of one message to the server; the server's may have any [LIM-013].

    Raises:
        ValueError: the target is not one, half a key pair, or a token that would travel in plaintext.
    """

    target: str
    tls: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    token: str | None = None
    allow_plaintext_token: bool = False
    max_message_bytes: int = MAX_MESSAGE_BYTES

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file: give both, for mTLS, or neither")
        host = self._split()[1]
        if self.token is not None and not self.secure and not self.allow_plaintext_token and not _is_loopback(host):
            raise ValueError(f"token: {host} is not loopback and there is no TLS; use tls=True or grpcs://")

    @property
    def secure(self) -> bool:
        """Whether the connection uses TLS."""
        given = self.ca_file is not None or self.certificate_file is not None
        return self.tls or given or self._split()[0] == "grpcs"

    @property
    def address(self) -> str:
        """Host and port, as gRPC takes them."""
        _, host, port = self._split()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with every rpc."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def channel(self) -> grpc.aio.Channel:
        """Opens a channel; it connects with the first rpc.

        Raises:
            OSError: a certificate or a key cannot be read.
        """
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", self.max_message_bytes),
        ]
        if not self.secure:
            return grpc.aio.insecure_channel(self.address, options=options)
        credentials = grpc.ssl_channel_credentials(
            _read(self.ca_file), _read(self.key_file), _read(self.certificate_file)
        )
        return grpc.aio.secure_channel(self.address, credentials, options=options)

    def error(self, error: grpc.aio.AioRpcError) -> AsyncLMError:
        """The client's error for a failed rpc."""
        return error_from_status(fault_from_rpc_error(error), self.address)

    def _split(self) -> tuple[str, str, int]:
        text = self.target if "://" in self.target else f"grpc://{self.target}"
        try:
            parts = urlsplit(text)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host, port = "", None, None
        if scheme not in ("grpc", "grpcs") or not host or not port or parts.path.strip("/"):
            raise ValueError(f"target {shorten(self.target)}: give host:port, grpc://host:port or grpcs://host:port")
        return scheme, host, port


def _read(file: Path | None) -> bytes | None:
    return None if file is None else file.read_bytes()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
