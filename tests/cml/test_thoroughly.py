"""The properties of documents again, on many more of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cml import test_binding, test_bodies, test_text_form

from asynclm.cml.control import BodyLanguage

PROPERTIES: list[Any] = [
    test_binding.test_the_token_form_and_the_text_form_give_the_same_blocks,
    test_bodies.test_what_is_written_is_read_back,
    test_text_form.test_any_division_into_pieces_gives_the_same_blocks,
    test_text_form.test_rendering_then_parsing_is_the_identity,
]


@pytest.mark.slow
@pytest.mark.parametrize("language", BodyLanguage)
@pytest.mark.parametrize("check", [p.hypothesis.inner_test for p in PROPERTIES], ids=[p.__name__ for p in PROPERTIES])
def test_documents(check: Callable[[st.DataObject, BodyLanguage], None], language: BodyLanguage) -> None:
    @settings(max_examples=1500)
    @given(st.data())
    def thoroughly(data: st.DataObject) -> None:
        check(data, language)

    thoroughly()
