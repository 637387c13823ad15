"""The ledger, usage, references and traps: values that several events carry."""

from __future__ import annotations

from dataclasses import fields

from asynclm.cml.blocks import Reference, Trap
from asynclm.session.config import Limits
from asynclm.session.effects import CallRow, CallTimings, HostedUsage, InterruptRow, Usage
from asynclm.v1 import types_pb2
from asynclm.wire import enums


def call_row_to_pb(row: CallRow) -> types_pb2.CallRow:
    """The ledger's row for a call."""
    timings = row.timings
    return types_pb2.CallRow(
        index=row.index,
        id=row.id,
        function=row.function,
        result=enums.RESULT.number(row.result),
        delivery=enums.DELIVERY.number(row.delivery),
        token_index=row.token_index,
        reason=enums.UNDELIVERED_REASON.number(row.reason),
        payload=row.payload,
        timings=types_pb2.CallTimings(
            emitted_ms=timings.emitted_ms,
            dispatched_ms=timings.dispatched_ms,
            resolved_ms=timings.resolved_ms,
            settled_ms=timings.settled_ms,
        ),
    )


def call_row_from_pb(pb: types_pb2.CallRow) -> CallRow:
    """The ledger's row for a call.

    Raises:
        WireError: it has a value that this revision does not know.
    """
    timings = pb.timings
    return CallRow(
        index=pb.index,
        id=pb.id if pb.HasField("id") else None,
        function=pb.function,
        result=enums.RESULT.member(pb.result),
        delivery=enums.DELIVERY.member(pb.delivery),
        token_index=pb.token_index if pb.HasField("token_index") else None,
        reason=enums.UNDELIVERED_REASON.optional(pb.reason),
        payload=pb.payload,
        timings=CallTimings(
            emitted_ms=timings.emitted_ms,
            dispatched_ms=timings.dispatched_ms if timings.HasField("dispatched_ms") else None,
            resolved_ms=timings.resolved_ms if timings.HasField("resolved_ms") else None,
            settled_ms=timings.settled_ms if timings.HasField("settled_ms") else None,
        ),
    )


def interrupt_row_to_pb(row: InterruptRow) -> types_pb2.InterruptRow:
    """The ledger's row for an accepted interrupt."""
    return types_pb2.InterruptRow(
        number=row.number,
        source=row.source,
        status=enums.STATUS.number(row.status),
        delivery=enums.DELIVERY.number(row.delivery),
        token_index=row.token_index,
        reason=enums.UNDELIVERED_REASON.number(row.reason),
        payload=row.payload,
    )


def interrupt_row_from_pb(pb: types_pb2.InterruptRow) -> InterruptRow:
    """The ledger's row for an accepted interrupt.

    Raises:
        WireError: it has a value that this revision does not know.
    """
    return InterruptRow(
        number=pb.number,
        source=pb.source,
        status=enums.STATUS.member(pb.status),
        delivery=enums.DELIVERY.member(pb.delivery),
        token_index=pb.token_index if pb.HasField("token_index") else None,
        reason=enums.UNDELIVERED_REASON.optional(pb.reason),
        payload=pb.payload,
    )


def usage_to_pb(usage: Usage) -> types_pb2.Usage:
    """Token counts."""
    return types_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        sampled_tokens=usage.sampled_tokens,
        injected_tokens=usage.injected_tokens,
    )


def usage_from_pb(pb: types_pb2.Usage) -> Usage:
    """Token counts."""
    return Usage(
        prompt_tokens=pb.prompt_tokens,
        cached_tokens=pb.cached_tokens,
        sampled_tokens=pb.sampled_tokens,
        injected_tokens=pb.injected_tokens,
    )


def hosted_usage_to_pb(usage: HostedUsage) -> types_pb2.HostedUsage:
    """What a session cost on a hosted interface."""
    return types_pb2.HostedUsage(**{f.name: getattr(usage, f.name) for f in fields(usage)})


def hosted_usage_from_pb(pb: types_pb2.HostedUsage) -> HostedUsage:
    """What a session cost on a hosted interface."""
    counts = {f.name: getattr(pb, f.name) for f in fields(HostedUsage)}
    return HostedUsage(**{**counts, "first_token_ms": tuple(pb.first_token_ms)})


def reference_to_pb(reference: Reference) -> types_pb2.Reference:
    """A future."""
    steps = [
        types_pb2.PathStep(name=step) if isinstance(step, str) else types_pb2.PathStep(index=step)
        for step in reference.path
    ]
    return types_pb2.Reference(id=reference.id, path=steps)


def reference_from_pb(pb: types_pb2.Reference) -> Reference:
    """A future."""
    return Reference(pb.id, tuple(s.index if s.WhichOneof("step") == "index" else s.name for s in pb.path))


def trap_to_pb(trap: Trap) -> types_pb2.Trap:
    """A trap's condition."""
    return types_pb2.Trap(quantifier=enums.QUANTIFIER.number(trap.quantifier), ids=trap.ids, within_ms=trap.within_ms)


def trap_from_pb(pb: types_pb2.Trap) -> Trap:
    """A trap's condition.

    Raises:
        WireError: it has a quantifier that this revision does not know.
    """
    within = pb.within_ms if pb.HasField("within_ms") else None
    return Trap(enums.QUANTIFIER.optional(pb.quantifier), tuple(pb.ids), within)


def limits_to_pb(limits: Limits) -> types_pb2.Limits:
    """All limits of a session."""
    return types_pb2.Limits(**vars(limits))


def limits_from_pb(pb: types_pb2.Limits) -> Limits:
    """The limits that a server tells; what it leaves open is this revision's default."""
    return Limits(**given_limits(pb))


def given_limits(pb: types_pb2.Limits) -> dict[str, int]:
    """The limits that a message gives, by name."""
    return {field.name: value for field, value in pb.ListFields()}
