"""Settings of a server, validated on construction."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from asynclm.session.config import DeliveryPolicy, Limits, SessionConfig

DEFAULT_PORT = 50151


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """What peers may ask of a server, beyond the limits of one session.

    Attributes:
        max_message_bytes: one message of a client.
        max_prompt_bytes: the messages of one `Start`, in bytes of UTF-8.
        max_tools: tools in one `Start`.
        max_sessions: sessions open at once.
        keep_finished: finished sessions kept for `GetSession`.
        keep_finished_bytes: payloads in the ledgers of those, together.
        max_concurrent_tools: server-owned calls that run at once, over all sessions.
        start_timeout_s: seconds from the opening of a stream within which its `Start` has to come.
        keepalive_s: seconds without a word from a client after which it is asked for a sign of life, and seconds that
            it then has to give one.
        max_script_steps: steps of one script.
        max_scripts: scripts that are loaded.
        max_kept_events: events of one session that its client has not acknowledged; then it stops decoding [WIRE-094].
        max_kept_bytes: what those take, or so.
    """

    max_message_bytes: int = 16 << 20
    max_prompt_bytes: int = 4 << 20
    max_tools: int = 256
    max_sessions: int = 64
    keep_finished: int = 1000
    keep_finished_bytes: int = 256 << 20
    max_concurrent_tools: int = 16
    start_timeout_s: float = 30.0
    keepalive_s: float = 20.0
    max_script_steps: int = 100_000
    max_scripts: int = 10_000
    max_kept_events: int = 32_768
    max_kept_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """TLS of the server's port; with `client_ca`, clients must show a certificate of that authority (mTLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Settings of a server.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        tls: TLS, or None for plaintext.
        token: bearer token that every rpc but health has to carry, or None.
        allow_remote_plaintext: listen in plaintext beyond loopback, asked for by name.
        metrics_host: address of the metrics port, which is plaintext and asks for no token.
        metrics_port: port of the metrics in Prometheus's format; 0 for any free one, None for none.
        scripts: serve scripted models and the `ScriptedModel` service.
        drain_seconds: what open sessions get to finish on SIGTERM.
        resume_grace_s: seconds for which a dropped session can be resumed; 0 for a server that offers no `Resume`.
        delivery: when results are committed in running text, in sessions that leave it open; None for EAGER.
        coalesce_ms: the window of those.
        limits: limits of the server.
        session_limits: the limits of a session, which its `Start` may lower; a hosted model has a context length of its
            own, which is in force.

    Raises:
        ValueError: plaintext, of either port, beyond loopback without `allow_remote_plaintext`, a port out of range,
            a grace period below 0, or a window that does not go with `delivery`.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    tls: Tls | None = None
    token: str | None = None
    allow_remote_plaintext: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    scripts: bool = True
    drain_seconds: float = 10.0
    resume_grace_s: float = 30.0
    delivery: DeliveryPolicy | None = None
    coalesce_ms: int = 0
    limits: ServerLimits = field(default_factory=ServerLimits)
    session_limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; allowed: 0 (any free one) to 65535")
        if self.resume_grace_s < 0:
            raise ValueError(f"resume_grace_s is {self.resume_grace_s:g}; allowed: 0 (no Resume) or more")
        SessionConfig(delivery=self.delivery or DeliveryPolicy.EAGER, coalesce_ms=self.coalesce_ms)  # checks them
        self._check_metrics()
        if self.tls is None and not self.allow_remote_plaintext and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} is not loopback and there is no TLS; give a certificate and key, or allow "
                "plaintext with --insecure-allow-remote"
            )

    def _check_metrics(self) -> None:
        if self.metrics_port is None:
            return
        if not 0 <= self.metrics_port <= 65535:
            raise ValueError(f"metrics_port is {self.metrics_port}; allowed: 0 (any free one) to 65535")
        if self.metrics_port and self.metrics_port == self.port:
            raise ValueError(f"metrics_port is {self.metrics_port}, the port that sessions use; give another")
        if not self.allow_remote_plaintext and not _is_loopback(self.metrics_host):
            raise ValueError(
                f"metrics_host {self.metrics_host!r} is not loopback, and metrics are plaintext; allow it with "
                "--insecure-allow-remote"
            )

    @property
    def address(self) -> str:
        """Host and port as gRPC takes them."""
        return host_and_port(self.host, self.port)


def host_and_port(host: str, port: int) -> str:
    """Host and port in one, as addresses are written."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
