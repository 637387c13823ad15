"""Where a tool's JSON schema has schemas, and references between them: they stay inside it.

A schema comes from a peer. A `$ref` to elsewhere would have whoever checks arguments fetch what the peer names, and one
to data (an example, say) would make a schema of what nobody has looked at as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

_NOTHING: Registry[Any] = Registry()
"""What references may lead to beside the schema itself: nothing, and it fetches nothing."""

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data, not schemas."""

NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose values are schemas by name; a name means nothing as a keyword."""


def registry_of(schema: Mapping[str, Any]) -> Registry[Any]:
    """Where references may lead: places in the schema, all known beforehand.

    A registry that has not looked for anchors yet does so at each reference to one, through the whole schema.
    """
    root: Resource[Any] = Resource.from_contents(dict(schema), default_specification=DRAFT202012)
    known: Registry[Any] = _NOTHING.with_resource(root.id() or "", root).crawl()
    return known


def nodes(node: object, path: str, *, named: bool = False) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object of a schema that may be one itself, with its path; data are left out.

    Args:
        node: a schema, or what stands in one.
        path: where it stands.
        named: it holds schemas by name.
    """
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from nodes(item, f"{path}/{index}")
    elif isinstance(node, Mapping):
        if not named:
            yield path, node
        for key, value in node.items():
            if named or key not in DATA:
                yield from nodes(value, f"{path}/{key}", named=not named and key in NAMED)


def check_references(schema: Mapping[str, Any], path: str) -> None:
    """Checks that every reference leads to a schema inside the schema itself.

    Args:
        schema: the schema.
        path: what it is called in messages.

    Raises:
        ValueError: one leads elsewhere, or nowhere; the message opens with its path [CALL-093].
    """
    root: Resource[Any] = Resource.from_contents(dict(schema), default_specification=DRAFT202012)
    schemas = {id(found) for _, found in nodes(schema, "")} | {id(root.contents)}
    at_root = registry_of(root.contents).resolver_with_root(root)
    for place, target, resolver in _references(root.contents, path, at_root):
        if not target.startswith("#"):
            raise ValueError(f"{place} {target[:80]!r}: references lead inside the schema, as in '#/$defs/name'")
        try:
            found = resolver.lookup(target).contents
        except Unresolvable:
            raise ValueError(f"{place} {target[:80]!r}: there is no such place in the schema") from None
        if not isinstance(found, bool) and id(found) not in schemas:
            raise ValueError(f"{place} {target[:80]!r}: what stands there is no schema")


def _references(node: object, path: str, resolver: Any, *, named: bool = False) -> Iterator[tuple[str, str, Any]]:
    """Every reference by its path, with what resolves it: below an address of its own, that is relative to it."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _references(item, f"{path}/{index}", resolver)
    elif isinstance(node, Mapping):
        if not named:
            if isinstance(node.get("$id"), str):
                resolver = resolver.in_subresource(Resource.from_contents(node, default_specification=DRAFT202012))
            for keyword in _REFERENCES:
                if isinstance(node.get(keyword), str):
                    yield f"{path}/{keyword}", node[keyword], resolver
        for key, value in node.items():
            if named or key not in DATA:
                yield from _references(value, f"{path}/{key}", resolver, named=not named and key in NAMED)
