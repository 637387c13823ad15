"""A checkpoint's Jinja chat template, rendered around placeholders [BIND-021].

Chat templates mix their markup with what people wrote, and tokenizers then encode both with special tokens on: a
message that spells an end-of-turn marker ends the turn. Here the template never sees a message's text. It renders a
placeholder that nobody can guess for each message; what stands around the placeholders is markup, and content is put
back in between, to be encoded by itself with special tokens off.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from asynclm.prompt.template import CmlPart, Content, Markup, Message, Part, Segment, TextPart

_PAD = ("\n", " ", "\x0b")
"""White space before each placeholder, and mirrored after it, to see what a template trims.

A vertical tab is innermost, because no template writes one of its own.
"""
_PROBE = '"é'
"""Stands in each placeholder, to see whether a template writes it as JSON (Llama 3's does so with tool messages)."""


class JinjaTemplate:
    """A `PromptTemplate` from the `chat_template` of a `tokenizer_config.json`.

    The template runs in the same sandbox, with the same filters and globals, as in `transformers`. What it trims off a
    message, as Llama 3's does, is trimmed off the content.

    Args:
        chat_template: the template's source.
        bos: spelling of the beginning-of-sequence token, empty if there is none.
        eos: spelling of the end-of-sequence token, empty if there is none.
        now: what templates that write a date take it from.

    Raises:
        ValueError: the source is not a Jinja template.
    """

    def __init__(self, chat_template: str, *, bos: str, eos: str, now: Callable[[], datetime] = datetime.now) -> None:
        self._source = chat_template
        self._bos = bos
        self._eos = eos
        self._now = now
        try:
            self._template  # noqa: B018  (compiled here, so that a broken one is found when a model is loaded)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"chat template, line {error.lineno}: {error.message}") from None

    @cached_property
    def _template(self) -> jinja2.Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda format: self._now().strftime(format)
        return environment.from_string(self._source)

    def render(self, messages: Sequence[Message]) -> tuple[Segment, ...]:
        """Renders messages to segments, up to the point where the assistant begins to speak.

        Raises:
            ValueError: the template refuses the conversation, or loses a message.
        """
        placeholders = _Placeholders(messages)
        try:
            text = self._template.render(
                messages=placeholders.messages,
                bos_token=self._bos,
                eos_token=self._eos,
                tools=None,
                documents=None,
                add_generation_prompt=True,
            )
        except jinja2.TemplateError as error:
            raise ValueError(f"messages: the model's chat template refuses them: {error.message or error}") from None
        except Exception as error:  # foreign code: anything may come out of it
            raise ValueError(f"messages: the model's chat template fails on them: {error}") from None
        return placeholders.split(text)


class _Placeholders:
    """One rendering's placeholders: what the template sees, and the way back."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._contents = messages
        self._nonce = secrets.token_hex(16)
        self.messages = [
            {"role": message.role.value, "content": self._content(index, message)}
            for index, message in enumerate(messages)
        ]

    def split(self, text: str) -> tuple[Segment, ...]:
        segments: list[Segment] = []
        seen: set[int] = set()
        end = 0
        for match in self._pattern().finditer(text):
            index = int(match["index"])
            seen.add(index)
            if match.start() > end:
                segments.append(Markup(text[end : match.start()]))
            segments.append(Content(_rewritten(self._contents[index].parts, match)))
            end = match.end()
        if end < len(text):
            segments.append(Markup(text[end:]))
        for index, message in enumerate(self._contents):
            if _has_text(message) and index not in seen:
                role = message.role.value
                raise ValueError(f"messages[{index}] (role {role}): the model's chat template has no place for it")
        return tuple(segments)

    def _content(self, index: int, message: Message) -> str:
        if not _has_text(message):
            return ""  # shown as such: a template may leave an empty message out
        return f"{''.join(_PAD)}M{self._nonce}N{index}{_PROBE}E{''.join(reversed(_PAD))}"

    def _pattern(self) -> re.Pattern[str]:
        outer, middle, inner = (f"(?:{re.escape(c)}|{re.escape(json.dumps(c)[1:-1])})" for c in _PAD)
        forms = "|".join(
            f"(?P<{name}>{re.escape(form)})"
            for name, form in (
                ("plain", _PROBE),
                ("json", json.dumps(_PROBE, ensure_ascii=False)[1:-1]),
                ("ascii", json.dumps(_PROBE)[1:-1]),
            )
        )
        return re.compile(
            f"(?:(?:(?P<left_outer>{outer})?(?P<left_middle>{middle}))?(?P<left_inner>{inner}))?"
            f"M{self._nonce}N(?P<index>[0-9]+)(?:{forms})E"
            f"(?:(?P<right_inner>{inner})(?:(?P<right_middle>{middle})(?P<right_outer>{outer})?)?)?"
        )


def _rewritten(parts: tuple[Part, ...], match: re.Match[str]) -> tuple[Part, ...]:
    """Does to the content what the template did to its placeholder."""
    parts = _trim_left(parts, _trimmed(match, "left"))
    parts = _trim_right(parts, _trimmed(match, "right"))
    if match["plain"]:
        return parts
    # CML is left as it is: there is no such thing as a block inside a JSON string.
    ascii_only = match["ascii"] is not None
    return tuple(
        TextPart(json.dumps(part.text, ensure_ascii=ascii_only)[1:-1]) if isinstance(part, TextPart) else part
        for part in parts
    )


def _trimmed(match: re.Match[str], side: str) -> str | None:
    """The characters that the template strips on one side: none (`""`), some, or (None) all white space."""
    if match[f"{side}_inner"] is None:
        return None
    if match[f"{side}_middle"] is None:
        return _PAD[0] + _PAD[1]
    return _PAD[0] if match[f"{side}_outer"] is None else ""


def _has_text(message: Message) -> bool:
    return any(_text(part) for part in message.parts)


def _text(part: Part) -> str:
    return part.text if isinstance(part, TextPart) else part.cml


def _with_text(part: Part, text: str) -> Part:
    return TextPart(text) if isinstance(part, TextPart) else CmlPart(text)


def _trim_left(parts: tuple[Part, ...], characters: str | None) -> tuple[Part, ...]:
    """Strips across parts: those that have nothing else are dropped."""
    for i, part in enumerate(parts):
        if rest := _text(part).lstrip(characters) if characters != "" else _text(part):
            return (_with_text(part, rest), *parts[i + 1 :])
    return ()


def _trim_right(parts: tuple[Part, ...], characters: str | None) -> tuple[Part, ...]:
    for i in reversed(range(len(parts))):
        if rest := _text(parts[i]).rstrip(characters) if characters != "" else _text(parts[i]):
            return (*parts[:i], _with_text(parts[i], rest))
    return ()


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`, with which templates mark what the assistant wrote: rendered as it is."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own interface)

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML; chat templates expect plain JSON."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
