"""A model on a chat-completions endpoint, as the server sees it."""

from __future__ import annotations

from collections.abc import Sequence

import openai

from asynclm.cml.text_form import TextCodec
from asynclm.engine.base import EngineInfo, EngineStats, SamplingParams
from asynclm.engine.replay import LEAST_CHARACTERS
from asynclm.engine.script import Script
from asynclm.prompt.template import Message
from asynclm_adapters.openai_chat.cost import tokens_of
from asynclm_adapters.openai_chat.options import OpenAIOptions
from asynclm_adapters.openai_chat.script import ScriptPlay, load
from asynclm_adapters.openai_chat.session import ChatSession
from asynclm_adapters.openai_chat.transcript import Transcript, content
from asynclm_adapters.openai_chat.upstream import Upstream

RESTARTS = (
    f"text that repeats the end of what was said, {LEAST_CHARACTERS} characters or more, is left out, and so are calls "
    "said again; not told apart: the same text or anonymous call meant twice right behind an interrupt, and calls said "
    "again under a new name"
)
"""What cannot be known of a model that is asked anew [SES-122]."""


class ChatModel:
    """A `HostedModel` (asynclm.engine.hosted).

    Raises:
        ValueError: there is no key.
    """

    codec = TextCodec()

    def __init__(self, options: OpenAIOptions) -> None:
        self._options = options
        self._scripts: dict[str, str] = {}
        try:
            self._upstream = Upstream(options)
        except openai.OpenAIError:
            raise ValueError(
                "no API key: set OPENAI_API_KEY; for an endpoint that asks for none, set it to any word"
            ) from None
        self.info = EngineInfo(
            name="openai",
            model=options.model,
            context_length=options.tokens,
            max_sequences=options.max_sequences,
            description={
                "endpoint": str(self._upstream.client.base_url),
                "interrupts": f"as {options.interrupt_role.value} messages; a request for each batch",
                "restarts": RESTARTS,
            },
        )

    @property
    def plays_scripts(self) -> bool:
        """Whether the endpoint is one that plays scripts (`asynclm mock-openai`), as its operator says."""
        return self._options.scripts

    def session(self, messages: Sequence[Message], sampling: SamplingParams, *, script: str | None) -> ChatSession:
        """Makes a session."""
        transcript = Transcript(messages, self._options.interrupt_role)
        play = None if script is None else ScriptPlay(self._upstream.client, self._scripts[script])
        return ChatSession(self._upstream, self.info, transcript, sampling, script=play)

    async def load(self, script: Script) -> list[int]:
        """Gives a script to the endpoint, if it is one that plays scripts; the number of units of each step."""
        self._scripts[script.id], units = await load(self._upstream, script)
        return units

    def count(self, messages: Sequence[Message]) -> int:
        """About how many tokens a prompt has: a quarter of its characters."""
        return 1 + tokens_of(sum(len(content(message)) for message in messages))

    def stats(self) -> EngineStats:
        """Nothing is computed here."""
        return EngineStats()

    def shutdown(self) -> None:
        """Ends what runs."""
        self._upstream.close()
