"""What a server says of itself and of its sessions, both ways."""

from __future__ import annotations

from dataclasses import fields

from asynclm.v1 import control_pb2
from asynclm.wire import enums
from asynclm.wire.ledger import (
    call_row_from_pb,
    call_row_to_pb,
    interrupt_row_from_pb,
    interrupt_row_to_pb,
    limits_from_pb,
    limits_to_pb,
    usage_from_pb,
    usage_to_pb,
)
from asynclm.wire.received import finished_from_pb
from asynclm.wire.reports import finished_to_pb
from asynclm.wire.started import binding_from_pb, binding_to_pb, capabilities_from_pb
from asynclm.wire.tools import tool_to_pb, tools_from_pb
from asynclm.wire.values import ModelInfo, ServerInfo, ServerLimits, SessionDetail, SessionSummary


def server_info_to_pb(info: ServerInfo) -> control_pb2.GetServerInfoResponse:
    """What a server is and can do."""
    limits = info.server_limits
    return control_pb2.GetServerInfoResponse(
        server=info.server,
        server_version=info.server_version,
        protocol_revision=info.protocol_revision,
        models=[_model_to_pb(model) for model in info.models],
        capabilities=sorted(enums.CAPABILITY.number(c) for c in info.capabilities),
        limits=limits_to_pb(info.limits),
        server_limits=control_pb2.ServerLimits(**{f.name: getattr(limits, f.name) for f in fields(ServerLimits)}),
        tools=[tool_to_pb(spec) for spec in info.tools],
        grammar_hash=info.grammar_hash,
        emulated=info.emulated,
        unit=enums.UNIT.number(info.unit),
        metrics=dict(info.metrics),
    )


def server_info_from_pb(pb: control_pb2.GetServerInfoResponse) -> ServerInfo:
    """What a server is and can do.

    Raises:
        WireError: it has a value that this revision does not know.
    """
    return ServerInfo(
        server=pb.server,
        server_version=pb.server_version,
        protocol_revision=pb.protocol_revision,
        models=tuple(_model_from_pb(model) for model in pb.models),
        capabilities=capabilities_from_pb(pb.capabilities),
        limits=limits_from_pb(pb.limits),
        server_limits=ServerLimits(**{f.name: getattr(pb.server_limits, f.name) for f in fields(ServerLimits)}),
        tools=tools_from_pb(pb.tools),
        grammar_hash=pb.grammar_hash,
        emulated=pb.emulated,
        unit=enums.UNIT.member(pb.unit),
        metrics=dict(pb.metrics),
    )


def _model_to_pb(model: ModelInfo) -> control_pb2.ModelInfo:
    return control_pb2.ModelInfo(
        name=model.name,
        engine=model.engine,
        context_length=model.context_length,
        max_sequences=model.max_sequences,
        binding=binding_to_pb(model.binding),
        description=dict(model.description),
        vocab_size=model.vocab_size,
        scripted_only=model.scripted_only,
    )


def _model_from_pb(pb: control_pb2.ModelInfo) -> ModelInfo:
    return ModelInfo(
        name=pb.name,
        engine=pb.engine,
        context_length=pb.context_length,
        max_sequences=pb.max_sequences,
        binding=binding_from_pb(pb.binding),
        description=dict(pb.description),
        vocab_size=pb.vocab_size,
        scripted_only=pb.scripted_only,
    )


def summary_to_pb(summary: SessionSummary) -> control_pb2.SessionSummary:
    """A session in one line."""
    return control_pb2.SessionSummary(
        session_id=summary.session_id,
        model=summary.model,
        state=enums.STATE.number(summary.state),
        attached=summary.attached,
        paused=summary.paused,
        started_at=summary.started_at,
        token_index=summary.token_index,
        pending_calls=summary.pending_calls,
        labels=dict(summary.labels),
        reason=enums.FINISH_REASON.number(summary.reason),
    )


def summary_from_pb(pb: control_pb2.SessionSummary) -> SessionSummary:
    """A session in one line.

    Raises:
        WireError: it has a value that this revision does not know.
    """
    return SessionSummary(
        session_id=pb.session_id,
        model=pb.model,
        state=enums.STATE.member(pb.state),
        attached=pb.attached,
        paused=pb.paused,
        started_at=pb.started_at,
        token_index=pb.token_index,
        pending_calls=pb.pending_calls,
        labels=dict(pb.labels),
        reason=enums.FINISH_REASON.optional(pb.reason),
    )


def session_detail_to_pb(detail: SessionDetail) -> control_pb2.GetSessionResponse:
    """One session with its ledger."""
    return control_pb2.GetSessionResponse(
        summary=summary_to_pb(detail.summary),
        usage=usage_to_pb(detail.usage),
        calls=[call_row_to_pb(row) for row in detail.calls],
        interrupts=[interrupt_row_to_pb(row) for row in detail.interrupts],
        last_event_seq=detail.last_event_seq,
        finished=None if detail.finished is None else finished_to_pb(detail.finished),
    )


def session_detail_from_pb(pb: control_pb2.GetSessionResponse) -> SessionDetail:
    """One session with its ledger.

    Raises:
        WireError: it has a value that this revision does not know.
    """
    return SessionDetail(
        summary=summary_from_pb(pb.summary),
        usage=usage_from_pb(pb.usage),
        calls=tuple(call_row_from_pb(row) for row in pb.calls),
        interrupts=tuple(interrupt_row_from_pb(row) for row in pb.interrupts),
        last_event_seq=pb.last_event_seq,
        finished=finished_from_pb(pb.finished, pb.summary.token_index) if pb.HasField("finished") else None,
    )
