"""The Python client: sessions, client-owned tools, events.

    async with AsyncLM("localhost:50151") as llm:
        async with llm.session("Who chairs the department?", tools=[directory]) as session:
            async for event in session:
                match event.report:
                    case Tokens(text=text):
                        print(text, end="")
        print((await session.result()).usage)

May import `asynclm.wire`, `asynclm.cml` and `asynclm.tools`, and the value types of the session, the prompt and the
engine's seam; no torch. Imported by the CLI and by users.
"""

from asynclm.client.client import AsyncLM
from asynclm.client.errors import (
    AsyncLMError,
    AuthenticationError,
    InterruptRejectedError,
    InvalidRequestError,
    LimitError,
    NotFoundError,
    ProtocolError,
    ServerError,
    SessionClosedError,
    UnavailableError,
    UnsupportedError,
)
from asynclm.client.options import AnyTool, Prompt, SessionOptions
from asynclm.client.session import Session
from asynclm.client.stream import EventStream, Generation, SessionResult
from asynclm.cml.codec import EOS
from asynclm.cml.control import Control, Status
from asynclm.engine.base import SamplingParams
from asynclm.prompt.template import CmlPart, Message, Role, TextPart
from asynclm.session.effects import (
    CallCancelRequested,
    CallDispatched,
    CallEmitted,
    CallRow,
    CallSettled,
    CancelAnswered,
    Finished,
    HostedUsage,
    InterruptAccepted,
    InterruptCommitted,
    InterruptRejected,
    InterruptRow,
    Notice,
    Probed,
    StateChanged,
    Tokens,
    TrapEntered,
    TrapExited,
    Usage,
)
from asynclm.session.events import TokenLogprob
from asynclm.session.state import FinishReason, Scheduling
from asynclm.tools import Tool, ToolSpec, tool
from asynclm.wire import ReceivedEvent, ServerInfo, Started

__all__ = [
    "EOS",
    "AnyTool",
    "AsyncLM",
    "AsyncLMError",
    "AuthenticationError",
    "CallCancelRequested",
    "CallDispatched",
    "CallEmitted",
    "CallRow",
    "CallSettled",
    "CancelAnswered",
    "CmlPart",
    "Control",
    "EventStream",
    "FinishReason",
    "Finished",
    "Generation",
    "HostedUsage",
    "InterruptAccepted",
    "InterruptCommitted",
    "InterruptRejected",
    "InterruptRejectedError",
    "InterruptRow",
    "InvalidRequestError",
    "LimitError",
    "Message",
    "NotFoundError",
    "Notice",
    "Probed",
    "Prompt",
    "ProtocolError",
    "ReceivedEvent",
    "Role",
    "SamplingParams",
    "Scheduling",
    "ServerError",
    "ServerInfo",
    "Session",
    "SessionClosedError",
    "SessionOptions",
    "SessionResult",
    "Started",
    "StateChanged",
    "Status",
    "TextPart",
    "TokenLogprob",
    "Tokens",
    "Tool",
    "ToolSpec",
    "TrapEntered",
    "TrapExited",
    "UnavailableError",
    "UnsupportedError",
    "Usage",
    "tool",
]
