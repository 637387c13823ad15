"""A tool's JSON schema as the model reads it: a Python-like signature, or one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from asynclm.cml.toolspec import ToolSpec

_NAMES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None", "object": "dict"}
_MAX_DEPTH = 8
"""Depth to which references in a schema are followed; they may be circular."""


def python_signature(spec: ToolSpec) -> str:
    """`name(city: str, days: int = 3)`, in the order in which positional arguments bind, then the rest."""
    rest = [name for name in spec.properties if name not in spec.parameter_order]
    parameters = [_parameter(spec, name) for name in (*spec.parameter_order, *rest)]
    return f"{spec.name}({', '.join(parameters)})"


def json_signature(spec: ToolSpec) -> str:
    """`{"name": …, "parameters": JSON schema}` on one line."""
    return json.dumps({"name": spec.name, "parameters": spec.parameters}, ensure_ascii=False)


def parameter_descriptions(spec: ToolSpec) -> Mapping[str, str]:
    """The parameters that are described, in the schema's order."""
    described = {}
    for name, schema in spec.properties.items():
        text = schema.get("description") if isinstance(schema, Mapping) else None
        if isinstance(text, str) and text:
            described[name] = text
    return described


def _parameter(spec: ToolSpec, name: str) -> str:
    schema = spec.properties[name]
    text = f"{name}: {_type(schema, spec.parameters, 0)}"
    if name in spec.required:
        return text
    default = schema.get("default") if isinstance(schema, Mapping) else None
    has_default = isinstance(schema, Mapping) and "default" in schema
    return f"{text} = {json.dumps(default, ensure_ascii=False) if has_default else '...'}"


def _type(schema: Any, root: Mapping[str, Any], depth: int) -> str:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return "Any"
    if isinstance(reference := schema.get("$ref"), str):
        return _type(_resolve(reference, root), root, depth + 1)
    if isinstance(values := schema.get("enum"), list):
        return f"Literal[{', '.join(json.dumps(value, ensure_ascii=False) for value in values)}]"
    if "const" in schema:
        return f"Literal[{json.dumps(schema['const'], ensure_ascii=False)}]"
    for key in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(key), list) and options:
            return _union([_type(option, root, depth + 1) for option in options])
    kind = schema.get("type")
    if isinstance(kind, list):
        return _union([_type({**schema, "type": one}, root, depth + 1) for one in kind])
    if kind == "array":
        return f"list[{_type(schema['items'], root, depth + 1)}]" if "items" in schema else "list"
    if kind == "object" and isinstance(fields := schema.get("properties"), Mapping) and fields:
        inner = ", ".join(f"{json.dumps(name)}: {_type(field, root, depth + 1)}" for name, field in fields.items())
        return f"{{{inner}}}"
    return _NAMES.get(kind, "Any") if isinstance(kind, str) else "Any"


def _union(types: list[str]) -> str:
    return " | ".join(dict.fromkeys(types))


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    """Follows `#/$defs/Name`; other references are left open."""
    found: Any = root
    for step in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ["?"]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
