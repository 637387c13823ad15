"""Messages and tools to a rendered prompt: the system message gains the section on functions and CML."""

from __future__ import annotations

from collections.abc import Sequence

from asynclm.cml.control import BodyLanguage
from asynclm.cml.toolspec import ToolSpec
from asynclm.prompt.instructions import system_section
from asynclm.prompt.template import Message, Part, PromptTemplate, Role, Segment, TextPart
from asynclm.session.config import ExecutionMode


def build_prompt(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    template: PromptTemplate,
    *,
    mode: ExecutionMode = ExecutionMode.ASYNC,
    language: BodyLanguage = BodyLanguage.PYTHON,
    instructions: bool = True,
) -> tuple[Segment, ...]:
    """Renders a conversation.

    Args:
        messages: the conversation, up to where the assistant begins to speak.
        tools: the functions the model may call.
        template: the checkpoint's chat template.
        mode: when calls run.
        language: the language of call bodies.
        instructions: whether the system message gains the section on functions and CML; off for models that were
            given their tools in another way.

    Raises:
        ValueError: the template refuses the conversation, or loses a message.
    """
    section = system_section(tools, mode, language) if instructions else ()
    return template.render(with_section(messages, section))


def with_section(messages: Sequence[Message], section: tuple[Part, ...]) -> tuple[Message, ...]:
    """Appends a section to the first system message, or puts a system message of its own in front."""
    if not section:
        return tuple(messages)
    if messages and messages[0].role is Role.SYSTEM:
        head = messages[0].parts
        parts = (*head, TextPart("\n\n"), *section) if head else section
        return (Message(Role.SYSTEM, parts), *messages[1:])
    return (Message(Role.SYSTEM, section), *messages)
