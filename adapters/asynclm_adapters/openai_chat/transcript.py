"""The conversation of a session as chat messages: the prompt, what the model said, and the interrupts between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from asynclm.cml.text_form import escape, frame_text
from asynclm.engine.replay import MOST_CHARACTERS
from asynclm.prompt.template import CmlPart, Message, Role
from asynclm.session.effects import InterruptCommitted
from asynclm_adapters.openai_chat.options import InterruptRole

ChatMessage = dict[str, Any]

DELIVER = "deliver_interrupts"
"""The name of the function whose calls stand for interrupts; the model never calls it."""

DELIVER_TOOL: ChatMessage = {
    "type": "function",
    "function": {
        "name": DELIVER,
        "description": "Called by the runtime, never by you: brings what has arrived.",
        "parameters": {"type": "object", "properties": {}},
    },
}

_ROLES = {Role.SYSTEM: "system", Role.USER: "user", Role.ASSISTANT: "assistant", Role.TOOL: "user"}


def content(message: Message) -> str:
    """What a message says, in the text form: literal text escaped, CML as it stands [SEC-006]."""
    return "".join(part.cml if isinstance(part, CmlPart) else escape(part.text) for part in message.parts)


class Transcript:
    """What the model is shown.

    Args:
        messages: the prompt.
        role: as what interrupts enter it.
    """

    def __init__(self, messages: Sequence[Message], role: InterruptRole) -> None:
        self._messages: list[ChatMessage] = [
            {"role": _ROLES[message.role], "content": content(message)} for message in messages
        ]
        self._role = role
        self._said = ""
        self._spoken = ""
        self._interrupts = 0

    @property
    def said(self) -> str:
        """What the model has said since the last interrupt."""
        return self._said

    @property
    def spoken(self) -> str:
        """The last of what the model has said, across interrupts, as far as it can be said again."""
        return self._spoken

    def say(self, piece: str) -> None:
        """The model's next piece entered the context."""
        self._said += piece
        self._spoken = (self._spoken + piece)[-MOST_CHARACTERS:]

    def take_back(self, word: str) -> None:
        """Takes back the word that the model said last: it had no right to it [CML-064]."""
        self._said = self._said.removesuffix(word)
        self._spoken = self._spoken.removesuffix(word)

    def interrupt(self, interrupts: Iterable[InterruptCommitted]) -> None:
        """Interrupts entered the context, behind what the model has said."""
        frames = "".join(frame_text(entry.source, entry.status, entry.payload) for entry in interrupts)
        said, self._said = self._said, ""
        self._interrupts += 1
        if self._role is InterruptRole.TOOL:
            name = f"interrupt_{self._interrupts}"
            call = {"id": name, "type": "function", "function": {"name": DELIVER, "arguments": "{}"}}
            self._messages.append({"role": "assistant", "content": said or None, "tool_calls": [call]})
            self._messages.append({"role": "tool", "tool_call_id": name, "content": frames})
            return
        if said:
            self._messages.append({"role": "assistant", "content": said})
        self._messages.append({"role": self._role.value, "content": frames})

    def request(self) -> list[ChatMessage]:
        """The messages of the next request."""
        if not self._said:
            return list(self._messages)
        return [*self._messages, {"role": "assistant", "content": self._said}]

    @property
    def uses_tools(self) -> bool:
        """Whether the messages have calls of `DELIVER`."""
        return self._role is InterruptRole.TOOL and self._interrupts > 0
