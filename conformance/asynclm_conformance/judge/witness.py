"""What a live case has seen: facts about a stream that nobody forced."""

from __future__ import annotations

from collections.abc import Sequence

from asynclm.conformance.v1 import suite_pb2
from asynclm.v1 import session_pb2, types_pb2


def witnessed(events: Sequence[session_pb2.ServerEvent]) -> set[suite_pb2.Witness.ValueType]:
    """Everything out of `Witness` that a stream shows."""
    seen: set[suite_pb2.Witness.ValueType] = set()
    dispatched: dict[str, int] = {}
    sampled = 0
    waiting = committed = ended_trap = False
    for event in events:
        match event.WhichOneof("event"):
            case "tokens":
                sampled += max(len(event.tokens.ids), 1)
                if committed:
                    seen.add(suite_pb2.WITNESS_WENT_ON)
            case "call_dispatched" if event.call_dispatched.HasField("id"):
                dispatched[event.call_dispatched.id] = sampled
            case "trap_entered":
                waiting = True
            case "trap_exited":
                waiting, ended_trap = False, not event.trap_exited.empty
            case "interrupt_committed":
                committed = True
                if ended_trap:
                    seen.add(suite_pb2.WITNESS_TRAP_ENDED)
                elif not waiting:
                    seen.add(suite_pb2.WITNESS_INTERRUPT_IN_TEXT)
                source = event.interrupt_committed.source
                if dispatched.get(source, sampled) < sampled and not ended_trap:
                    seen.add(suite_pb2.WITNESS_DECODED_BESIDE_CALL)
            case "call_settled":
                row = event.call_settled.row
                if (row.result, row.delivery) == (types_pb2.RESULT_OK, types_pb2.DELIVERY_DELIVERED):
                    seen.add(suite_pb2.WITNESS_CALL_DELIVERED)
            case "finished" if event.finished.reason == types_pb2.FINISH_REASON_STOP:
                seen.add(suite_pb2.WITNESS_STOPPED)
        if event.WhichOneof("event") not in ("trap_exited", "interrupt_committed", "call_settled"):
            ended_trap = False
    return seen
