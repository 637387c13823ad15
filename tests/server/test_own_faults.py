"""Faults that are the server's own, and ends that are the client's: INTERNAL without secrets, and Generate's cancel."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from tests.server.harness import PROMPT, Serve

from asynclm.cml.control import Control
from asynclm.engine.script import ScriptControl, ScriptText
from asynclm.session.state import FinishReason
from asynclm.v1 import inference_pb2
from asynclm.wire.errors import fault_from_rpc_error
from asynclm.wire.start import StartRequest, start_to_pb
from asynclm.wire.values import OnDisconnect


async def test_a_bug_is_internal_and_told_to_the_log_only(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """[ERR-005, ERR-006]."""
    harness = await serve()

    async def broken(start: StartRequest, **options: object) -> Any:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(harness.server.hub, "open", broken)
    request = inference_pb2.GenerateRequest(start=start_to_pb(StartRequest(messages=PROMPT)))
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.inference.Generate(request).read()
    fault = fault_from_rpc_error(caught.value)
    assert fault.code is grpc.StatusCode.INTERNAL
    assert "secret" not in fault.message
    incident = fault.message.rsplit(maxsplit=1)[-1]
    assert incident in caplog.text
    assert "a secret path" in caplog.text


async def wait_for_ever() -> str:
    """Waits."""
    await asyncio.Event().wait()
    return ""


async def test_cancelling_generate_ends_the_session_whatever_on_disconnect_says(serve: Serve) -> None:
    """[WIRE-102]."""
    harness = await serve([wait_for_ever])
    call = (ScriptControl(Control.CALL), ScriptText("x"), ScriptControl(Control.HEAD), ScriptText("wait_for_ever()"))
    await harness.load("s", *call, *(ScriptControl(c) for c in (Control.END, Control.TRAP, Control.END)))
    start = StartRequest(model="script:s", messages=PROMPT, on_disconnect=OnDisconnect.DETACH)
    stream = harness.inference.Generate(inference_pb2.GenerateRequest(start=start_to_pb(start)))
    first = await stream.read()
    while (event := await stream.read()).WhichOneof("event") != "trap_entered":
        assert event is not grpc.aio.EOF
    stream.cancel()
    record = harness.server.hub.registry.get(first.started.session_id)
    assert record is not None
    async with asyncio.timeout(30):
        await record.done.wait()
    assert record.finished is not None
    assert record.finished.reason is FinishReason.DISCONNECTED
