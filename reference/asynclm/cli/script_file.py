"""A CML text as a script: what the model is made to say, token by token."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asynclm.cli.faults import CliError

if TYPE_CHECKING:
    from asynclm.client import AsyncLM
    from asynclm.engine.script import ScriptStep


def read_script(path: Path) -> list[ScriptStep]:
    """Reads a script: text and control tokens in their order, then end of sequence; well formed or not.

    Raises:
        CliError: the file cannot be read, or is empty.
    """
    from asynclm.cml.control import OPENING, Control
    from asynclm.cml.text_form import TextFormDecoder
    from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptText

    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        text = data.decode("utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"--script {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if not text:
        raise CliError(f"--script {path}: is empty")
    decoder = TextFormDecoder()
    in_block = False
    steps: list[ScriptStep] = []
    for is_text, items in itertools.groupby((*decoder.feed_text(text), decoder.flush()), lambda i: isinstance(i, str)):
        if is_text:
            said = "".join(item for item in items if isinstance(item, str))
            # The spaces that the text form puts beside control tokens inside a block are no part of what it says.
            said = said.strip() if in_block else said
            steps += [ScriptText(said)] if said else []
            continue
        for item in items:
            if isinstance(item, Control):
                steps.append(ScriptControl(item))
                in_block = item in OPENING or (in_block and item is Control.HEAD)
    return [*steps, ScriptEnd()]


async def load_script(llm: AsyncLM, path: Path, model: str | None) -> str:
    """Loads a script into the target; gives the name of the model that says it.

    The weights compute every step where the target can do that; then tools and timers run on the wall clock.

    Raises:
        AsyncLMError: the target has no scripted models, or refuses this one.
    """
    import secrets

    from asynclm.wire.values import Capability

    script_id = f"cli-{secrets.token_hex(6)}"
    info = await llm.server_info()
    await llm.load_script(script_id, read_script(path), model=model)
    weights = "+weights" if Capability.SCRIPTED_WEIGHTS in info.capabilities else ""
    return f"script:{script_id}{weights}"
