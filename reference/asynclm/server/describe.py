"""What a server says of itself: `GetServerInfo`, and the part of it that every `Started` repeats."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from asynclm.cml.binding import TokenCodec
from asynclm.cml.grammar import grammar_fingerprint
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine import guidance
from asynclm.engine.base import MAX_TOP_LOGPROBS, Engine, model_names
from asynclm.engine.hosted import HostedModel, hosted
from asynclm.server.options import ServerOptions
from asynclm.session.config import MAX_STOP_STRING_BYTES, MAX_STOP_STRINGS, Limits, Unit
from asynclm.wire.started import binding_of
from asynclm.wire.values import Capability, ModelInfo, ServerInfo, ServerLimits

PROTOCOL_REVISION = "draft"
"""The revision of the specification that this server implements."""

_CAPABILITIES = frozenset(
    {
        Capability.GENERATE,
        Capability.PROMPT_IDS,
        Capability.LOGPROBS,
        Capability.STATIC_MASK,
        Capability.STATE_GATES,
        Capability.KEEP,
        Capability.SYNC_MODES,
        Capability.PYTHON_CALL,
        Capability.JSON_CALL,
        Capability.GRANULARITY,
        Capability.COALESCE,
        Capability.LAZY,
        Capability.STOP_STRINGS,
        Capability.PENALTIES,
    }
)


_HOSTED = frozenset(
    {
        Capability.GENERATE,
        Capability.KEEP,
        Capability.SYNC_MODES,
        Capability.PYTHON_CALL,
        Capability.JSON_CALL,
        Capability.GRANULARITY,
        Capability.COALESCE,
        Capability.LAZY,
        Capability.STOP_STRINGS,
    }
)
"""What needs no mask and no ids."""


def describe(
    engine: Engine | HostedModel, options: ServerOptions, limits: Limits, tools: Sequence[ToolSpec]
) -> ServerInfo:
    """What this server is and can do."""
    info = engine.info
    codec = engine.codec
    scripted_only = info.name == "scripted"
    elsewhere = hosted(engine)
    tokenizer = None if hosted(engine) else engine.tokenizer
    capabilities = set(_HOSTED if elsewhere else _CAPABILITIES)
    if guidance.available() and not elsewhere:
        capabilities.add(Capability.GRAMMAR)
    if options.resume_grace_s:
        capabilities.add(Capability.RESUME)
    if tools:
        capabilities.add(Capability.SERVER_TOOLS)
    if options.scripts and (not hosted(engine) or engine.plays_scripts):
        capabilities.add(Capability.SCRIPTED_MODEL)
        if not scripted_only and not elsewhere:
            capabilities.add(Capability.SCRIPTED_WEIGHTS)
    binding = codec.binding.name if isinstance(codec, TokenCodec) else ""
    return ServerInfo(
        server="asynclm-reference",
        server_version=metadata.version("asynclm-protocol"),
        protocol_revision=PROTOCOL_REVISION,
        models=tuple(
            ModelInfo(
                name=name,
                engine=info.name,
                context_length=limits.context_length,
                max_sequences=info.max_sequences,
                binding=binding_of(codec, tokenizer, binding),
                description=info.description if adapter is None else {**info.description, "adapter": adapter},
                vocab_size=0 if tokenizer is None else tokenizer.vocab_size,
                scripted_only=scripted_only,
            )
            for name, adapter in model_names(info).items()
        ),
        capabilities=frozenset(capabilities),
        emulated=elsewhere,
        unit=Unit.PIECE if elsewhere else Unit.TOKEN,
        limits=limits,
        server_limits=ServerLimits(
            max_message_bytes=options.limits.max_message_bytes,
            max_sessions=options.limits.max_sessions,
            max_prompt_bytes=options.limits.max_prompt_bytes,
            max_tools=options.limits.max_tools,
            resume_grace_ms=round(options.resume_grace_s * 1000),
            max_kept_events=options.limits.max_kept_events if options.resume_grace_s else 0,
            max_stop_strings=MAX_STOP_STRINGS,
            max_stop_string_bytes=MAX_STOP_STRING_BYTES,
            max_top_logprobs=MAX_TOP_LOGPROBS,
            start_timeout_ms=round(options.limits.start_timeout_s * 1000),
            max_script_steps=options.limits.max_script_steps if options.scripts else 0,
            max_scripts=options.limits.max_scripts if options.scripts else 0,
        ),
        tools=tuple(tools),
        grammar_hash=grammar_fingerprint(),
    )
