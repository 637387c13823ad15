"""llguidance behind one door: whether it is there, its view of a tokenizer, and checks of what it compiles.

llguidance is optional (`pip install 'asynclm-protocol[reference]'`); nothing else in the project imports it.
"""

from __future__ import annotations

import importlib.util
import json
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

from asynclm.cml.codec import Tokenizer

JSON_STYLE: Mapping[str, Any] = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""How models write JSON: compact, with a space after commas and colons if they like."""

_KEPT = 8
_tokenizers: OrderedDict[str, Any] = OrderedDict()
_lock = Lock()


class GrammarUnavailableError(RuntimeError):
    """Grammar constraints were asked for by name, and llguidance is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "constraints 'grammar' need llguidance, which is not installed; install asynclm-protocol[reference], "
            "or start the session with constraints 'gates'"
        )


class GrammarError(ValueError):
    """llguidance refuses a grammar; the message says where."""


def available() -> bool:
    """Whether llguidance is installed."""
    return importlib.util.find_spec("llguidance") is not None


def json_rule(schema: Mapping[str, Any]) -> str:
    """The right-hand side of a grammar rule for JSON text that fits a schema."""
    return "%json " + json.dumps({**schema, "x-guidance": dict(JSON_STYLE)}, ensure_ascii=False)


def complaint(schema: Mapping[str, Any]) -> str:
    """What llguidance has against a JSON schema; empty if it compiles.

    Raises:
        GrammarUnavailableError: llguidance is not installed.
    """
    matcher = _library().LLMatcher
    said: str = matcher.validate_grammar(matcher.grammar_from_lark("start: " + json_rule(schema)))
    return said


def new_matcher(grammar: str, tokenizer: Tokenizer, *, large: bool = False) -> Any:
    """Compiles a grammar to an `LLMatcher`; copy it with `deep_copy` for each use.

    Args:
        grammar: in llguidance's Lark.
        tokenizer: the vocabulary.
        large: allows more work, for a grammar that holds long texts.

    Raises:
        GrammarUnavailableError: llguidance is not installed.
        GrammarError: the grammar does not compile.
    """
    library = _library()
    # Forced bytes would allow their one canonical tokenization only; a script's pieces are cut elsewhere.
    source = '%llguidance {"no_forcing": true}\n' + grammar
    limits = library.LLParserLimits(initial_lexer_fuel=10_000_000, step_lexer_fuel=2_000_000) if large else None
    source = library.LLMatcher.grammar_from_lark(source)
    matcher = library.LLMatcher(_view(tokenizer), source, log_level=0, limits=limits)
    if matcher.is_error():
        raise GrammarError(f"the grammar does not compile: {matcher.get_error()[:400]}")
    return matcher


def _library() -> Any:
    if not available():
        raise GrammarUnavailableError
    import llguidance

    return llguidance


def _view(tokenizer: Tokenizer) -> Any:
    """llguidance's view of a tokenizer: a trie over all tokens, so it is built once for each vocabulary."""
    with _lock:
        view = _tokenizers.get(tokenizer.fingerprint)
        if view is None:
            library = _library()
            wrapper = library.TokenizerWrapper(_Vocabulary(tokenizer))
            view = library.LLTokenizer(wrapper, eos_token=sorted(tokenizer.eos_ids))
            _tokenizers[tokenizer.fingerprint] = view
            if len(_tokenizers) > _KEPT:
                _tokenizers.popitem(last=False)
        else:
            _tokenizers.move_to_end(tokenizer.fingerprint)
        return view


class _Vocabulary:
    """The shape in which llguidance takes a tokenizer that it does not know."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = tokenizer.special_ids
        self.eos_token_id = min(tokenizer.eos_ids)
        self.special_token_ids = sorted(special)
        self.tokens = [
            tokenizer.spelling(i).encode() if i in special else tokenizer.token_bytes(i)
            for i in range(tokenizer.vocab_size)
        ]
        self._encode = tokenizer.encode

    def __call__(self, data: bytes) -> list[int]:
        return self._encode(data.decode(errors="replace"))
