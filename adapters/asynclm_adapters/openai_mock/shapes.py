"""The objects of the API as JSON: chunks, completions, usage, models."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asynclm_adapters.openai_mock.messages import ToolCall

FINGERPRINT = "fp_asynclm_mock"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    def to_json(self) -> dict[str, Any]:
        """As completions and the last chunk of a stream have it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


@dataclass(frozen=True, slots=True)
class Completion:
    """The objects of one reply, which share an id, a time and a model.

    Attributes:
        model: the model's name.
        with_usage: every chunk has a `usage`, null but in the last.
    """

    model: str
    with_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_urlsafe(21)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def first(self) -> bytes:
        """The chunk with the role."""
        return self._delta({"role": "assistant", "content": "", "refusal": None})

    def delta(self, text: str) -> bytes:
        """A chunk of text."""
        return self._delta({"content": text})

    def call_delta(self, index: int, call_id: str | None, name: str | None, arguments: str) -> bytes:
        """A chunk of a tool call; id, type and name are in its first one."""
        call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
        if call_id is not None:
            call |= {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        return self._delta({"tool_calls": [call]})

    def finish(self, reason: str) -> bytes:
        """The chunk that says how it ended."""
        return self._delta({}, reason)

    def empty(self, usage: Usage | None = None) -> bytes:
        """A chunk without choices; the one of usage, if that is given."""
        return self._chunk([], usage)

    def whole(
        self, text: str, reason: str, usage: Usage, *, empty_choices: bool, tool_calls: Sequence[ToolCall] = ()
    ) -> dict[str, Any]:
        """The reply in one object."""
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        if tool_calls:
            functions = [{"name": call.name, "arguments": call.arguments} for call in tool_calls]
            message["content"] = text or None
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": function}
                for call, function in zip(tool_calls, functions, strict=True)
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        choices = [] if empty_choices else [choice]
        return self._object("chat.completion", choices) | {"usage": usage.to_json()}

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        return self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}])

    def _chunk(self, choices: list[dict[str, Any]], usage: Usage | None = None) -> bytes:
        chunk = self._object("chat.completion.chunk", choices)
        if self.with_usage:
            chunk["usage"] = usage.to_json() if usage else None
        return event(chunk)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def model_json(name: str) -> dict[str, Any]:
    """A model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "asynclm"}


def models_json(names: Iterable[str]) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [model_json(name) for name in names]}
