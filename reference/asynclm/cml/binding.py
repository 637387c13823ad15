"""Tokenizer bindings and the token form: which special tokens of a vocabulary are the five control tokens.

A control token is one reserved id, chosen by its spelling in the vocabulary. All other text is encoded with special
tokens off, so no text becomes a control token, and nothing is escaped [CML-051 to CML-053].
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from asynclm.cml.blocks import Block, Text
from asynclm.cml.codec import EOS, Item, Tokenizer
from asynclm.cml.control import BodyLanguage, Control, Status
from asynclm.cml.detokenise import Utf8Decoder
from asynclm.cml.parts import block_parts, interrupt_parts
from asynclm.cml.sources import format_source


class BindingError(ValueError):
    """A tokenizer cannot carry CML as asked."""


@dataclass(frozen=True)
class Binding:
    """The special tokens that stand for the control tokens, by their spelling in the vocabulary.

    Raises:
        ValueError: a control token has no spelling, or two have the same.
    """

    name: str
    tokens: Mapping[Control, str]

    def __post_init__(self) -> None:
        missing = [control.value for control in Control if not self.tokens.get(control)]
        if missing:
            raise ValueError(f"binding {self.name!r}: no special token for {', '.join(missing)}")
        if len(set(self.tokens.values())) != len(Control):
            raise ValueError(f"binding {self.name!r}: one special token for two control tokens")
        object.__setattr__(self, "tokens", MappingProxyType(dict(self.tokens)))

    def missing(self, tokenizer: Tokenizer) -> tuple[str, ...]:
        """The spellings that the tokenizer has no special token for."""
        return tuple(spelling for spelling in self.tokens.values() if tokenizer.special_id(spelling) is None)


def _binding(name: str, call: str, intr: str, trap: str, end: str, head: str) -> Binding:
    spelled = {Control.CALL: call, Control.INTR: intr, Control.TRAP: trap, Control.END: end, Control.HEAD: head}
    return Binding(name, spelled)


BINDINGS: Mapping[str, Binding] = MappingProxyType(
    {
        binding.name: binding
        for binding in (
            # Reserved in Llama 3 (0 to 250), 3.1, 3.2 and 3.3 (0 to 247); fine-tunes that take some start from 0.
            _binding("llama-3", *(f"<|reserved_special_token_{n}|>" for n in range(240, 245))),
            # Markers of code data sets, of no use in chat; SmolLM2 has no reserved tokens.
            _binding("smollm2", "<jupyter_code>", "<jupyter_output>", "<empty_output>", "<file_sep>", "<filename>"),
            _binding("bytes", "<|call|>", "<|intr|>", "<|trap|>", "<|end|>", "<|head|>"),
        )
    }
)
"""The known bindings by name, in the order in which they are tried."""


def choose_binding(tokenizer: Tokenizer) -> Binding:
    """The first known binding that the tokenizer has all special tokens of.

    Raises:
        BindingError: there is none.
    """
    for binding in BINDINGS.values():
        if not binding.missing(tokenizer):
            return binding
    lacks = "; ".join(f"{b.name} needs {b.missing(tokenizer)[0]}" for b in BINDINGS.values())
    raise BindingError(f"no known binding fits this tokenizer: {lacks}. {_free(tokenizer, ())}")


def bind(tokenizer: Tokenizer, binding: Binding | None = None) -> TokenCodec:
    """Makes the codec of a tokenizer, with the binding given or else a known one.

    Raises:
        BindingError: a spelling is not a special token of this tokenizer, or ends the sequence.
    """
    return TokenCodec(tokenizer, binding or choose_binding(tokenizer))


class TokenCodec:
    """The token form with one tokenizer and one binding; a `Codec`. Decoded tokens are remembered by id."""

    def __init__(self, tokenizer: Tokenizer, binding: Binding) -> None:
        missing = binding.missing(tokenizer)
        if missing:
            free = _free(tokenizer, tuple(binding.tokens.values()))
            raise BindingError(f"binding {binding.name!r}: {missing[0]!r} is no special token here. {free}")
        self._tokenizer = tokenizer
        self._binding = binding
        ids = {control: tokenizer.special_id(binding.tokens[control]) for control in Control}
        self._control_ids = MappingProxyType({control: i for control, i in ids.items() if i is not None})
        self._eos_ids = frozenset(tokenizer.eos_ids)
        self._special_ids = tokenizer.special_ids
        for control, token_id in self._control_ids.items():
            if token_id in self._eos_ids or token_id not in self._special_ids:
                why = "ends the sequence" if token_id in self._eos_ids else "is not special"
                raise BindingError(f"binding {binding.name!r}: {binding.tokens[control]!r} {why} in this tokenizer")
        self._known: dict[int, tuple[Item, ...] | bytes] = {i: (c,) for c, i in self._control_ids.items()}
        self._known.update(dict.fromkeys(self._eos_ids, (EOS,)))

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary."""
        return self._tokenizer

    @property
    def binding(self) -> Binding:
        """The special tokens in use."""
        return self._binding

    @property
    def control_ids(self) -> Mapping[Control, int]:
        """The token id of each control token."""
        return self._control_ids

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end the sequence."""
        return self._eos_ids

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's fingerprint and of the control tokens' spellings and ids, in hex."""
        tokens = [[c.value, self._binding.tokens[c], i] for c, i in self._control_ids.items()]
        return hashlib.sha256(json.dumps([self._tokenizer.fingerprint, tokens]).encode()).hexdigest()

    def decoder(self) -> TokenDecoder:
        """A fresh decoder for one session."""
        return TokenDecoder(self._known, self._tokenizer, self._special_ids)

    def encode_text(self, text: str) -> list[int]:
        """Ordinary text as ids.

        Raises:
            BindingError: the tokenizer broke its promise and gave a special id.
        """
        ids = self._tokenizer.encode(text)
        if not self._special_ids.isdisjoint(ids):
            forged = next(i for i in ids if i in self._special_ids)
            raise BindingError(f"the tokenizer encoded text as the special token {self._tokenizer.spelling(forged)!r}")
        return ids

    def frame(self, source: str, status: Status, payload: str) -> list[int]:
        """An interrupt block: `[INTR] source[:status] [HEAD] payload [END]`, each text encoded on its own.

        Raises:
            CmlError: the source or its status is outside the grammar.
        """
        return self._encode_parts(interrupt_parts(format_source(source, status), payload))

    def encode(self, blocks: Iterable[Block], language: BodyLanguage) -> list[int]:
        """A document in the token form, for prompts [CML-071].

        Raises:
            CmlError: a block has no spelling.
        """
        ids: list[int] = []
        for block in blocks:
            ids += self._encode_parts((block.text,) if isinstance(block, Text) else block_parts(block, language))
        return ids

    def _encode_parts(self, parts: Iterable[str | Control]) -> list[int]:
        ids: list[int] = []
        for part in parts:
            if isinstance(part, str):
                ids += self.encode_text(part)
            else:
                ids.append(self._control_ids[part])
        return ids


