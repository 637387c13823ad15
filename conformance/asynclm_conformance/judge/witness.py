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
    committed = ended_trap = ended_end = False
    for event in events:
        match event.WhichOneof("event"):
            case "tokens":
                words = max(len(event.tokens.ids), 1) - event.tokens.end_of_sequence
                sampled += words
                ended_trap = ended_end = False
                if committed and words:
                    seen.add(suite_pb2.WITNESS_WENT_ON)
            case "call_dispatched" if event.call_dispatched.HasField("id"):
                dispatched[event.call_dispatched.id] = sampled
            case "trap_exited":
                ended_trap = not event.trap_exited.empty
            case "state_changed":  # what is committed next stands behind an end of sequence
                ended_end = True
            case "interrupt_committed":
                committed = True
                if ended_trap:
                    seen.add(suite_pb2.WITNESS_TRAP_ENDED)
                elif not ended_end:
                    seen.add(suite_pb2.WITNESS_INTERRUPT_IN_TEXT)
                source = event.interrupt_committed.source
                if dispatched.get(source, sampled) < sampled and not (ended_trap or ended_end):
                    seen.add(suite_pb2.WITNESS_DECODED_BESIDE_CALL)
            case "call_settled":
                row = event.call_settled.row
                if (row.result, row.delivery) == (types_pb2.RESULT_OK, types_pb2.DELIVERY_DELIVERED):
                    seen.add(suite_pb2.WITNESS_CALL_DELIVERED)
            case "finished" if event.finished.reason == types_pb2.FINISH_REASON_STOP:
                seen.add(suite_pb2.WITNESS_STOPPED)
    return seen
