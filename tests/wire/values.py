"""Hypothesis strategies for what crosses the wire: every value type, every field, from its own type hints."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from typing import Any

from hypothesis import strategies as st

from asynclm.cml.toolspec import SideEffects, ToolSpec
from asynclm.session import effects
from asynclm.session.config import Limits

REPORTS: tuple[type, ...] = typing.get_args(effects.Report)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COUNT = st.integers(0, 2**31 - 1)
ID = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)

TOOLS = st.builds(
    ToolSpec,
    name=ID,
    description=TEXT,
    parameters=st.just({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
    parameter_order=st.sampled_from([(), ("a",)]),
    expected_duration_ms=st.none() | st.integers(1, 2**40),
    timeout_ms=st.none() | st.integers(1, 2**40),
    cacheable=st.booleans(),
    idempotent=st.booleans(),
    cancellable=st.booleans(),
    side_effects=st.sampled_from(SideEffects),
)

_BY_FIELD: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("Tokens", "ids"): st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple),
    ("InterruptCommitted", "ids"): st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple),
    ("CancelAnswered", "side_effects"): st.sampled_from(["", "none", "local", "external"]),
    ("Binding", "eos_ids"): st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple),
    ("ServerInfo", "tools"): st.lists(TOOLS, max_size=2, unique_by=lambda spec: spec.name).map(tuple),
    ("Reference", "path"): st.lists(st.one_of(TEXT, COUNT), max_size=4).map(tuple),
}


def value_of(kind: Any) -> st.SearchStrategy[Any]:
    """A strategy for any value of a type of the session's vocabulary."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([value_of(option) for option in typing.get_args(kind)])
    if origin is tuple:
        return st.lists(value_of(typing.get_args(kind)[0]), max_size=4).map(tuple)
    if origin is frozenset:
        return st.frozensets(value_of(typing.get_args(kind)[0]), max_size=4)
    if origin is collections.abc.Mapping:
        key, value = typing.get_args(kind)
        return st.dictionaries(value_of(key), value_of(value), max_size=3)
    if kind is ToolSpec:
        return TOOLS
    if dataclasses.is_dataclass(kind):
        return record(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    plain = {
        str: TEXT,
        int: COUNT,
        bool: st.booleans(),
        float: st.floats(allow_nan=False),
        type(None): st.none(),
    }
    return plain[kind]


def record(kind: Any) -> st.SearchStrategy[Any]:
    """A strategy for a dataclass, every field drawn."""
    if kind is Limits:
        return st.builds(Limits, **{name: st.integers(1, 2**40) for name in Limits.__dataclass_fields__})
    hints = typing.get_type_hints(kind)
    chosen = {
        field.name: _BY_FIELD.get((kind.__name__, field.name), value_of(hints[field.name]))
        for field in dataclasses.fields(kind)
    }
    return st.builds(kind, **chosen)
