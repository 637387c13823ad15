"""`Start`: what a client asks of a session, both ways, every field checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from asynclm.cml.control import BodyLanguage
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import SamplingParams
from asynclm.prompt.template import CmlPart, Message, Part, Role, TextPart
from asynclm.session.config import (
    Constraints,
    DeliveryPolicy,
    ExecutionMode,
    Granularity,
    Limits,
    OnEnd,
    SessionConfig,
    Unit,
)
from asynclm.v1 import session_pb2, types_pb2
from asynclm.wire import enums
from asynclm.wire.errors import BAD_TOOL, FieldError, shorten
from asynclm.wire.ledger import given_limits
from asynclm.wire.tools import check_names, tool_to_pb, tools_from_pb
from asynclm.wire.values import Instructions, OnDisconnect

T = TypeVar("T")

GREEDY = SamplingParams()
"""How tokens are chosen where nothing is said."""

MAX_LABELS = 16
MAX_LABEL_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """What a client asks of a session. What it leaves open is None or the protocol's default.

    Attributes:
        model: a served model's name; None for the server's first.
        messages: the conversation; or `prompt_ids`, the prompt as token ids, taken as they are. Exactly one.
        instructions: what the server writes into the prompt beside the messages.
        tools: tools that the client runs.
        server_tools: names of the server's own tools that the model may call; None for all.
        sampling: how tokens are chosen.
        mode, on_end, gate_end, body_language, granularity, granularity_hold, coalesce_ms, credit: see `SessionConfig`.
        delivery: when results are committed; None for what `coalesce_ms` says, else the server's choice.
        on_disconnect, constraints: None for the best that the server can do.
        limits: limits by name, each at most what the server allows.
        labels: shown by ListSessions.
        stop: strings that end decoding; see `SessionConfig`.
    """

    model: str | None = None
    messages: tuple[Message, ...] = ()
    prompt_ids: tuple[int, ...] | None = None
    instructions: Instructions = Instructions.FULL
    tools: tuple[ToolSpec, ...] = ()
    server_tools: tuple[str, ...] | None = None
    sampling: SamplingParams = GREEDY
    mode: ExecutionMode = ExecutionMode.ASYNC
    on_end: OnEnd = OnEnd.WAIT
    on_disconnect: OnDisconnect | None = None
    constraints: Constraints | None = None
    gate_end: bool = False
    body_language: BodyLanguage = BodyLanguage.PYTHON
    granularity: Granularity = Granularity.TOKEN
    granularity_hold: int | None = None
    delivery: DeliveryPolicy | None = None
    coalesce_ms: int = 0
    credit: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    stop: tuple[str, ...] = ()

    def offered(self, server_tools: Iterable[ToolSpec]) -> tuple[ToolSpec, ...]:
        """The tools of the session: the client's, then those of the server's that it asked for.

        Args:
            server_tools: all tools of the server's own.

        Raises:
            FieldError: an unknown server tool, a name on both sides, or a name that the body language cannot write.
        """
        own = {spec.name: spec for spec in server_tools}
        wanted = tuple(own) if self.server_tools is None else self.server_tools
        for position, name in enumerate(wanted):
            if name not in own:
                known = ", ".join(list(own)[:20]) or "none"
                raise FieldError(
                    f"start.server_tools.names[{position}]", f"is {shorten(name)}; the server has: {known}"
                )
        for position, spec in enumerate(self.tools):
            if spec.name in wanted:
                raise FieldError(
                    f"start.tools[{position}].name",
                    f"is {shorten(spec.name)}, a tool of the server's own; rename it, or leave the server's out",
                    BAD_TOOL,
                )
        chosen = [own[name] for name in dict.fromkeys(wanted)]
        check_names(self.tools, self.body_language, "start.tools")
        check_names(chosen, self.body_language, "server tools")
        return (*self.tools, *chosen)

    def limits_in_force(self, allowed: Limits) -> Limits:
        """The session's limits: what the client asks for, else what the server allows.

        Raises:
            FieldError: a limit is not positive or over what the server allows.
        """
        for name, value in self.limits.items():
            most = getattr(allowed, name)
            if not 0 < value <= most:
                raise FieldError(f"start.limits.{name}", f"is {value}; allowed: 1 to {most}")
        return Limits(**{**vars(allowed), **self.limits})

    def _user_texts(self) -> tuple[str, ...]:
        """What the user says, for arguments that are copied from it [CALL-101]."""
        spoken = (part for message in self.messages if message.role is Role.USER for part in message.parts)
        return tuple(part.text for part in spoken if isinstance(part, TextPart) and part.text)

    def with_delivery(self, delivery: DeliveryPolicy | None, coalesce_ms: int) -> StartRequest:
        """The same, with a server's choice of delivery where it says nothing of it [INT-062]."""
        if self.delivery is not None or self.coalesce_ms or delivery is None:
            return self
        return replace(self, delivery=delivery, coalesce_ms=coalesce_ms)

    def session_config(
        self,
        *,
        tools: Sequence[ToolSpec],
        limits: Limits,
        prompt_tokens: int,
        constraints: Constraints = Constraints.GRAMMAR,
        unit: Unit = Unit.TOKEN,
    ) -> SessionConfig:
        """The machine's settings.

        Args:
            tools: what `offered` gave.
            limits: what `limits_in_force` gave.
            prompt_tokens: length of the rendered prompt.
            constraints: where the client leaves them open.
            unit: what one unit of credit and index is.

        Raises:
            FieldError: a field is out of range.
        """
        hold = {} if self.granularity_hold is None else {"granularity_hold": self.granularity_hold}
        return _checked(
            SessionConfig,
            mode=self.mode,
            on_end=self.on_end,
            constraints=self.constraints or constraints,
            gate_end=self.gate_end,
            body_language=self.body_language,
            granularity=self.granularity,
            delivery=self.delivery,
            coalesce_ms=self.coalesce_ms,
            credit=self.credit,
            unit=unit,
            stop=self.stop,
            prompt_tokens=prompt_tokens,
            request_texts=self._user_texts(),
            tools=tuple(tools),
            client_tools=frozenset(spec.name for spec in self.tools),
            limits=limits,
            **hold,
        )


