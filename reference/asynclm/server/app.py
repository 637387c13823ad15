"""The server as a whole: gRPC port, services, health, reflection, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from asynclm.conformance.v1 import scripted_model_pb2, scripted_model_pb2_grpc
from asynclm.engine.base import Engine
from asynclm.engine.hosted import HostedModel
from asynclm.server.auth import BearerTokenInterceptor
from asynclm.server.control import ControlService
from asynclm.server.hub import SessionHub
from asynclm.server.inference import InferenceService
from asynclm.server.options import ServerOptions, Tls, host_and_port
from asynclm.server.scripts import ScriptedModelService
from asynclm.server.unreadable import UnreadableInterceptor
from asynclm.tools.toolset import ToolSet
from asynclm.v1 import control_pb2, control_pb2_grpc, inference_pb2, inference_pb2_grpc

if TYPE_CHECKING:
    from asynclm.server.metrics_port import MetricsPort

STOP_GRACE_S = 2.0
"""What open streams get to read their last events once every session has finished."""


class PortError(OSError):
    """The port cannot be listened on."""


class Server:
    """Serves one engine over gRPC.

    Args:
        engine: what decodes; the server shuts it down.
        options: settings.
        tools: the server's own tools.
    """

    def __init__(
        self, engine: Engine | HostedModel, options: ServerOptions | None = None, tools: ToolSet | None = None
    ) -> None:
        self.options = options or ServerOptions()
        self.hub = SessionHub(engine, self.options, tools or ToolSet())
        self.port = 0
        self._metrics: MetricsPort | None = None
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Future[None] | None = None

    @property
    def address(self) -> str:
        """Host and port that clients connect to; the port is known once the server has started."""
        return host_and_port(self.options.host, self.port)

    async def start(self) -> None:
        """Listens and serves.

        Raises:
            PortError: the port is in use, or the address is not this machine's.
        """
        limits = self.options.limits
        interceptors: list[Any] = [UnreadableInterceptor()]
        if self.options.token:
            interceptors.insert(0, BearerTokenInterceptor(self.options.token))
        keepalive_ms = int(limits.keepalive_s * 1000)
        server = grpc.aio.server(
            interceptors=interceptors,
            options=[
                ("grpc.max_receive_message_length", limits.max_message_bytes),
                ("grpc.max_send_message_length", -1),  # a ledger has to reach its client, whatever is in it [LIM-012]
                ("grpc.keepalive_time_ms", keepalive_ms),
                ("grpc.keepalive_timeout_ms", keepalive_ms),
                ("grpc.http2.ping_timeout_ms", keepalive_ms),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # clients may ask for signs of life, too
                ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server
            ],
        )
        inference_pb2_grpc.add_InferenceServicer_to_server(InferenceService(self.hub), server)
        control_pb2_grpc.add_ControlServicer_to_server(ControlService(self.hub), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [
            inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name,
            control_pb2.DESCRIPTOR.services_by_name["Control"].full_name,
        ]
        if self.options.scripts:
            scripted_model_pb2_grpc.add_ScriptedModelServicer_to_server(ScriptedModelService(self.hub), server)
            names.append(scripted_model_pb2.DESCRIPTOR.services_by_name["ScriptedModel"].full_name)
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        self.port = self._listen(server)
        try:
            self._metrics = self._listen_for_scrapes()
        except PortError:
            await server.stop(None)
            raise
        self._server = server
        self.hub.start()
        await server.start()
        await self._set_health(("", *names), health_pb2.HealthCheckResponse.SERVING)

    def _listen(self, server: grpc.aio.Server) -> int:
        address = self.options.address
        try:
            if self.options.tls is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, _credentials(self.options.tls))
        except RuntimeError as error:
            raise PortError(f"cannot listen on {address}: the port is in use or the address is not ours") from error

    def _listen_for_scrapes(self) -> MetricsPort | None:
        if self.options.metrics_port is None:
            return None
        from asynclm.server.metrics_port import MetricsPort

        host, port = self.options.metrics_host, self.options.metrics_port
        try:
            return MetricsPort(host, port, self.hub.metrics)
        except OSError as error:
            raise PortError(f"cannot listen for metrics on {host}, port {port}: {error.strerror or error}") from error

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics, known once the server has started; None if there is none."""
        return None if self._metrics is None else self._metrics.port

    async def _set_health(self, services: Iterable[str], status: int) -> None:
        for service in services:
            await self._health.set(service, status)

    async def drain(self) -> None:
        """Takes no more sessions, lets the open ones finish for `drain_seconds`, then stops."""
        await self._health.enter_graceful_shutdown()
        await self.hub.drain(self.options.drain_seconds)
        await self.stop()

    async def stop(self) -> None:
        """Ends every session and closes the port. Whoever asks again waits for the same end."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self._server is not None:
            await self.hub.drain(0)
            await self._server.stop(STOP_GRACE_S)
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.close)
        await self.hub.close()

    async def wait(self) -> None:
        """Returns when the server has stopped."""
        if self._server is not None:
            await self._server.wait_for_termination()

    async def serve_until_signal(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains; a second signal stops at once."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        again = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: again.set() if asked.is_set() else asked.set())
        try:
            await asked.wait()
            drained = asyncio.create_task(self.drain())
            hurried = asyncio.create_task(again.wait())
            await asyncio.wait({drained, hurried}, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            if not drained.done():
                drained.cancel()
                await self.stop()
            else:
                drained.result()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    pair = [(tls.key.read_bytes(), tls.certificate.read_bytes())]
    client_ca = tls.client_ca.read_bytes() if tls.client_ca else None
    return grpc.ssl_server_credentials(pair, client_ca, require_client_auth=client_ca is not None)
