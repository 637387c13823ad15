"""Server events as JSON, by protobuf's own mapping with the field names of the proto files: for recordings and logs."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from asynclm.v1 import session_pb2
from asynclm.wire.errors import WireError
from asynclm.wire.received import from_server_event
from asynclm.wire.reports import to_server_event
from asynclm.wire.values import ReceivedEvent, UnknownEvent


def event_to_json(event: ReceivedEvent) -> dict[str, Any] | None:
    """A server event as a JSON object; None for one of a later revision, of which only its place is known."""
    if isinstance(event.report, UnknownEvent):
        return None
    pb = to_server_event(event.report, event.sequence, event.time_ms, timings=event.timings)
    pb.token_index = event.token_index
    return MessageToDict(pb, preserving_proto_field_name=True)


def event_from_json(value: Any) -> ReceivedEvent:
    """Reads a server event back; members that this revision does not know are left out.

    Raises:
        WireError: it is not a server event.
    """
    pb = session_pb2.ServerEvent()
    try:
        ParseDict(value, pb, ignore_unknown_fields=True)
    except (ParseError, AttributeError, TypeError, ValueError) as error:
        raise WireError(f"not a server event: {str(error)[:200]}") from None
    return from_server_event(pb)
