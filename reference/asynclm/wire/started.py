"""`Started`, `Resumed` and bindings, both ways."""

from __future__ import annotations

from collections.abc import Iterable

from asynclm.cml.codec import Codec, Tokenizer
from asynclm.cml.control import Control
from asynclm.v1 import session_pb2, types_pb2
from asynclm.wire import enums
from asynclm.wire.errors import WireError
from asynclm.wire.ledger import limits_from_pb, limits_to_pb
from asynclm.wire.values import Binding, BoundToken, Capability, OfferedTool, Resumed, Started


def binding_of(codec: Codec, tokenizer: Tokenizer | None = None, name: str = "") -> Binding:
    """The binding that a server publishes for a codec; without a tokenizer, that of the text form."""
    ids = codec.control_ids
    tokens = []
    for control in Control:
        token_id = ids.get(control)
        named = tokenizer is not None and token_id is not None
        spelling = tokenizer.spelling(token_id) if tokenizer and token_id is not None and named else control.value
        tokens.append(BoundToken(control, token_id, spelling))
    fingerprint = tokenizer.fingerprint if tokenizer is not None else ""
    eos_ids = tuple(sorted(codec.eos_ids))
    return Binding(name=name, tokens=tuple(tokens), eos_ids=eos_ids, tokenizer_fingerprint=fingerprint)


def binding_to_pb(binding: Binding) -> types_pb2.Binding:
    """A tokenizer binding."""
    return types_pb2.Binding(
        name=binding.name,
        tokens=[
            types_pb2.BoundToken(control=enums.CONTROL.number(t.control), id=t.id, spelling=t.spelling)
            for t in binding.tokens
        ],
        eos_ids=binding.eos_ids,
        tokenizer_fingerprint=binding.tokenizer_fingerprint,
    )


def binding_from_pb(pb: types_pb2.Binding) -> Binding:
    """A tokenizer binding.

    Raises:
        WireError: it binds a control token that this revision does not know.
    """
    return Binding(
        name=pb.name,
        tokens=tuple(
            BoundToken(enums.CONTROL.member(t.control), t.id if t.HasField("id") else None, t.spelling)
            for t in pb.tokens
        ),
        eos_ids=tuple(pb.eos_ids),
        tokenizer_fingerprint=pb.tokenizer_fingerprint,
    )


def capabilities_from_pb(numbers: Iterable[int]) -> frozenset[Capability]:
    """The capabilities that this revision knows; those of later ones are left out."""
    found = set()
    for number in numbers:
        try:
            found.add(enums.CAPABILITY.member(number))
        except WireError:
            continue
    return frozenset(found)


def started_to_pb(started: Started) -> session_pb2.Started:
    """The first event's content."""
    return session_pb2.Started(
        session_id=started.session_id,
        model=started.model,
        capabilities=sorted(enums.CAPABILITY.number(c) for c in started.capabilities),
        binding=binding_to_pb(started.binding),
        grammar_hash=started.grammar_hash,
        prompt_tokens=started.prompt_tokens,
        limits=limits_to_pb(started.limits),
        unenforced_schema_keywords=started.unenforced_schema_keywords,
        emulated=started.emulated,
        unit=enums.UNIT.number(started.unit),
        tools=[session_pb2.OfferedTool(name=t.name, client_owned=t.client_owned) for t in started.tools],
        mode=enums.EXECUTION_MODE.number(started.mode),
        on_end=enums.ON_END.number(started.on_end),
        on_disconnect=enums.ON_DISCONNECT.number(started.on_disconnect),
        constraints=enums.CONSTRAINTS.number(started.constraints),
        body_language=enums.BODY_LANGUAGE.number(started.body_language),
        credit=started.credit,
        delivery=enums.DELIVERY_POLICY.number(started.delivery),
        coalesce_ms=started.coalesce_ms,
    )


def started_from_pb(pb: session_pb2.Started) -> Started:
    """The first event's content.

    Raises:
        WireError: it has a value that this revision does not know.
    """
    return Started(
        session_id=pb.session_id,
        model=pb.model,
        capabilities=capabilities_from_pb(pb.capabilities),
        binding=binding_from_pb(pb.binding),
        grammar_hash=pb.grammar_hash,
        prompt_tokens=pb.prompt_tokens,
        limits=limits_from_pb(pb.limits),
        unenforced_schema_keywords=tuple(pb.unenforced_schema_keywords),
        emulated=pb.emulated,
        unit=enums.UNIT.member(pb.unit),
        tools=tuple(OfferedTool(t.name, t.client_owned) for t in pb.tools),
        mode=enums.EXECUTION_MODE.member(pb.mode),
        on_end=enums.ON_END.member(pb.on_end),
        on_disconnect=enums.ON_DISCONNECT.member(pb.on_disconnect),
        constraints=enums.CONSTRAINTS.member(pb.constraints),
        body_language=enums.BODY_LANGUAGE.member(pb.body_language),
        credit=pb.credit if pb.HasField("credit") else None,
        delivery=enums.DELIVERY_POLICY.optional(pb.delivery),
        coalesce_ms=pb.coalesce_ms,
    )


def resumed_to_pb(resumed: Resumed) -> session_pb2.Resumed:
    """A resumed stream's first event."""
    return session_pb2.Resumed(
        last_client_seq=resumed.last_client_seq,
        last_event_seq=resumed.last_event_seq,
        started=started_to_pb(resumed.started),
    )


def resumed_from_pb(pb: session_pb2.Resumed) -> Resumed:
    """A resumed stream's first event.

    Raises:
        WireError: it has a value that this revision does not know.
    """
    return Resumed(
        last_client_seq=pb.last_client_seq,
        last_event_seq=pb.last_event_seq,
        started=started_from_pb(pb.started),
    )
