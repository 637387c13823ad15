"""Results as JSON text."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import uuid
from typing import Any, NamedTuple

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm.tools import ToolErrorType, UnserializableError, to_json_text
from asynclm.tools.errors import error_payload


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class City(pydantic.BaseModel):
    name: str
    height: float = 0.0
    founded: datetime.date | None = None
    secret: pydantic.SecretStr | None = None


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (
            City(name="Köln", founded=datetime.date(50, 1, 1)),
            {"name": "Köln", "height": 0.0, "founded": "0050-01-01", "secret": None},
        ),
        ([City(name="a")], [{"name": "a", "height": 0.0, "founded": None, "secret": None}]),
        (Pair((1, 2), {3}), {"left": [1, 2], "right": [3]}),
        (Point(1, 2), [1, 2]),
        ({"c": Colour.RED, "l": Level.HIGH}, {"c": "red", "l": 3}),
        ({Colour.RED: 1, Level.HIGH: 2, 5: 3, None: 4, True: 5, 1.5: 6}, None),
        (decimal.Decimal("1.50"), "1.50"),
        (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), "2026-01-02T03:04:00Z"),
        (datetime.timedelta(minutes=1), "PT1M"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({2, 1}), [1, 2]),
        (b"abc", "abc"),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.deque([1, 2]), [1, 2]),
        ((i for i in range(2)), [0, 1]),
        (np.float32(0.5), 0.5),
        ({"m": np.eye(2, dtype=int)}, {"m": [[1, 0], [0, 1]]}),
        (10**400, 10**400),
        ("\ud83d\ude00 \ud800!", "\U0001f600 \ufffd!"),
        ({"\udfff": "x"}, {"\ufffd": "x"}),
    ],
)
def test_what_json_can_hold(value: Any, expected: Any) -> None:
    if isinstance(value, dict) and Colour.RED in value:
        expected = {"red": 1, "3": 2, "5": 3, "null": 4, "true": 5, "1.5": 6}
    text = to_json_text(value)
    assert json.loads(text) == expected
    text.encode()


def endless() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def deep() -> list[Any]:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "result: nan is not a JSON number"),
        ({"a": [0.0, -math.inf]}, r"result\.a\[1\]: -inf is not a JSON number"),
        (City(name="x", height=math.nan), r"result\.height: nan"),
        (Pair(np.array([math.nan]), 1), r"result\.left\[0\]: nan"),
        ({math.inf: 1}, "result key: inf"),
        ({"1": 1, 1: 2}, "result: two keys are both '1' in JSON"),
        ({(1, 2): 1}, "a key of type tuple is not text"),
        (object(), "result: JSON cannot hold this object"),
        ({"f": lambda: 1}, r"result\.f: JSON cannot hold this function"),
        ({"d": int}, r"result\.d: JSON cannot hold this type"),
        (b"\xff", "result: JSON cannot hold this bytes"),
        (endless(), "containing itself"),
        (deep(), "nested deeper than 200"),
        ([10**5000], "result: .*integer string conversion"),
        ({"k" * 500: math.nan}, "kkk"),
    ],
)
def test_what_json_cannot_hold(value: Any, message: str) -> None:
    with pytest.raises(UnserializableError, match=message) as caught:
        to_json_text(value)
    assert caught.value.type == ToolErrorType.INVALID_RESULT
    assert len(str(caught.value)) < 500


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(plain)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    text = to_json_text(value)
    assert json.loads(text) == value
    text.encode()


anything = st.recursive(
    st.none()
    | st.floats()
    | st.integers()
    | st.text(st.characters())
    | st.binary(max_size=4)
    | st.decimals()
    | st.datetimes()
    | st.complex_numbers()
    | st.sampled_from([object, Colour.RED, Level.HIGH, City(name="x")]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.none() | st.floats() | st.text(st.characters()) | st.booleans(), inner, max_size=3)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=10,
)


@given(anything)
def test_the_answer_is_strict_json_or_an_error(value: Any) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    try:
        text = to_json_text(value)
    except UnserializableError as error:
        text = error.payload
    json.loads(text.encode(), parse_constant=refuse)


@given(st.text(st.characters()), st.text(st.characters()), st.booleans())
def test_an_error_payload_is_strict_json(type: str, message: str, retryable: bool) -> None:
    payload = json.loads(error_payload(type, message, retryable=retryable).encode())
    assert payload.keys() == {"type", "message", "retryable"}
    assert payload["retryable"] is retryable