class TokenDecoder:
    """Decodes one session's token ids; a `Decoder`. Made by `TokenCodec.decoder`."""

    __slots__ = ("_bytes", "_known", "_special_ids", "_tokenizer")

    def __init__(
        self, known: dict[int, tuple[Item, ...] | bytes], tokenizer: Tokenizer, special_ids: frozenset[int]
    ) -> None:
        self._known = known
        self._tokenizer = tokenizer
        self._special_ids = special_ids
        self._bytes = Utf8Decoder()

    @property
    def pending(self) -> bool:
        """Whether an unfinished UTF-8 sequence is held back."""
        return bool(self._bytes.held)

    def feed(self, token_id: int) -> tuple[Item, ...]:
        """Decodes one id. Any special token flushes held-back bytes first; one without a meaning gives no item."""
        known = self._known.get(token_id)
        if known is None:
            known = self._learn(token_id)
        if type(known) is tuple and not self._bytes.held:
            return known
        if isinstance(known, bytes):
            text = self._bytes.feed(known)
            return (text,) if text else ()
        if known and isinstance(known[0], str):
            return (self._bytes.feed(known[0].encode()),)
        return (self._bytes.flush(), *known)

    def flush(self) -> str:
        """Gives up what is held back, as text (possibly empty)."""
        return self._bytes.flush()

    def _learn(self, token_id: int) -> tuple[Item, ...] | bytes:
        """Remembers a token: its text if it is whole by itself, else its bytes; nothing for other special tokens."""
        known: tuple[Item, ...] | bytes
        if token_id in self._special_ids:
            known = ()
        else:
            data = self._tokenizer.token_bytes(token_id)
            try:
                known = (data.decode(),) if data else data
            except UnicodeDecodeError:
                known = data
        self._known[token_id] = known
        return known


def _free(tokenizer: Tokenizer, taken: tuple[str, ...]) -> str:
    ids = sorted(tokenizer.special_ids - tokenizer.eos_ids)
    free = [spelling for spelling in map(tokenizer.spelling, ids) if spelling not in taken]
    more = f" and {len(free) - 12} more" if len(free) > 12 else ""
    return f"Special tokens it has: {', '.join(free[:12]) or 'none'}{more}"
