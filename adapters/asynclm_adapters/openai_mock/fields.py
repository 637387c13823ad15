"""Reads fields of a JSON body, and refuses what is not allowed in the words of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asynclm_adapters.openai_mock.errors import bad_request

_JSON_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (str, "a string"),
    (int, "an integer"),
    (float, "a decimal"),
    (Mapping, "an object"),
    (list, "an array"),
)


def read(body: Mapping[str, Any], name: str, kind: str, path: str = "") -> Any:
    """A field of a type, or None where it is absent or null.

    Args:
        body: the object.
        name: the field.
        kind: what it has to be: a string, a boolean, an integer, a decimal, an object, an array.
        path: where the object stands in the request.

    Raises:
        ApiError: it is something else.
    """
    value = body.get(name)
    if value is not None:
        check_type(value, f"{path}.{name}" if path else name, kind)
    return value


def check_type(value: Any, path: str, kind: str) -> None:
    """Refuses a value of another type."""
    got = type_name(value)
    if got != kind and not (kind == "a decimal" and got == "an integer"):
        raise bad_request(f"Invalid type for '{path}': expected {kind}, but got {got} instead.", path, "invalid_type")


def type_name(value: Any) -> str:
    """A JSON value's type, as the API says it."""
    return next((name for kind, name in _JSON_TYPES if isinstance(value, kind)), "null")


def required(body: Mapping[str, Any], name: str, kind: str, path: str = "") -> Any:
    """A field that has to be there."""
    value = read(body, name, kind, path)
    if value is None:
        where = f"{path}.{name}" if path else name
        raise bad_request(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    return value


def in_range(body: Mapping[str, Any], name: str, kind: str, low: float, high: float | None = None) -> Any:
    """A number within bounds, or None."""
    value = read(body, name, kind)
    if value is None:
        return None
    noun = kind.split()[-1]
    for wrong, word, sign, bound in (
        (value < low, "below minimum", ">=", low),
        (high is not None and value > high, "above maximum", "<=", high),
    ):
        if wrong:
            said = f"Invalid '{name}': {noun} {word} value. Expected a value {sign} {bound}, but got {value} instead."
            raise bad_request(said, name, f"{noun}_{word.replace(' ', '_')}_value")
    return value


def one_of(value: str, path: str, allowed: Sequence[str]) -> None:
    """Refuses a word that is not among those allowed."""
    if value not in allowed:
        names = ", ".join(f"'{name}'" for name in allowed)
        said = f"Invalid value: '{value[:80]}'. Supported values are: {names}."
        raise bad_request(said, path, "invalid_value")


def longest(value: Sequence[Any], path: str, most: int) -> None:
    """Refuses a string or an array that is too long."""
    if len(value) > most:
        noun = "string" if isinstance(value, str) else "array"
        said = f"Invalid '{path}': {noun} too long. Expected {'a' if noun == 'string' else 'an'} {noun} with maximum "
        said += f"length {most}, but got one with length {len(value)} instead."
        raise bad_request(said, path, f"{noun}_above_max_length")


def shortest(value: Sequence[Any], path: str) -> None:
    """Refuses an empty array."""
    if not value:
        said = (
            f"Invalid '{path}': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise bad_request(said, path, "empty_array")
