"""The grammar files, put together for a use: parsing with lark, recognising and constraining with llguidance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from string import Template

from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.resources import resource

_DOCUMENTS = "cml.lark"
_BODIES = {BodyLanguage.PYTHON: "call_python.lark", BodyLanguage.JSON: "call_json.lark"}
_USES = {
    "lark": ("preamble/lark.lark", "spacing/parse.lark"),
    "llguidance": ("preamble/llguidance.lark", "spacing/parse.lark"),
    "constrain": ("preamble/constrain.lark", "spacing/write.lark"),
}


def lark_grammar(language: BodyLanguage) -> str:
    """The whole language for `lark`, with the start rule `document`.

    It needs a lexer that splits the stream at control tokens (grammar/README.md).
    """
    return _put_together("lark", _BODIES[language], f"body: {language.value}")


def llguidance_grammar(language: BodyLanguage, control_ids: Mapping[Control, int]) -> str:
    """The whole language for llguidance, over the ids of one tokenizer and its binding."""
    text = _put_together("llguidance", _BODIES[language], f"start: document\nbody: {language.value}")
    return _bind(text, control_ids)


def constrained_grammar(rules: str, control_ids: Mapping[Control, int]) -> str:
    """The frame of blocks for constrained decoding with llguidance.

    Args:
        rules: the rules `start` and `body`, and what these need; they may use the preamble's names.
        control_ids: the token id of each control token.
    """
    return _bind(_put_together("constrain"), control_ids) + rules


def grammar_fingerprint() -> str:
    """SHA-256 of the grammar files, names and contents, in hex; servers publish it."""
    names = sorted({_DOCUMENTS, *_BODIES.values(), *(name for names in _USES.values() for name in names)})
    digest = hashlib.sha256()
    for name in names:
        content = resource(f"grammar/{name}").read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _put_together(use: str, *parts: str) -> str:
    files = (*_USES[use], _DOCUMENTS, *(part for part in parts if part.endswith(".lark")))
    texts = [resource(f"grammar/{name}").read_text(encoding="utf-8") for name in files]
    return "\n".join((*texts, *(part for part in parts if not part.endswith(".lark")))) + "\n"


def _bind(text: str, control_ids: Mapping[Control, int]) -> str:
    return Template(text).substitute({control.name: str(control_ids[control]) for control in Control})
