"""Scripted models: what a model *wants* to say, step by step, forced through the real loop.

A script names pieces; the target's own tokenizer turns each into ids, and the loop forces them one by one. What the
mask in force forbids is consumed and noticed, never sampled. Two kinds of step leave the wording open: `ScriptCopy`
writes a value that a tool returned, `ScriptSample` lets the model itself sample text.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asynclm.cml.blocks import Reference
from asynclm.cml.codec import Codec
from asynclm.cml.control import Control

WEIGHTS_SUFFIX = "+weights"
SCRIPT_PREFIX = "script:"


class ScriptError(ValueError):
    """A script that cannot be played; the message names the step and what is allowed."""


@dataclass(frozen=True, slots=True)
class ScriptText:
    """A piece of text, encoded by itself with special tokens off."""

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise ScriptError("script step text: empty; give at least one character")


@dataclass(frozen=True, slots=True)
class ScriptControl:
    """One control token."""

    control: Control


@dataclass(frozen=True, slots=True)
class ScriptEnd:
    """End of sequence."""


@dataclass(frozen=True, slots=True)
class ScriptSample:
    """The model samples text itself, control tokens and end of sequence excluded.

    Attributes:
        max_tokens: tokens sampled at most.
        stop: the step ends once the sampled text contains one of these.
        in_string: the text stands inside a string literal: quotes, backslashes and control characters are excluded.
    """

    max_tokens: int
    stop: tuple[str, ...] = ()
    in_string: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens <= 0:
            raise ScriptError(f"script step sample.max_tokens is {self.max_tokens}; it must be positive")


@dataclass(frozen=True, slots=True)
class ScriptCopy:
    """A value out of a resolved call's payload.

    Attributes:
        reference: which value.
        in_string: write a string's content as it stands inside a string literal, without its quotes.
    """

    reference: Reference
    in_string: bool = False


@dataclass(frozen=True, slots=True)
class ScriptRelease:
    """The script ends here: from now on the model samples by itself, under the session's constraints."""


ScriptStep = ScriptText | ScriptControl | ScriptEnd | ScriptSample | ScriptCopy | ScriptRelease


@dataclass(frozen=True, slots=True)
class Script:
    """A named list of steps."""

    id: str
    steps: tuple[ScriptStep, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", self.id, re.ASCII):
            raise ScriptError(
                f"script id {self.id[:80]!r}: allowed are 1 to 128 letters, digits, '_', '-' and '.' [SCR-012]"
            )
        if any(isinstance(step, ScriptRelease) for step in self.steps[:-1]):
            raise ScriptError("release is given before the last step; nothing can follow it [SCR-035]")


class ScriptStore:
    """Scripts by id; safe to use from any thread."""

    def __init__(self, *, max_scripts: int) -> None:
        self._scripts: dict[str, Script] = {}
        self._lock = threading.Lock()
        self._max_scripts = max_scripts

    def load(self, script: Script) -> None:
        """Adds or replaces a script.

        Raises:
            ScriptError: the store is full.
        """
        with self._lock:
            if script.id not in self._scripts and len(self._scripts) >= self._max_scripts:
                raise ScriptError(f"script store: holds {self._max_scripts} scripts already; reset it first")
            self._scripts[script.id] = script

    def get(self, script_id: str) -> Script | None:
        """The script of this id, or None."""
        with self._lock:
            return self._scripts.get(script_id)

    def reset(self) -> None:
        """Forgets every script."""
        with self._lock:
            self._scripts.clear()


def parse_model_name(model: str) -> tuple[str | None, bool]:
    """Splits a model name into `(script id or None, whether the weights compute every step)`."""
    if not model.startswith(SCRIPT_PREFIX):
        return None, False
    script_id = model[len(SCRIPT_PREFIX) :]
    if script_id.endswith(WEIGHTS_SUFFIX):
        return script_id[: -len(WEIGHTS_SUFFIX)], True
    return script_id, False


def step_ids(step: ScriptStep, codec: Codec) -> tuple[int, ...]:
    """The ids that a step forces; empty for steps whose wording is not known before they run."""
    match step:
        case ScriptText(text):
            return tuple(codec.encode_text(text))
        case ScriptControl(control):
            return (codec.control_ids[control],)
        case ScriptEnd():
            return (min(codec.eos_ids),)
        case ScriptSample() | ScriptCopy() | ScriptRelease():
            return ()


@dataclass(frozen=True, slots=True)
class Force:
    """The next token is this one."""

    token_id: int


@dataclass(frozen=True, slots=True)
class Free:
    """The model samples the next token: ordinary text only; inside a string literal if `in_string`."""

    in_string: bool


@dataclass(frozen=True, slots=True)
class Own:
    """The model samples the next token under the session's mask, and every one after it."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """The script wanted a token that the mask forbids; it is consumed. `what` names it for the notice."""

    what: str


class ScriptPlayer:
    """One session's place in a script."""

    def __init__(self, script: Script, codec: Codec) -> None:
        self._steps: Sequence[ScriptStep] = script.steps
        self._codec = codec
        self._position = 0
        self._ids: deque[int] = deque()
        self._sampling: ScriptSample | None = None
        self._released = False
        self._sampled = 0
        self._text = ""

    def next(
        self, allows: Callable[[int], bool], resolve: Callable[[Reference], str | None]
    ) -> Force | Free | Own | Forbidden | None:
        """What the model wants next.

        Args:
            allows: whether the mask in force allows an id.
            resolve: the JSON text of a reference, or None while it has none.

        Returns:
            A wish, or None when the script is exhausted.

        Raises:
            ScriptError: a copy step whose call has no result.
        """
        while True:
            if self._released:
                return Own()
            if self._sampling is not None:
                if self._sampled < self._sampling.max_tokens and not any(s in self._text for s in self._sampling.stop):
                    return Free(in_string=self._sampling.in_string)
                self._sampling = None
            if self._ids:
                token_id = self._ids[0]
                if allows(token_id):
                    return Force(self._ids.popleft())
                what = self._describe_current()
                self._ids.clear()
                return Forbidden(what)
            if self._position >= len(self._steps):
                return None
            self._begin(self._steps[self._position], resolve)
            self._position += 1

    def sampled(self, text: str) -> None:
        """Tells the player what the model sampled in a free step."""
        if self._sampling is not None:
            self._sampled += 1
            self._text += text

    def _begin(self, step: ScriptStep, resolve: Callable[[Reference], str | None]) -> None:
        if isinstance(step, ScriptSample):
            self._sampling, self._sampled, self._text = step, 0, ""
        elif isinstance(step, ScriptRelease):
            self._released = True
        elif isinstance(step, ScriptCopy):
            value = resolve(step.reference)
            if value is None:
                raise ScriptError(
                    f"script step {self._position}: copy({step.reference.id}…) has no value; its call must be resolved "
                    "and the path must lead to one"
                )
            self._ids = deque(self._codec.encode_text(_copied(value, in_string=step.in_string)))
        else:
            self._ids = deque(step_ids(step, self._codec))

    def _describe_current(self) -> str:
        step = self._steps[self._position - 1]
        match step:
            case ScriptControl(control):
                return control.value
            case ScriptEnd():
                return "end of sequence"
            case ScriptText(text):
                return repr(text[:40])
            case _:
                return type(step).__name__


def _copied(value: str, *, in_string: bool) -> str:
    if not in_string:
        return value
    loaded = json.loads(value)
    return json.dumps(loaded if isinstance(loaded, str) else value, ensure_ascii=False)[1:-1]