def start_from_pb(pb: session_pb2.Start) -> StartRequest:
    """Reads `Start`. What depends on the server (models, limits, its tools) is left to it.

    Raises:
        FieldError: a field is not allowed; names it, its value cut short, and what is allowed.
    """
    messages, prompt_ids = _prompt(pb)
    request = StartRequest(
        model=pb.model if pb.HasField("model") else None,
        messages=messages,
        prompt_ids=prompt_ids,
        instructions=enums.INSTRUCTIONS.given(pb.instructions, "start.instructions") or Instructions.FULL,
        tools=tools_from_pb(pb.tools, "start.tools"),
        server_tools=tuple(pb.server_tools.names) if pb.HasField("server_tools") else None,
        sampling=_sampling(pb.sampling),
        mode=enums.EXECUTION_MODE.given(pb.mode, "start.mode") or ExecutionMode.ASYNC,
        on_end=enums.ON_END.given(pb.on_end, "start.on_end") or OnEnd.WAIT,
        on_disconnect=enums.ON_DISCONNECT.given(pb.on_disconnect, "start.on_disconnect"),
        constraints=enums.CONSTRAINTS.given(pb.constraints, "start.constraints"),
        gate_end=pb.gate_end,
        body_language=enums.BODY_LANGUAGE.given(pb.body_language, "start.body_language") or BodyLanguage.PYTHON,
        granularity=enums.GRANULARITY.given(pb.granularity, "start.granularity") or Granularity.TOKEN,
        granularity_hold=pb.granularity_hold if pb.HasField("granularity_hold") else None,
        delivery=enums.DELIVERY_POLICY.given(pb.delivery, "start.delivery"),
        coalesce_ms=pb.coalesce_ms,
        credit=pb.credit if pb.HasField("credit") else None,
        limits=given_limits(pb.limits),
        labels=_labels(pb.labels),
        stop=tuple(pb.stop),
    )
    # Ranges are checked here and now, though the machine's settings come later.
    _checked(Limits, "start.limits", **request.limits)
    request.session_config(tools=request.tools, limits=Limits(), prompt_tokens=0)
    return request


