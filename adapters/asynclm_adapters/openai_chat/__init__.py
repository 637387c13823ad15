"""The protocol on hosted chat-completions APIs: GPT-4o, and whatever speaks the same interface.

May import what `asynclm.server` may; never torch. Registered as the engine `openai`. No rule of CML or of sessions is
implemented here: the session machine, the parser, the tools and the server are the project's own.
"""

from __future__ import annotations

from typing import Any

from asynclm.engine.hosted import HostedModel

__all__ = ["open_engine"]


def open_engine(
    model: str = "gpt-4o",
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    interrupt_role: str = "tool",
    upstream_scripts: bool = False,
    context_length: int | None = None,
    max_sequences: int | None = None,
    retries: int | None = None,
    backoff_s: float | None = None,
    first_token_s: float | None = None,
    stall_s: float | None = None,
    **_: Any,
) -> HostedModel:
    """Opens a model on a chat-completions endpoint. Options of other engines are accepted and unused.

    Args:
        model: the name that the endpoint knows; `gpt-4o` and `gpt-4o-mini` are presets.
        base_url: the endpoint, ending in `/v1`; None for `OPENAI_BASE_URL`, or OpenAI's own.
        api_key: None for `OPENAI_API_KEY`.
        interrupt_role: as what interrupts reach the model: `tool`, `developer`, `user`.
        upstream_scripts: the endpoint plays scripts (`asynclm mock-openai`).
        context_length: tokens of prompt and answer together; None for the preset's.
        max_sequences: sessions open at once.
        retries, backoff_s, first_token_s, stall_s: see `OpenAIOptions`.

    Raises:
        ValueError: a setting is out of range, or there is no key.
    """
    from asynclm_adapters.openai_chat.model import ChatModel
    from asynclm_adapters.openai_chat.options import InterruptRole, OpenAIOptions

    roles = [role.value for role in InterruptRole]
    if interrupt_role not in roles:
        raise ValueError(f"interrupt_role is {interrupt_role[:40]!r}; allowed: {', '.join(roles)}")
    bound: dict[str, Any] = {
        "max_sequences": max_sequences,
        "retries": retries,
        "backoff_s": backoff_s,
        "first_token_s": first_token_s,
        "stall_s": stall_s,
    }
    return ChatModel(
        OpenAIOptions(
            model=model,
            base_url=base_url,
            api_key=api_key,
            interrupt_role=InterruptRole(interrupt_role),
            context_length=context_length,
            scripts=upstream_scripts,
            **{name: value for name, value in bound.items() if value is not None},
        )
    )
