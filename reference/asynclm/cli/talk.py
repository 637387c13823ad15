"""Opens a session as the command line says, and holds the conversation: what `run` and `chat` have in common."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from asynclm.cli.connect import TargetChoice, connected
from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.faults import CliError
from asynclm.cli.line_editor import Command, Submitted
from asynclm.cli.output import OutputChoice, open_view
from asynclm.cli.session_options import SessionChoice
from asynclm.cli.tool_options import load_all

if TYPE_CHECKING:
    from asynclm.cli.keyboard import Keyboard
    from asynclm.cli.view import View
    from asynclm.client import AsyncLM


async def talk(prompt: str | None, choice: SessionChoice, place: TargetChoice, output: OutputChoice) -> ExitCode:
    """Runs one session.

    Args:
        prompt: the first message; None to take it, and every further turn, from standard input.
        choice: what the session is asked for.
        place: where it runs.
        output: what goes in and out.

    Raises:
        CliError: what was asked for cannot be done.
        AsyncLMError: the target cannot be reached, refuses, or broke off.
    """
    from asynclm.cli.conversation import Conversation
    from asynclm.cli.keyboard import Keyboard
    from asynclm.cli.recording import Recorder

    _check(choice, place)
    tools = load_all(choice.tools)
    options = choice.options()
    async with contextlib.AsyncExitStack() as stack:
        llm = await stack.enter_async_context(connected(place))
        if place.local.adapters:
            options["model"] = await _adapted(llm)
        if choice.script is not None:
            from asynclm.cli.script_file import load_script

            options["model"] = await load_script(llm, choice.script, choice.model)
        recorder = stack.enter_context(Recorder(output.record, target=llm.target)) if output.record else None
        keyboard = await stack.enter_async_context(Keyboard()) if output.typed else None
        editor = keyboard.editor if keyboard is not None and keyboard.interactive else None
        view = open_view(output.view, editor=editor, title=choice.mode.value)
        stack.callback(view.close)
        message = prompt if prompt is not None else await _first_message(view, keyboard)
        if message is None:
            return ExitCode.OK
        session = await stack.enter_async_context(llm.session(choice.messages(message), tools=tools, **options))
        turns = prompt is None and keyboard is not None and not keyboard.interactive
        conversation = Conversation(session, view, keyboard, recorder=recorder, step=choice.step, turns=turns)
        return await conversation.run()


async def _adapted(llm: AsyncLM) -> str:
    """The name of the model with the adapter that was loaded with it."""
    models = (await llm.server_info()).models
    return next(model.name for model in models if "adapter" in model.description)


def _check(choice: SessionChoice, place: TargetChoice) -> None:
    if place.local.adapters and place.address is not None:
        raise CliError("--adapter goes with a model that is loaded here; with --target, ask for MODEL+NAME by --model")
    if place.local.adapters and choice.script is not None:
        raise CliError("--adapter: a script's tokens are its own, whatever the weights; leave one of the two out")


async def _first_message(view: View, keyboard: Keyboard | None) -> str | None:
    """The first line that is not empty, drawn while it is typed; None at the end of input."""
    if keyboard is None:
        return None
    drawing = asyncio.create_task(_draw(view, keyboard))
    try:
        while isinstance(item := await keyboard.inputs.get(), Submitted) or item is Command.PAUSE:
            if isinstance(item, Submitted) and item.text.strip():
                view.note(f"› {item.text}")
                return item.text
        return None
    finally:
        drawing.cancel()


async def _draw(view: View, keyboard: Keyboard) -> None:
    while True:
        view.tick(0)
        keyboard.changed.clear()
        await keyboard.changed.wait()
