"""A checkpoint's tokenizer through the `tokenizers` library: byte-level BPE, with special tokens out of text's reach.

Implements `asynclm.cml.codec.Tokenizer`. Every added token counts as special, whether or not the checkpoint marks it
so, except runs of white space (some tokenizers add those for code): otherwise the text of a message or a tool result
could spell a role marker or a control token [CML-052]. Imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer


class TokenizerError(ValueError):
    """A tokenizer's files are missing, damaged, or of a kind that is not supported."""


class HfTokenizer:
    """The tokenizer of a Hugging Face checkpoint folder.

    Attributes:
        bos_token: spelling of the beginning-of-sequence token, empty if there is none.
        eos_token: spelling of the end-of-sequence token, empty if there is none.
    """

    def __init__(self, definition: bytes, *, eos_ids: Iterable[int], bos_token: str = "", eos_token: str = "") -> None:
        """Reads a tokenizer's definition.

        Args:
            definition: the content of a `tokenizer.json`.
            eos_ids: ids that end a turn or a sequence.
            bos_token: spelling of the beginning-of-sequence token.
            eos_token: spelling of the end-of-sequence token.

        Raises:
            TokenizerError: the definition is damaged or not byte-level BPE, or an end-of-sequence id is not special.
        """
        try:
            data = json.loads(definition)
            added = {int(token["id"]): token for token in data["added_tokens"]}
            vocabulary: dict[str, int] = data["model"]["vocab"]
        except (ValueError, KeyError, TypeError) as error:
            raise TokenizerError(f"tokenizer.json cannot be read: {error!r:.200}") from None
        if data["model"].get("type") not in ("BPE", None) or not _is_byte_level(data):
            raise TokenizerError("tokenizer.json is not a byte-level BPE tokenizer; only those are supported")
        special = {identifier for identifier, token in added.items() if token["content"].strip()}
        for identifier, token in added.items():
            token["special"] = identifier in special
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(data, ensure_ascii=False))
        except Exception as error:  # the library raises plain Exception
            raise TokenizerError(f"tokenizer.json is refused by the tokenizers library: {error!s:.200}") from None
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special_ids = frozenset(special)
        self._special_by_spelling = {added[identifier]["content"]: identifier for identifier in special}
        self._spellings = {identifier: name for name, identifier in vocabulary.items()}
        self._spellings.update({identifier: token["content"] for identifier, token in added.items()})
        self._literal_ids = frozenset(added) - special
        self._known_bytes = bytes(byte for char, byte in _BYTE_OF_CHARACTER.items() if char in vocabulary)
        self._vocab_size = max(self._spellings) + 1
        self._eos_ids = frozenset(eos_ids)
        self._fingerprint = hashlib.sha256(definition).hexdigest()
        self.bos_token = bos_token
        self.eos_token = eos_token
        if not self._eos_ids or not self._eos_ids <= self._special_ids:
            raise TokenizerError(f"end-of-sequence ids {sorted(self._eos_ids)} are not special tokens of the tokenizer")

    @classmethod
    def from_folder(cls, folder: Path) -> HfTokenizer:
        """Reads `tokenizer.json` of a checkpoint folder, and the ids that end a sequence from its configuration.

        Raises:
            TokenizerError: a file is missing or damaged, or names no end-of-sequence token.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise TokenizerError(f"{folder} has no tokenizer.json")
        definition = path.read_bytes()
        settings = _read_json(folder / "tokenizer_config.json")
        bos, eos = (_spelling_of(settings.get(name)) for name in ("bos_token", "eos_token"))
        eos_ids: set[int] = set()
        for name in ("config.json", "generation_config.json"):
            value = _read_json(folder / name).get("eos_token_id")
            eos_ids.update([value] if isinstance(value, int) else value or [])
        try:
            added = {token["id"]: token["content"] for token in json.loads(definition)["added_tokens"]}
        except (ValueError, KeyError, TypeError) as error:
            raise TokenizerError(f"{path} cannot be read: {error!r:.200}") from None
        eos_ids.update(identifier for identifier, content in added.items() if content == eos)
        if not eos_ids & set(added):
            raise TokenizerError(
                f"{folder} names no special token that ends a sequence: eos_token is {eos!r:.80} in "
                f"tokenizer_config.json, eos_token_id {sorted(eos_ids)} in config.json and generation_config.json"
            )
        # Fine-tunes of Llama 3 often name one of its ends and sample another.
        ends = {identifier for identifier, content in added.items() if content in _LLAMA3_ENDS}
        eos_ids |= ends if eos_ids & ends else set()
        # A checkpoint's configuration may carry an id over from the model it was made from: ordinary text here.
        eos_ids &= set(added)
        return cls(definition, eos_ids=eos_ids, bos_token=bos, eos_token=eos)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._vocab_size

    @property
    def special_ids(self) -> frozenset[int]:
        """Every special id: control, role, turn and sequence markers, reserved ones included."""
        return self._special_ids

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a turn or a sequence; never empty."""
        return self._eos_ids

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `tokenizer.json`, in hex."""
        return self._fingerprint

    def encode(self, text: str) -> list[int]:
        """Encodes text as ordinary tokens; never yields an id in `special_ids` [CML-052].

        A character with a byte that the vocabulary lacks becomes U+FFFD, where the library would drop the byte: in
        SmolLM2 six control characters and the unassigned planes 4 to 11, in Llama 3 none.

        Raises:
            UnicodeEncodeError: the text has a lone surrogate.
        """
        if text.encode().translate(None, delete=self._known_bytes):
            text = "".join(c if not c.encode().translate(None, delete=self._known_bytes) else "\ufffd" for c in text)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if self._special_ids.isdisjoint(ids):
            return ids
        return self._without_special(ids)

    def _without_special(self, ids: list[int]) -> list[int]:
        # A vocabulary may hold a special token as a whole word (`ignore_merges`); spelt in two halves it is plain text.
        plain: list[int] = []
        for identifier in ids:
            if identifier in self._special_ids:
                spelling = self._spellings[identifier]
                plain += self.encode(spelling[:1]) + self.encode(spelling[1:])
            else:
                plain.append(identifier)
        return plain

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that an ordinary token stands for; `b""` for a special token or an id without a token."""
        if token_id in self._special_ids or token_id not in self._spellings:
            return b""
        spelling = self._spellings[token_id]
        if token_id in self._literal_ids:
            return spelling.encode()
        return bytes(_BYTE_OF_CHARACTER[character] for character in spelling)

    def special_id(self, spelling: str) -> int | None:
        """The id of a special token by its spelling, or None."""
        return self._special_by_spelling.get(spelling)

    def spelling(self, token_id: int) -> str:
        """The name of a token in the vocabulary, for messages."""
        return self._spellings.get(token_id, f"<{token_id}>")


_LLAMA3_ENDS = ("<|end_of_text|>", "<|eot_id|>", "<|eom_id|>")
"""Llama 3 ends a text, a turn, or a message to a tool: the end of a sequence all the same."""


def _byte_of_character() -> dict[str, int]:
    """The alphabet of byte-level BPE: printable bytes stand for themselves, the rest for code points from 256 up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + offset): byte for offset, byte in enumerate(others)})
    return table


_BYTE_OF_CHARACTER = _byte_of_character()


def _is_byte_level(data: dict[str, Any]) -> bool:
    pre_tokenizer = data.get("pre_tokenizer") or {}
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return any(part.get("type") == "ByteLevel" for part in parts)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise TokenizerError(f"{path} is not JSON: {error!s:.200}") from None
    return data if isinstance(data, dict) else {}


def _spelling_of(token: object) -> str:
    """A token in `tokenizer_config.json` is a string, an object with `content`, or null."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""
