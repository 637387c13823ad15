"""Targets that no run can do anything with, each odd in one way.

python -m tests.conformance.odd_target KIND --port N
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from asynclm.conformance.v1 import scripted_model_pb2, scripted_model_pb2_grpc
from asynclm.v1 import control_pb2, control_pb2_grpc, inference_pb2_grpc, session_pb2

KINDS = (
    *("no-health", "never-serving", "other-revision", "ends"),
    *("silent", "babbling", "garbage", "undecodable", "miscounting", "dying"),
)
CAPABILITIES = (session_pb2.CAPABILITY_SCRIPTED_MODEL, session_pb2.CAPABILITY_PYTHON_CALL)


class Health(health_pb2_grpc.HealthServicer):
    def __init__(self, kind: str) -> None:
        self._serving = kind != "never-serving"

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:  # noqa: N802
        states = health_pb2.HealthCheckResponse
        return states(status=states.SERVING if self._serving else states.NOT_SERVING)


class Control(control_pb2_grpc.ControlServicer):
    def __init__(self, kind: str) -> None:
        self._revision = "2099-01-01" if kind == "other-revision" else "draft"

    async def GetServerInfo(self, request: Any, context: Any) -> control_pb2.GetServerInfoResponse:  # noqa: N802
        return control_pb2.GetServerInfoResponse(
            server="odd",
            protocol_revision=self._revision,
            models=[control_pb2.ModelInfo(name="odd", scripted_only=True)],
            capabilities=CAPABILITIES,
        )


class Scripts(scripted_model_pb2_grpc.ScriptedModelServicer):
    def __init__(self, kind: str) -> None:
        self._wrong = kind == "miscounting"

    async def LoadScript(self, request: Any, context: Any) -> scripted_model_pb2.LoadScriptResponse:  # noqa: N802
        return scripted_model_pb2.LoadScriptResponse(ids_per_step=[1] * (len(request.steps) + self._wrong))

    async def Reset(self, request: Any, context: Any) -> scripted_model_pb2.ResetResponse:  # noqa: N802
        return scripted_model_pb2.ResetResponse()


class Inference(inference_pb2_grpc.InferenceServicer):
    def __init__(self, kind: str) -> None:
        self._kind = kind

    async def Session(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[session_pb2.ServerEvent]:  # noqa: N802
        if self._kind == "dying":
            os._exit(9)
        if self._kind == "silent":
            await asyncio.Event().wait()
        started = session_pb2.Started(session_id="odd")
        yield session_pb2.ServerEvent(sequence=1, started=started)
        if self._kind == "garbage":
            yield session_pb2.ServerEvent(sequence=7)
            yield session_pb2.ServerEvent(sequence=7, time_ms=-4, started=started)
            yield session_pb2.ServerEvent(sequence=2, finished=session_pb2.Finished(calls=[{"index": 3}]))
        while self._kind == "babbling":
            yield session_pb2.ServerEvent(sequence=2, tokens=session_pb2.Tokens(ids=[1], text="bla"))


async def serve(kind: str, port: int) -> None:
    server = grpc.aio.server()
    if kind != "no-health":
        health_pb2_grpc.add_HealthServicer_to_server(Health(kind), server)
    control_pb2_grpc.add_ControlServicer_to_server(Control(kind), server)
    scripted_model_pb2_grpc.add_ScriptedModelServicer_to_server(Scripts(kind), server)
    if kind == "undecodable":
        sessions = grpc.stream_stream_rpc_method_handler(
            Inference(kind).Session, session_pb2.ClientEvent.FromString, lambda _: b"\xff"
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("asynclm.v1.Inference", {"Session": sessions})]
        )
    else:
        inference_pb2_grpc.add_InferenceServicer_to_server(Inference(kind), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    if given.kind == "ends":
        print("no weights found", file=sys.stderr)
        sys.exit(7)
    asyncio.run(serve(given.kind, given.port))


if __name__ == "__main__":
    main()
