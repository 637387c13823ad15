"""Results of `cacheable` tools: bounded, least recently used first out."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheKey:
    """A call that gives the same result as any other of the same key."""

    function: str
    arguments: str


class _Number(str):
    """A number as it was spelled: to a tool that takes decimals, 0.1 and 0.10 may differ."""


def cache_key(function: str, arguments_json: str) -> CacheKey | None:
    """The key of a call: its arguments as canonical JSON, keys sorted, numbers as spelled.

    Returns:
        None if the arguments are not JSON.
    """
    try:
        arguments = json.loads(arguments_json, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
        return CacheKey(function, _canonical(arguments))
    except (ValueError, RecursionError):
        return None


def _canonical(value: object) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_canonical(item) for item in value) + "]"
    return json.dumps(value)


class ResultCache:
    """Payloads by key, bounded by count and by size.

    Args:
        max_entries: results kept; 0 for none.
        max_chars: characters of payload kept in all; a larger result is not kept.
    """

    def __init__(self, max_entries: int = 1024, max_chars: int = 64 << 20) -> None:
        self._entries: OrderedDict[CacheKey, str] = OrderedDict()
        self._max_entries = max_entries
        self._max_chars = max_chars
        self._chars = 0

    def get(self, key: CacheKey) -> str | None:
        """The payload kept under a key, which becomes the most recently used; or None."""
        payload = self._entries.get(key)
        if payload is not None:
            self._entries.move_to_end(key)
        return payload

    def put(self, key: CacheKey, payload: str) -> None:
        """Keeps a payload, dropping the least recently used ones for it."""
        self._drop(key)
        if len(payload) > self._max_chars:
            return
        self._entries[key] = payload
        self._chars += len(payload)
        while len(self._entries) > self._max_entries or self._chars > self._max_chars:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Drops everything."""
        self._entries.clear()
        self._chars = 0

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, key: CacheKey) -> None:
        payload = self._entries.pop(key, None)
        if payload is not None:
            self._chars -= len(payload)
