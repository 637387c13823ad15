"""Scripts cross the wire unchanged, and bad ones are refused with the step's place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.values import ID, TEXT

from asynclm.cml.blocks import Reference
from asynclm.cml.control import RESERVED_IDS, Control
from asynclm.conformance.v1 import scripted_model_pb2 as pb2
from asynclm.engine.script import ScriptControl, ScriptCopy, ScriptEnd, ScriptSample, ScriptStep, ScriptText
from asynclm.wire import FieldError, script_from_pb, script_to_pb

ids = ID.filter(lambda name: name not in RESERVED_IDS)
references = st.builds(Reference, ids, st.lists(st.one_of(ID, st.integers(0, 10**9 - 1)), max_size=4).map(tuple))
steps = st.one_of(
    st.builds(ScriptText, TEXT.filter(bool)),
    st.builds(ScriptControl, st.sampled_from(Control)),
    st.just(ScriptEnd()),
    st.builds(ScriptSample, st.integers(1, 2**31 - 1), st.lists(TEXT, max_size=3).map(tuple), st.booleans()),
    st.builds(ScriptCopy, references, st.booleans()),
)


@given(st.lists(steps, max_size=6).map(tuple))
def test_crosses_the_wire_unchanged(script: tuple[ScriptStep, ...]) -> None:
    pb = pb2.LoadScriptRequest.FromString(script_to_pb("s-1.a_B", script).SerializeToString())
    assert (script_from_pb(pb).id, script_from_pb(pb).steps) == ("s-1.a_B", script)


@pytest.mark.parametrize(
    ("step", "field", "says"),
    [
        (pb2.ScriptStep(), "steps[1]", "is empty"),
        (pb2.ScriptStep(text=""), "steps[1]", "at least one character"),
        (pb2.ScriptStep(control=0), "steps[1].control", "not given"),
        (pb2.ScriptStep(control=9), "steps[1].control", "CALL, INTR, TRAP, END, HEAD"),
        (pb2.ScriptStep(sample=pb2.Sample(max_tokens=0)), "steps[1]", "positive"),
        (pb2.ScriptStep(copy=pb2.Copy(reference="")), "steps[1].copy.reference", "[index]"),
        (pb2.ScriptStep(copy=pb2.Copy(reference="a..b")), "steps[1].copy.reference", "[index]"),
        (pb2.ScriptStep(copy=pb2.Copy(reference="all.x")), "steps[1].copy.reference", "all"),
    ],
)
def test_refuses_a_step(step: pb2.ScriptStep, field: str, says: str) -> None:
    request = pb2.LoadScriptRequest(id="s", steps=[pb2.ScriptStep(text="x"), step])
    with pytest.raises(FieldError) as refused:
        script_from_pb(request)
    assert refused.value.field == field
    assert says in str(refused.value)


def test_refuses_what_stands_behind_a_release() -> None:
    """[SCR-035]"""
    steps = [pb2.ScriptStep(text="x"), pb2.ScriptStep(release=pb2.Release()), pb2.ScriptStep(text="y")]
    with pytest.raises(FieldError, match="nothing can follow it") as refused:
        script_from_pb(pb2.LoadScriptRequest(id="s", steps=steps))
    assert refused.value.field == "steps"
    assert len(script_from_pb(pb2.LoadScriptRequest(id="s", steps=steps[:2])).steps) == 2


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "s+weights", "ä"])
def test_refuses_an_id(name: str) -> None:
    with pytest.raises(FieldError, match="1 to 128 letters"):
        script_from_pb(pb2.LoadScriptRequest(id=name))
