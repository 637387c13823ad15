"""What a server says of itself and of its sessions crosses the wire unchanged."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from tests.wire.values import record

from asynclm.cml.control import Control
from asynclm.cml.text_form import TextCodec
from asynclm.v1 import control_pb2
from asynclm.wire import (
    ServerInfo,
    SessionDetail,
    binding_of,
    server_info_from_pb,
    server_info_to_pb,
    session_detail_from_pb,
    session_detail_to_pb,
)


@given(record(ServerInfo))
def test_server_info_crosses_the_wire_unchanged(info: ServerInfo) -> None:
    pb = control_pb2.GetServerInfoResponse.FromString(server_info_to_pb(info).SerializeToString())
    assert server_info_from_pb(pb) == info


@given(record(SessionDetail))
def test_a_session_crosses_the_wire_unchanged(detail: SessionDetail) -> None:
    finished = detail.finished
    if finished is not None:  # its token index is the session's
        finished = replace(finished, token_index=detail.summary.token_index)
        detail = replace(detail, finished=finished)
    pb = control_pb2.GetSessionResponse.FromString(session_detail_to_pb(detail).SerializeToString())
    assert session_detail_from_pb(pb) == detail


def test_the_text_form_has_spellings_and_no_ids() -> None:
    binding = binding_of(TextCodec())
    assert {token.control: token.spelling for token in binding.tokens} == {c: c.value for c in Control}
    assert all(token.id is None for token in binding.tokens)
    assert binding.eos_ids == ()
