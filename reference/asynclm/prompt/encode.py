"""Prompt segments to token ids: the only place where a spelling becomes a special token [SEC-002, CML-071]."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Sequence

from asynclm.cml.codec import Codec, Tokenizer
from asynclm.cml.control import BodyLanguage
from asynclm.cml.text_form import parse
from asynclm.prompt.template import Markup, Part, Segment, TextPart

_SPECIAL: weakref.WeakKeyDictionary[Tokenizer, re.Pattern[str]] = weakref.WeakKeyDictionary()


def encode_prompt(segments: Sequence[Segment], tokenizer: Tokenizer, codec: Codec, language: BodyLanguage) -> list[int]:
    """Encodes a rendered prompt.

    Markup: spellings of special tokens become their ids, the longest first; the rest is ordinary text. Text parts:
    ordinary text, whatever they spell. CML parts: parsed in the text form; control tokens become their ids, and what
    stands between them is ordinary text. No id in them is registered, nothing is executed.

    Args:
        segments: the prompt.
        tokenizer: the checkpoint's tokenizer.
        codec: its binding of control tokens.
        language: the language of the call bodies in CML parts.

    Returns:
        Token ids.

    Raises:
        CmlError: a CML part is not well-formed CML.
    """
    ids: list[int] = []
    for segment in segments:
        if isinstance(segment, Markup):
            ids += _encode_markup(segment.text, tokenizer, codec)
        else:
            for part in _joined(segment.parts):
                ids += _encode_part(part, codec, language)
    return ids


def _encode_markup(text: str, tokenizer: Tokenizer, codec: Codec) -> list[int]:
    ids: list[int] = []
    for piece in _special_pattern(tokenizer).split(text):
        special = tokenizer.special_id(piece)
        if special is not None:
            ids.append(special)
        elif piece:
            ids += codec.encode_text(piece)
    return ids


def _special_pattern(tokenizer: Tokenizer) -> re.Pattern[str]:
    pattern = _SPECIAL.get(tokenizer)
    if pattern is None:
        spellings = sorted(filter(None, map(tokenizer.spelling, tokenizer.special_ids)), key=len, reverse=True)
        pattern = re.compile("(" + "|".join(map(re.escape, spellings)) + ")" if spellings else "(?!)")
        _SPECIAL[tokenizer] = pattern
    return pattern


def _joined(parts: Iterable[Part]) -> list[Part]:
    """Adjacent texts as one, so that a text's tokens do not depend on how it was cut."""
    joined: list[Part] = []
    for part in parts:
        if joined and isinstance(part, TextPart) and isinstance(joined[-1], TextPart):
            joined[-1] = TextPart(joined[-1].text + part.text)
        else:
            joined.append(part)
    return joined


def _encode_part(part: Part, codec: Codec, language: BodyLanguage) -> Sequence[int]:
    if isinstance(part, TextPart):
        return codec.encode_text(part.text)
    return codec.encode(parse(part.cml, language), language)
