"""`Start`: what a client may ask, and how each bad field is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.values import COUNT, TEXT, TOOLS

from asynclm.cml.control import BodyLanguage
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import SamplingParams
from asynclm.prompt.template import CmlPart, Message, Role, TextPart
from asynclm.session.config import Constraints, DeliveryPolicy, ExecutionMode, Granularity, Limits, OnEnd, Unit
from asynclm.v1 import session_pb2, types_pb2
from asynclm.wire import FieldError, Instructions, OnDisconnect, StartRequest, start_from_pb, start_to_pb

USER = types_pb2.Message(role=types_pb2.ROLE_USER, parts=[types_pb2.Part(text="Hi")])

messages = st.builds(
    Message,
    st.sampled_from(Role),
    st.lists(st.one_of(st.builds(TextPart, TEXT), st.builds(CmlPart, TEXT)), max_size=3).map(tuple),
)
sampling = st.builds(
    lambda top, **rest: SamplingParams(logprobs=top is not None, top_logprobs=top or 0, **rest),
    temperature=st.floats(0, 5),
    top_k=COUNT,
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1, exclude_max=True),
    seed=st.integers(-(2**63), 2**63 - 1),
    repetition_penalty=st.floats(0, 10, exclude_min=True),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    top=st.none() | st.integers(0, 20),
)
prompts = st.one_of(
    st.fixed_dictionaries({"messages": st.lists(messages, min_size=1, max_size=3).map(tuple)}),
    st.fixed_dictionaries({"prompt_ids": st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5).map(tuple)}),
)
requests = st.builds(
    lambda prompt, mask, **rest: StartRequest(**prompt, constraints=mask[0], gate_end=mask[1], **rest),
    prompts,
    st.tuples(st.none() | st.sampled_from(Constraints), st.just(False))
    | st.tuples(st.sampled_from((None, Constraints.GATES, Constraints.GRAMMAR)), st.just(True)),
    model=st.none() | TEXT,
    instructions=st.sampled_from(Instructions),
    tools=st.lists(TOOLS, max_size=3, unique_by=lambda spec: spec.name).map(tuple),
    server_tools=st.none() | st.lists(TEXT, max_size=3).map(tuple),
    sampling=sampling,
    mode=st.sampled_from(ExecutionMode),
    on_end=st.sampled_from(OnEnd),
    on_disconnect=st.none() | st.sampled_from(OnDisconnect),
    body_language=st.sampled_from(BodyLanguage),
    granularity=st.sampled_from(Granularity),
    granularity_hold=st.none() | COUNT,
    delivery=st.sampled_from((None, DeliveryPolicy.LAZY)),
    coalesce_ms=COUNT,
    credit=st.none() | COUNT,
    limits=st.dictionaries(st.sampled_from(sorted(Limits.__dataclass_fields__)), st.integers(1, 2**40)),
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    stop=st.lists(TEXT.filter(lambda text: text and "\ufffd" not in text), max_size=3).map(tuple),
)


@given(requests)
def test_crosses_the_wire_unchanged(request: StartRequest) -> None:
    pb = session_pb2.Start.FromString(start_to_pb(request).SerializeToString())
    assert start_from_pb(pb) == request


def test_what_is_left_open_is_the_default() -> None:
    request = start_from_pb(session_pb2.Start(messages=[USER]))
    assert request == StartRequest(messages=(Message(Role.USER, (TextPart("Hi"),)),))


def test_every_field_of_the_proto_is_read() -> None:
    assert set(session_pb2.Start.DESCRIPTOR.fields_by_name) == set(StartRequest.__dataclass_fields__)
    assert set(types_pb2.Sampling.DESCRIPTOR.fields_by_name) == set(SamplingParams.__dataclass_fields__)
    assert set(types_pb2.Limits.DESCRIPTOR.fields_by_name) == set(Limits.__dataclass_fields__)


def start(**fields: Any) -> session_pb2.Start:
    return session_pb2.Start(**{"messages": [USER], **fields})


def tool(**fields: Any) -> session_pb2.Start:
    return start(tools=[types_pb2.ToolSpec(**{"name": "f", **fields})])


@pytest.mark.parametrize(
    ("pb", "field", "says"),
    [
        (session_pb2.Start(), "start.messages", "empty"),
        (start(prompt_ids=types_pb2.TokenIds(ids=[1])), "start.prompt_ids", "beside messages"),
        (session_pb2.Start(prompt_ids=types_pb2.TokenIds()), "start.prompt_ids", "empty"),
        (start(messages=[types_pb2.Message()]), "start.messages[0].role", "SYSTEM, USER, ASSISTANT, TOOL"),
        (
            start(messages=[USER, types_pb2.Message(role=types_pb2.ROLE_USER, parts=[types_pb2.Part()])]),
            "start.messages[1].parts[0]",
            "give text or cml",
        ),
        (start(sampling=types_pb2.Sampling(temperature=9)), "start.sampling.temperature", "is 9.0; allowed: 0 to 5"),
        (start(sampling=types_pb2.Sampling(temperature=float("nan"))), "start.sampling.temperature", "allowed"),
        (start(sampling=types_pb2.Sampling(top_p=0)), "start.sampling.top_p", "above 0"),
        (start(sampling=types_pb2.Sampling(top_k=-1)), "start.sampling.top_k", "0 (all) or more"),
        (start(sampling=types_pb2.Sampling(min_p=1)), "start.sampling.min_p", "below 1"),
        (start(sampling=types_pb2.Sampling(repetition_penalty=0)), "start.sampling.repetition_penalty", "above 0"),
        (
            start(sampling=types_pb2.Sampling(repetition_penalty=float("inf"))),
            "start.sampling.repetition_penalty",
            "is inf; allowed: above 0, up to 10",
        ),
        (start(sampling=types_pb2.Sampling(presence_penalty=-2.5)), "start.sampling.presence_penalty", "-2 to 2"),
        (
            start(sampling=types_pb2.Sampling(frequency_penalty=float("nan"))),
            "start.sampling.frequency_penalty",
            "is nan; allowed: -2 to 2",
        ),
        (
            start(sampling=types_pb2.Sampling(logprobs=True, top_logprobs=21)),
            "start.sampling.top_logprobs",
            "is 21; allowed: 0 to 20",
        ),
        (start(sampling=types_pb2.Sampling(top_logprobs=3)), "start.sampling.top_logprobs", "up to 20 with logprobs"),
        (start(sampling=types_pb2.Sampling(logprobs=True, top_logprobs=-1)), "start.sampling.top_logprobs", "0 to 20"),
        (start(stop=["x"] * 17), "start.stop", "is 17 strings; allowed: up to 16"),
        (start(stop=["x", ""]), "start.stop[1]", "is 0 bytes long; allowed: 1 to 256"),
        (start(stop=["x" * 257]), "start.stop[0]", "is 257 bytes long; allowed: 1 to 256"),
        (start(stop=["x\ufffd"]), "start.stop[0]", "without U+FFFD"),
        (start(credit=-1), "start.credit", "0 or more"),
        (start(coalesce_ms=-5), "start.coalesce_ms", "0 or more"),
        (start(delivery=9), "start.delivery", "allowed: EAGER, COALESCE, LAZY"),
        (start(delivery=1, coalesce_ms=5), "start.coalesce_ms", "is 5 with delivery EAGER"),
        (start(delivery=2), "start.coalesce_ms", "is 0 with delivery COALESCE"),
        (start(granularity_hold=-5), "start.granularity_hold", "0 or more"),
        (start(limits=types_pb2.Limits(max_queued=0)), "start.limits.max_queued", "is 0"),
        (start(labels={str(n): "" for n in range(17)}), "start.labels", "at most 16"),
        (start(labels={"k": "v" * 300}), "start.labels", "256 bytes"),
        (tool(name=""), "start.tools[0]", "empty"),
        (tool(name="cml.cancel"), "start.tools[0]", "reserved"),
        (tool(timeout_ms=0), "start.tools[0]", "positive"),
        (tool(parameters_json="{"), "start.tools[0].parameters_json", "not JSON"),
        (tool(parameters_json='{"minimum": NaN}'), "start.tools[0].parameters_json", "NaN"),
        (tool(parameters_json="[]"), "start.tools[0].parameters_json", "object"),
        (tool(parameters_json='{"type": "string"}'), "start.tools[0]", "object"),
        (tool(parameters_json='{"properties": {"a": {"type": 3}}}'), "start.tools[0]", "parameters/"),
        (tool(parameters_json='{"x":' * 65 + "1" + "}" * 65), "start.tools[0].parameters_json", "64 levels"),
        (tool(parameters_json="[" * 100_000), "start.tools[0].parameters_json", "64 levels"),
        (tool(parameter_order=["b"]), "start.tools[0]", "parameter_order"),
    ],
)
def test_refuses(pb: session_pb2.Start, field: str, says: str) -> None:
    with pytest.raises(FieldError) as refused:
        start_from_pb(pb)
    assert refused.value.field == field
    assert says in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    "name",
    ["instructions", "mode", "on_end", "on_disconnect", "constraints", "body_language", "granularity"],
)
def test_refuses_unknown_enum_values_and_lists_the_known(name: str) -> None:
    pb = start()
    setattr(pb, name, 77)
    with pytest.raises(FieldError, match=r"is 77; allowed: [A-Z]") as refused:
        start_from_pb(pb)
    assert refused.value.field == f"start.{name}"


def test_refuses_two_tools_of_one_name() -> None:
    twice = [types_pb2.ToolSpec(name="f"), types_pb2.ToolSpec(name="f")]
    with pytest.raises(FieldError, match="declared already") as refused:
        start_from_pb(start(tools=twice))
    assert (refused.value.field, refused.value.reason) == ("start.tools[1].name", "BAD_TOOL")


class TestOffered:
    def test_client_tools_then_all_of_the_servers(self) -> None:
        request = StartRequest(tools=(ToolSpec(name="mine"),))
        offered = request.offered([ToolSpec(name="yours"), ToolSpec(name="theirs")])
        assert [spec.name for spec in offered] == ["mine", "yours", "theirs"]

    def test_only_the_servers_tools_that_were_asked_for(self) -> None:
        offered = StartRequest(server_tools=("b",)).offered([ToolSpec(name="a"), ToolSpec(name="b")])
        assert [spec.name for spec in offered] == ["b"]

    def test_unknown_server_tool(self) -> None:
        with pytest.raises(FieldError, match="the server has: a"):
            StartRequest(server_tools=("b",)).offered([ToolSpec(name="a")])

    def test_one_name_on_both_sides(self) -> None:
        with pytest.raises(FieldError, match="a tool of the server's own") as refused:
            StartRequest(tools=(ToolSpec(name="a"),)).offered([ToolSpec(name="a")])
        assert refused.value.reason == "BAD_TOOL"

    def test_a_name_hidden_by_leaving_the_servers_out(self) -> None:
        request = StartRequest(tools=(ToolSpec(name="a"),), server_tools=())
        assert request.offered([ToolSpec(name="a")]) == request.tools

    @pytest.mark.parametrize("name", ["1a", "a-b", "a..b", "ä", "a" * 65, "a b"])
    def test_python_calls_need_names(self, name: str) -> None:
        spec = ToolSpec(name=name)
        with pytest.raises(FieldError, match="json_call takes any name"):
            StartRequest(tools=(spec,)).offered(())
        assert StartRequest(tools=(spec,), body_language=BodyLanguage.JSON).offered(()) == (spec,)

    def test_python_calls_need_parameter_names(self) -> None:
        spec = ToolSpec(name="f", parameters={"type": "object", "properties": {"a-b": {}}})
        with pytest.raises(FieldError, match="names a parameter 'a-b'"):
            StartRequest(tools=(spec,)).offered(())


class TestLimits:
    def test_a_client_may_ask_for_less(self) -> None:
        allowed = Limits(max_new_tokens=100)
        request = StartRequest(limits={"max_new_tokens": 50})
        assert request.limits_in_force(allowed) == Limits(max_new_tokens=50)

    @pytest.mark.parametrize("value", [0, -1, 101])
    def test_and_for_nothing_else(self, value: int) -> None:
        with pytest.raises(FieldError, match=f"is {value}; allowed: 1 to 100"):
            StartRequest(limits={"max_new_tokens": value}).limits_in_force(Limits(max_new_tokens=100))


def test_session_config_has_what_was_asked_for() -> None:
    mine = ToolSpec(name="mine")
    request = StartRequest(tools=(mine,), mode=ExecutionMode.SYNC, credit=3, granularity_hold=0, gate_end=True)
    config = request.session_config(
        tools=request.offered([ToolSpec(name="yours")]), limits=Limits(), prompt_tokens=7, unit=Unit.PIECE
    )
    assert (config.mode, config.credit, config.granularity_hold, config.gate_end) == (ExecutionMode.SYNC, 3, 0, True)
    assert (config.client_tools, config.prompt_tokens, config.unit) == ({"mine"}, 7, Unit.PIECE)
    assert config.constraints is Constraints.GRAMMAR


def test_what_the_user_says_may_be_copied() -> None:
    """[CALL-101]: text parts of the user's messages, nothing else."""
    messages = (
        Message(Role.SYSTEM, (TextPart("rules"),)),
        Message(Role.USER, (TextPart("to Kim"), CmlPart("[TRAP] [END]"), TextPart(""), TextPart("soon"))),
        Message(Role.ASSISTANT, (TextPart("yes"),)),
        Message(Role.USER, (TextPart("now"),)),
    )
    config = StartRequest(messages=messages).session_config(tools=(), limits=Limits(), prompt_tokens=9)
    assert config.request_texts == ("to Kim", "soon", "now")
