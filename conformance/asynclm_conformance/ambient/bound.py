"""The binding that `Started` tells of [BIND-001, BIND-005, BIND-006]."""

from __future__ import annotations

import re

from asynclm.cml.binding import BINDINGS
from asynclm.cml.control import Control
from asynclm.v1 import types_pb2
from asynclm_conformance.ambient.report import Facts, Violations

_WORDS: dict[int, str] = {
    types_pb2.ControlToken.Value(f"CONTROL_TOKEN_{control.name}"): control.value for control in Control
}
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


def bound(facts: Facts, found: Violations) -> None:
    """Looks at the five tokens, the ends of sequence and the fingerprint."""
    binding, require = facts.started.binding, found.require
    controls = sorted(token.control for token in binding.tokens)
    require(controls == sorted(_WORDS), "BIND-005", f"control tokens are {controls}")
    spellings = [token.spelling for token in binding.tokens]
    require(all(spellings) and len(set(spellings)) == len(spellings), "BIND-001", f"spellings are {spellings}")
    if facts.pieces:
        words = all(token.spelling == _WORDS.get(token.control) for token in binding.tokens)
        ids = [token.id for token in binding.tokens if token.HasField("id")]
        require(words and not ids, "BIND-006", f"in the text form, spellings are {spellings} and ids {ids}")
    else:
        _ids(binding, found)


def _ids(binding: types_pb2.Binding, found: Violations) -> None:
    require = found.require
    ids = {token.id for token in binding.tokens if token.HasField("id")}
    require(len(ids) == len(binding.tokens), "BIND-001", f"{len(binding.tokens)} tokens have the ids {sorted(ids)}")
    require(binding.eos_ids, "BIND-005", "no id ends the sequence")
    require(ids.isdisjoint(binding.eos_ids), "BIND-002", f"of {sorted(ids)} some end the sequence: {binding.eos_ids}")
    digest = binding.tokenizer_fingerprint
    require(_FINGERPRINT.fullmatch(digest), "BIND-007", f"the tokenizer's fingerprint is {digest!r}")
    known = BINDINGS.get(binding.name)
    if known is not None:
        spelled = {_WORDS.get(token.control): token.spelling for token in binding.tokens}
        listed = {control.value: spelling for control, spelling in known.tokens.items()}
        require(spelled == listed, "BIND-008", f"{binding.name} is spelled {spelled}")
