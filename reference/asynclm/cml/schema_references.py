"""References inside a tool's JSON schema: they stay inside it.

A schema comes from a peer. A `$ref` to elsewhere would have whoever checks arguments fetch what the peer names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

REGISTRY: Registry[Any] = Registry()
"""What references may lead to beside the schema itself: nothing, and it fetches nothing."""

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_VALUES = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data, not schemas."""


def check_references(schema: Mapping[str, Any]) -> None:
    """Checks that every reference leads to a place in the schema itself.

    Raises:
        ValueError: one leads elsewhere, or nowhere.
    """
    root: Resource[Any] = Resource.from_contents(dict(schema), default_specification=DRAFT202012)
    resolver = REGISTRY.resolver_with_root(root)
    for keyword, target in _references(schema):
        if not target.startswith("#"):
            raise ValueError(f"{keyword} {target[:80]!r}: references lead inside the schema, as in '#/$defs/name'")
        try:
            resolver.lookup(target)
        except Unresolvable:
            raise ValueError(f"{keyword} {target[:80]!r}: there is no such place in the schema") from None


def _references(node: object) -> Iterator[tuple[str, str]]:
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            if key in _REFERENCES and isinstance(value, str):
                yield key, value
            elif key not in _VALUES and not _renamed(value):
                yield from _references(value)


def _renamed(node: object) -> bool:
    """Whether a subschema has an address of its own, to which its references are relative; left to the check itself."""
    return isinstance(node, Mapping) and isinstance(node.get("$id"), str)
