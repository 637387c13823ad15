"""What a command line says of its target."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from asynclm_conformance.play.target import Target, TargetError, connected, started

SCHEME = "grpc://"
SECURE = "grpcs://"


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What to run against, and how to reach it.

    Attributes:
        target: `grpc://host:port`, `grpcs://host:port`, or a command with `{port}` in it.
        token_file: a file with the bearer token that the target wants.
        ca_file: the authority of the target's certificate; absent: the system's.
        start_s: for how long it is given to be healthy.
    """

    target: tuple[str, ...]
    token_file: Path | None = None
    ca_file: Path | None = None
    start_s: float = 60.0
    spelled: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.target:
            raise TargetError("no target is given: grpc://HOST:PORT, or -- COMMAND with {port} in it")
        if not self.target[0].startswith(SECURE):
            for option, file in (("--token-file", self.token_file), ("--ca-file", self.ca_file)):
                if file is not None:
                    raise TargetError(f"{option} is for a target that is reached by TLS; use grpcs://HOST:PORT")
        object.__setattr__(self, "spelled", " ".join(self.target))

    @property
    def address(self) -> str | None:
        """Its address, if it is one and not a command."""
        first = self.target[0]
        for scheme in (SCHEME, SECURE):
            if first.startswith(scheme):
                if len(self.target) > 1:
                    raise TargetError(
                        f"{self.target[1]!r}: nothing can follow an address; a command stands behind `--`"
                    )
                address = first.removeprefix(scheme).rstrip("/")
                host, _, port = address.rpartition(":")
                if not host or not (port.isdecimal() and 0 < int(port) < 65_536):
                    raise TargetError(f"{first}: no address; {scheme}HOST:PORT is expected")
                return address
        return None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Target]:
        """The target, there and healthy.

        Raises:
            TargetError: it cannot be used.
        """
        address = self.address
        if address is None:
            async with started(self.target, start_s=self.start_s) as target:
                yield target
            return
        async with connected(address, credentials=self._credentials(), start_s=self.start_s) as target:
            yield target

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if not self.target[0].startswith(SECURE):
            return None
        ca = _content("--ca-file", self.ca_file) if self.ca_file is not None else None
        channel = grpc.ssl_channel_credentials(root_certificates=ca)
        if self.token_file is None:
            return channel
        token = _content("--token-file", self.token_file).decode("utf-8", "replace").strip()
        return grpc.composite_channel_credentials(channel, grpc.access_token_call_credentials(token))


def _content(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TargetError(f"{option} {path}: cannot be read: {error.strerror}") from None