def start_to_pb(request: StartRequest) -> session_pb2.Start:
    """Writes `Start`; what is left open stays absent."""
    prompt_ids = None if request.prompt_ids is None else types_pb2.TokenIds(ids=request.prompt_ids)
    names = request.server_tools
    return session_pb2.Start(
        model=request.model,
        messages=[_message_to_pb(message) for message in request.messages],
        prompt_ids=prompt_ids,
        instructions=enums.INSTRUCTIONS.number(request.instructions),
        tools=[tool_to_pb(spec) for spec in request.tools],
        server_tools=None if names is None else session_pb2.ServerTools(names=names),
        sampling=types_pb2.Sampling(**{f.name: getattr(request.sampling, f.name) for f in fields(SamplingParams)}),
        mode=enums.EXECUTION_MODE.number(request.mode),
        on_end=enums.ON_END.number(request.on_end),
        on_disconnect=enums.ON_DISCONNECT.number(request.on_disconnect),
        constraints=enums.CONSTRAINTS.number(request.constraints),
        gate_end=request.gate_end,
        body_language=enums.BODY_LANGUAGE.number(request.body_language),
        granularity=enums.GRANULARITY.number(request.granularity),
        granularity_hold=request.granularity_hold,
        delivery=enums.DELIVERY_POLICY.number(request.delivery),
        coalesce_ms=request.coalesce_ms,
        credit=request.credit,
        limits=types_pb2.Limits(**request.limits),
        labels=dict(request.labels),
        stop=request.stop,
    )


def _prompt(pb: session_pb2.Start) -> tuple[tuple[Message, ...], tuple[int, ...] | None]:
    if pb.HasField("prompt_ids"):
        if pb.messages:
            raise FieldError("start.prompt_ids", "is given beside messages; give one of the two")
        if not pb.prompt_ids.ids:
            raise FieldError("start.prompt_ids", "is empty; give at least one token id")
        return (), tuple(pb.prompt_ids.ids)
    if not pb.messages:
        raise FieldError("start.messages", "is empty; give messages, or prompt_ids")
    return tuple(_message(m, f"start.messages[{i}]") for i, m in enumerate(pb.messages)), None


def _message(pb: types_pb2.Message, path: str) -> Message:
    role = enums.ROLE.given(pb.role, f"{path}.role")
    if role is None:
        raise FieldError(f"{path}.role", f"is not given; allowed: {', '.join(r.name for r in enums.ROLE.python)}")
    parts: list[Part] = []
    for position, part in enumerate(pb.parts):
        which = part.WhichOneof("part")
        if which is None:
            raise FieldError(f"{path}.parts[{position}]", "is empty; give text or cml")
        parts.append(CmlPart(part.cml) if which == "cml" else TextPart(part.text))
    return Message(role, tuple(parts))


def _message_to_pb(message: Message) -> types_pb2.Message:
    parts = [
        types_pb2.Part(cml=p.cml) if isinstance(p, CmlPart) else types_pb2.Part(text=p.text) for p in message.parts
    ]
    return types_pb2.Message(role=enums.ROLE.number(message.role), parts=parts)


def _sampling(pb: types_pb2.Sampling) -> SamplingParams:
    given = {descriptor.name: value for descriptor, value in pb.ListFields()}
    return _checked(SamplingParams, "start.sampling", **given)


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    if len(labels) > MAX_LABELS:
        raise FieldError("start.labels", f"has {len(labels)} entries; at most {MAX_LABELS} are allowed")
    for key, value in labels.items():
        if max(len(key.encode()), len(value.encode())) > MAX_LABEL_BYTES:
            raise FieldError("start.labels", f"has a label {shorten(key)} of over {MAX_LABEL_BYTES} bytes")
    return dict(labels)


def _checked(make: type[T], path: str = "start", /, **values: Any) -> T:
    """Makes a value that checks itself; its ValueError, which opens with the field's name, becomes a FieldError."""
    try:
        return make(**values)
    except ValueError as error:
        text = str(error)
        named = re.match(r"([a-z_]+(?:\.[a-z_]+|\[\d+\])*) (is .*)", text, re.DOTALL)
        if named is None:
            raise FieldError(path, f"is not allowed: {text}") from None
        name = named[1].removeprefix(path.removeprefix("start.") + ".")
        raise FieldError(f"{path}.{name}", named[2]) from None
