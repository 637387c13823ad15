"""Trying a parser on a text that may be right or wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from asynclm.cml.blocks import CmlError

P = ParamSpec("P")
T = TypeVar("T")


def attempt(parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | CmlError:
    """What the parser gives, or the error it raises."""
    try:
        return parse(*args, **kwargs)
    except CmlError as error:
        return error
