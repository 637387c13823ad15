"""Which parameters are copied, and the texts of payloads."""

from __future__ import annotations

from typing import Any

import pytest

from asynclm.cml.copying import CopyFrom, texts_of
from asynclm.cml.toolspec import ToolSpec


def tool(**properties: Any) -> ToolSpec:
    return ToolSpec(name="f", parameters={"type": "object", "properties": properties})


def test_parameters_say_what_they_are_copied_from() -> None:
    """[CALL-100]."""
    spec = tool(
        a={"type": "string", "x-asynclm-copy": "request"},
        b={"type": "string", "x-asynclm-copy": "results", "maxLength": 9},
        c={"type": "string", "x-asynclm-copy": "any"},
        d={"type": "string"},
        e=True,
    )
    assert spec.copies == {"a": CopyFrom.REQUEST, "b": CopyFrom.RESULTS, "c": CopyFrom.ANY}
    assert ToolSpec(name="g").copies == {}


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            {"type": "string", "x-asynclm-copy": "prompt"},
            "properties/a/x-asynclm-copy is 'prompt'; allowed: request, r",
        ),
        ({"type": "string", "x-asynclm-copy": ["any"]}, "allowed: request, results, any"),
        (
            {"type": "integer", "x-asynclm-copy": "any"},
            "properties/a: x-asynclm-copy needs a parameter of type 'string'",
        ),
        ({"x-asynclm-copy": "any"}, "type 'string'"),
        ({"type": ["string", "null"], "x-asynclm-copy": "any"}, "type 'string'"),
        ({"items": {"type": "string", "x-asynclm-copy": "any"}}, "properties/a/items: x-asynclm-copy stands on"),
    ],
)
def test_the_keyword_elsewhere_or_otherwise_is_refused(parameter: dict[str, Any], message: str) -> None:
    """[CALL-100]."""
    with pytest.raises(ValueError, match=message):
        tool(a=parameter)


def test_a_parameter_of_that_name_is_a_parameter() -> None:
    assert tool(**{"x-asynclm-copy": {"type": "string"}}).copies == {}


@pytest.mark.parametrize(
    ("payload", "texts"),
    [
        ('"a \\"b\\"\\n"', ['a "b"\n']),
        ('{"k": ["x", {"y": "z"}], "n": 1.50}', ["k", "x", "y", "z", "n", "1.50"]),
        ('[true, null, "", -0]', ["-0"]),
        ("{", []),
        ("[" * 100_000, []),
    ],
)
def test_the_texts_of_a_payload(payload: str, texts: list[str]) -> None:
    """[CALL-101]."""
    assert list(texts_of(payload)) == texts
