"""Enum values by the names that people use: `MUST` for `LEVEL_MUST`."""

from __future__ import annotations

import re
from functools import cache

from google.protobuf.descriptor import EnumDescriptor

from asynclm.conformance.v1 import results_pb2, suite_pb2
from asynclm.v1 import session_pb2


def short_name(enum: EnumDescriptor, number: int) -> str:
    """The name of a value without its enum's prefix; the number itself where this version has none."""
    value = enum.values_by_number.get(number)
    return str(number) if value is None else value.name.removeprefix(prefix_of(enum.name))


@cache
def prefix_of(enum: str) -> str:
    """What the values of an enum begin with: `EXECUTION_MODE_` for `ExecutionMode`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum).upper() + "_"


def level_name(level: int) -> str:
    """`MUST` and so on."""
    return short_name(suite_pb2.Level.DESCRIPTOR, level)


def feature_name(feature: int) -> str:
    """The feature, in lower case."""
    return short_name(suite_pb2.Feature.DESCRIPTOR, feature).lower()


def capability_name(capability: int) -> str:
    """`RESUME` and so on."""
    return short_name(session_pb2.Capability.DESCRIPTOR, capability)


def verdict_name(verdict: int) -> str:
    """`PASS` and so on."""
    return short_name(results_pb2.Verdict.DESCRIPTOR, verdict)
