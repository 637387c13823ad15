"""Grammar rules for copied arguments: JSON strings whose text is a span of given texts.

llguidance follows all spans of a text at once by an automaton of its suffixes (`substring_chunks`). A chunk is one
character as JSON spells it, so that no span ends within an escape. The texts of one origin make one list of chunks; a
character that no span may hold stands between them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from asynclm.cml.copying import CopyFrom
from asynclm.engine.guidance import json_rule
from asynclm.session.copying import CopySources

MOST_CHARACTERS = 1 << 16
"""Texts longer than this together are not followed; the check before dispatch holds all the same [CALL-104]."""

_BETWEEN = "\x00"
_SPELLED: Mapping[str, str] = {
    **{chr(code): json.dumps(chr(code))[1:-1] for code in range(0x20)},
    **{char: json.dumps(char)[1:-1] for char in '"\\'},
    **{chr(code): _BETWEEN for code in range(0xD800, 0xE000)},
}
_LOOSE = json_rule({"type": "string", "minLength": 1})


def value_rule(origin: CopyFrom) -> str:
    """The rule's name for the value of a copied argument."""
    return f"copy_{origin.value}"


def loose_rules(origins: Iterable[CopyFrom]) -> list[str]:
    """Rules that allow any text."""
    return [f"{value_rule(origin)}: {_LOOSE}" for origin in sorted(set(origins))]


def span_rules(origins: Iterable[CopyFrom], sources: CopySources) -> Iterator[str]:
    """Rules that allow spans; there is none for an origin without text, of which nothing can be copied.

    Args:
        origins: those that the tools use.
        sources: the texts.
    """
    for origin in sorted(set(origins)):
        texts = sources.texts(origin)
        if sum(map(len, texts)) > MOST_CHARACTERS:
            yield f"{value_rule(origin)}: {_LOOSE}"
        elif texts:
            name = f"COPY_{origin.name}"
            yield f'{value_rule(origin)}: "\\"" {name} "\\""'
            yield f"{name}: {name}_SPANS & /[^\\x00]+/"
            yield f"{name}_SPANS: %regex {json.dumps({'substring_chunks': _chunks(texts)}, ensure_ascii=False)}"


def _chunks(texts: Iterable[str]) -> list[str]:
    return [_SPELLED.get(char, char) for text in texts for char in (*text, "\ud800")]
