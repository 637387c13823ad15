"""The one conversion between protobuf messages and the values of `asynclm.cml` and `asynclm.session`.

May import the generated stubs, and of `asynclm.engine` and `asynclm.prompt` the value types alone. Imported by the
server, the client, the adapters and the conformance suite.
"""

from asynclm.wire.client_events import (
    AckReceived,
    ClientInput,
    ResumeAsked,
    SessionInput,
    client_event_from_pb,
    client_event_to_pb,
)
from asynclm.wire.errors import (
    FieldError,
    FieldViolation,
    StatusError,
    WireError,
    abort,
    fault_from_rpc_error,
    field_fault,
    shorten,
)
from asynclm.wire.info import (
    server_info_from_pb,
    server_info_to_pb,
    session_detail_from_pb,
    session_detail_to_pb,
    summary_from_pb,
    summary_to_pb,
)
from asynclm.wire.received import from_server_event
from asynclm.wire.reports import to_server_event
from asynclm.wire.scripts import script_from_pb, script_to_pb
from asynclm.wire.start import StartRequest, start_from_pb, start_to_pb
from asynclm.wire.started import binding_of
from asynclm.wire.tools import check_names, tool_from_pb, tool_to_pb
from asynclm.wire.values import (
    Binding,
    BoundToken,
    Capability,
    Instructions,
    ModelInfo,
    OfferedTool,
    OnDisconnect,
    ReceivedEvent,
    Resumed,
    ServerInfo,
    ServerLimits,
    ServerReport,
    SessionDetail,
    SessionSummary,
    SessionTimings,
    Started,
    UnknownEvent,
)

__all__ = [
    "AckReceived",
    "Binding",
    "BoundToken",
    "Capability",
    "ClientInput",
    "FieldError",
    "FieldViolation",
    "Instructions",
    "ModelInfo",
    "OfferedTool",
    "OnDisconnect",
    "ReceivedEvent",
    "ResumeAsked",
    "Resumed",
    "ServerInfo",
    "ServerLimits",
    "ServerReport",
    "SessionDetail",
    "SessionInput",
    "SessionSummary",
    "SessionTimings",
    "StartRequest",
    "Started",
    "StatusError",
    "UnknownEvent",
    "WireError",
    "abort",
    "binding_of",
    "check_names",
    "client_event_from_pb",
    "client_event_to_pb",
    "fault_from_rpc_error",
    "field_fault",
    "from_server_event",
    "script_from_pb",
    "script_to_pb",
    "server_info_from_pb",
    "server_info_to_pb",
    "session_detail_from_pb",
    "session_detail_to_pb",
    "shorten",
    "start_from_pb",
    "start_to_pb",
    "summary_from_pb",
    "summary_to_pb",
    "to_server_event",
    "tool_from_pb",
    "tool_to_pb",
]
