"""Scripts on an endpoint that plays them (`asynclm mock-openai`), so that conformance cases run through the adapter."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import openai
from openai import AsyncOpenAI

from asynclm.cml.text_form import escape
from asynclm.engine.script import Script, ScriptControl, ScriptEnd, ScriptError, ScriptStep, ScriptText
from asynclm_adapters.openai_chat.cutting import Cutter
from asynclm_adapters.openai_chat.upstream import Upstream

_plays = itertools.count(1)
_loads = itertools.count(1)


class ScriptPlay:
    """One session's way through a script; the endpoint keeps where it stands.

    Args:
        client: of the endpoint.
        script_id: the script.
    """

    def __init__(self, client: AsyncOpenAI, script_id: str) -> None:
        self._client = client
        self._id = script_id
        self._session = f"play-{next(_plays)}"
        self._begun = False

    @property
    def model(self) -> str:
        """The model that requests ask for."""
        return f"script:{self._id}"

    @property
    def headers(self) -> dict[str, str]:
        """What tells the endpoint which play a request goes on with."""
        return {"X-Session": self._session}

    async def stand_at(self, characters: int, ends: int) -> None:
        """Takes back what was sent behind so many characters and ends of replies: the session has not heard it."""
        if not self._begun:
            self._begun = True
            return
        body = {"session": self._session, "characters": characters, "ends": ends}
        await post(self._client, f"/admin/scripts/{self._id}/position", body)


async def load(upstream: Upstream, script: Script) -> tuple[str, list[int]]:
    """Gives a script to the endpoint, under a name of its own: sessions that run keep what they began with [SCR-009].

    Returns:
        The name, and the number of pieces of each step.

    Raises:
        ScriptError: the endpoint plays no scripts, or a step is one that only weights can take.
    """
    name = f"{script.id[:100]}--{next(_loads)}"
    pieces: list[Any] = []
    units: list[int] = []
    cutter = Cutter()
    for step, text in zip(script.steps, _spelled(script.steps), strict=True):
        if isinstance(step, ScriptEnd):
            pieces.append({"finish": "stop"})
            units.append(1)
        else:
            cut = cutter.cut(text)
            pieces += cut
            units.append(len(cut))

    async def push() -> None:
        await post(upstream.client, f"/admin/scripts/{name}", {"pieces": pieces})

    try:
        await asyncio.wrap_future(upstream.start(push()))
    except openai.OpenAIError as error:
        raise ScriptError(f"the endpoint plays no scripts: {str(error)[:200]}") from None
    return name, units


def _spelled(steps: Sequence[ScriptStep]) -> list[str]:
    """Each step in the text form: texts that stand side by side are escaped as the one text that they are [CML-044]."""
    spelled: list[str] = []
    run: list[str] = []

    def close(*, before_token: bool) -> None:
        spelled.extend(_parted(run, escape("".join(run), before_token=before_token)))
        run.clear()

    for step in steps:
        match step:
            case ScriptText(text):
                run.append(text)
            case ScriptControl(control):
                close(before_token=True)
                spelled.append(control.value)
            case ScriptEnd():
                close(before_token=False)
                spelled.append("")
            case _:
                raise ScriptError("sample, copy and release need a model that decodes; the endpoint plays scripts only")
    close(before_token=False)
    return spelled


def _parted(texts: Sequence[str], escaped: str) -> list[str]:
    """An escaped text, parted where its texts were; what the escape has added stands before what it guards."""
    parts: list[str] = []
    at = 0
    for number, text in enumerate(texts):
        start = at
        for letter in text:
            while escaped[at] != letter:
                at += 1
            at += 1
        if number == len(texts) - 1:
            at = len(escaped)
        parts.append(escaped[start:at])
    return parts


async def post(client: AsyncOpenAI, path: str, body: dict[str, Any]) -> None:
    """Calls an admin route of the endpoint, beside its API."""
    root = str(client.base_url).rstrip("/").removesuffix("/v1")
    await client.post(f"{root}{path}", body=body, cast_to=object)
