"""The little Markdown that sentences of the specification have, as HTML: code, strong words, links as their text."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_INLINE = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*|\[(?P<link>[^\]]+)\]\([^)\s]+\)")
_CONTROL = re.compile(r"(?<!\\)\[(?:CALL|INTR|TRAP|END|HEAD)\]")


def sentence(text: str) -> Markup:
    """A sentence as HTML; what is not Markdown is escaped."""
    parts: list[Markup] = []
    at = 0
    for match in _INLINE.finditer(text):
        parts.append(escape(text[at : match.start()]))
        if match["code"] is not None:
            parts.append(Markup("<code>{}</code>").format(match["code"]))
        elif match["strong"] is not None:
            parts.append(Markup("<strong>{}</strong>").format(match["strong"]))
        else:
            parts.append(sentence(match["link"]))
        at = match.end()
    return Markup("").join([*parts, escape(text[at:])])


def script_line(text: str) -> Markup:
    """A line of a script with its control words set off; literal text has none."""
    if text.removesuffix(" (masked)").endswith(" (literal)"):
        return escape(text)
    parts: list[Markup] = []
    at = 0
    for match in _CONTROL.finditer(text):
        parts += [escape(text[at : match.start()]), Markup('<b class="control">{}</b>').format(match.group())]
        at = match.end()
    return Markup("").join([*parts, escape(text[at:])])
