"""Enum values by the names that people use: `MUST` for `LEVEL_MUST`."""

from __future__ import annotations

import re
from functools import cache

from google.protobuf.descriptor import EnumDescriptor

from asynclm.conformance.v1 import results_pb2, suite_pb2


def short_name(enum: EnumDescriptor, number: int) -> str:
    """The name of a value without its enum's prefix; the number itself where this version has none."""
    value = enum.values_by_number.get(number)
    return str(number) if value is None else value.name.removeprefix(_prefix(enum.name))


@cache
def _prefix(enum: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum).upper() + "_"


def level_of(result: results_pb2.CaseResult) -> str:
    """`MUST` and so on."""
    return short_name(suite_pb2.Level.DESCRIPTOR, result.level)


def feature_of(result: results_pb2.CaseResult) -> str:
    """The feature, in lower case."""
    return short_name(suite_pb2.Feature.DESCRIPTOR, result.feature).lower()
