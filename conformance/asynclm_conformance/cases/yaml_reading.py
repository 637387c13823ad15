"""Reads YAML as JSON would be read: no repeated keys, and only `true` and `false` are booleans."""

from __future__ import annotations

from typing import Any

import yaml

from asynclm_conformance.cases.errors import CaseError

_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader where it is built in: ten times as fast."""


class _Loader(_Base):  # type: ignore[misc, valid-type]
    """Refuses a key given twice, and keeps `on`, `off`, `yes` and `no` as the words that they are."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key_node, yaml.ScalarNode):
            raise CaseError(f"line {key_node.start_mark.line + 1}: a key is a word; got {key!r}")
        if key in found:
            raise CaseError(f"line {key_node.start_mark.line + 1}: the key {key!r} is given twice")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _first in "yYnNoO":
    _Loader.yaml_implicit_resolvers[_first] = [
        (tag, regexp)
        for tag, regexp in _Loader.yaml_implicit_resolvers.get(_first, [])
        if tag != "tag:yaml.org,2002:bool"
    ]


def read_yaml(text: str, name: str) -> Any:
    """Reads one document.

    Args:
        text: the file's content.
        name: its name, for messages.

    Raises:
        CaseError: it is no YAML, or a key is given twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except CaseError as error:
        raise CaseError(f"{name}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise CaseError(f"{name}: {place}{error.problem or 'is not YAML'}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise CaseError(f"{name}: is not YAML: {error}") from None
