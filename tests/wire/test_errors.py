"""Faults carry google.rpc details that name the field, over a real connection, and are read back."""

from __future__ import annotations

import grpc
import pytest

from asynclm.v1 import control_pb2, control_pb2_grpc
from asynclm.wire import FieldError, FieldViolation, StatusError, abort, fault_from_rpc_error, field_fault, shorten
from asynclm.wire.errors import DETAILS_KEY


class Refusing(control_pb2_grpc.ControlServicer):
    def __init__(self, fault: StatusError) -> None:
        self.fault = fault

    async def GetServerInfo(  # noqa: N802 - the rpc's name
        self, request: control_pb2.GetServerInfoRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.GetServerInfoResponse:
        await abort(context, self.fault)


async def received(fault: StatusError) -> StatusError:
    server = grpc.aio.server()
    control_pb2_grpc.add_ControlServicer_to_server(Refusing(fault), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await control_pb2_grpc.ControlStub(channel).GetServerInfo(control_pb2.GetServerInfoRequest())
    finally:
        await server.stop(None)
    return fault_from_rpc_error(ended.value)


async def test_a_refused_field_is_named_on_the_other_side() -> None:
    fault = field_fault(FieldError("start.credit", "is -1; allowed: 0 or more"))
    back = await received(fault)
    assert back.code is grpc.StatusCode.INVALID_ARGUMENT
    assert back.message == "start.credit is -1; allowed: 0 or more"
    assert back.reason == "BAD_FIELD"
    assert back.violations == (FieldViolation("start.credit", "is -1; allowed: 0 or more"),)


async def test_metadata_travels() -> None:
    fault = StatusError(grpc.StatusCode.NOT_FOUND, "no model 'x'", "UNKNOWN_MODEL", metadata={"models": "a, b"})
    back = await received(fault)
    assert (back.code, back.reason, back.metadata) == (fault.code, fault.reason, fault.metadata)


async def test_a_long_message_is_cut_and_still_arrives() -> None:
    back = await received(field_fault(FieldError("f" * 5_000, "ü" * 50_000)))
    assert back.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(back.message) == 1_000
    assert len(back.violations[0].field) == 200


def test_a_status_without_details_is_read() -> None:
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, None, None, "down")
    back = fault_from_rpc_error(error)
    assert (back.code, back.message, back.reason, back.violations) == (grpc.StatusCode.UNAVAILABLE, "down", "", ())


def test_damaged_details_are_passed_over() -> None:
    trailing = grpc.aio.Metadata((DETAILS_KEY, b"\xff\xff\xff"))
    error = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, None, trailing, "oops")
    back = fault_from_rpc_error(error)
    assert (back.code, back.message, back.violations) == (grpc.StatusCode.INTERNAL, "oops", ())


@pytest.mark.parametrize("value", ["x" * 10_000, b"\x00" * 10_000, 5, None, "\n"])
def test_shorten(value: object) -> None:
    assert len(shorten(value)) <= 80
