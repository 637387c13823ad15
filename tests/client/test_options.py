"""What a caller says in Python becomes what the server reads, and mistakes are told before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from asynclm.client import AsyncLM, Message, Role, SamplingParams, SessionOptions, TextPart
from asynclm.client.options import messages_of, start_request
from asynclm.session.config import Constraints, ExecutionMode
from asynclm.wire import StartRequest, start_from_pb, start_to_pb

HI = Message(Role.USER, (TextPart("Hi"),))


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        ("Hi", (HI,)),
        (HI, (HI,)),
        ({"role": "user", "content": "Hi"}, (HI,)),
        ([{"role": "system", "content": "Be brief."}, HI], (Message(Role.SYSTEM, (TextPart("Be brief."),)), HI)),
    ],
)
def test_prompts(prompt: Any, messages: tuple[Message, ...]) -> None:
    assert messages_of(prompt) == messages


@pytest.mark.parametrize("prompt", [[3], [{"role": "user"}], [{"role": "user", "content": 3}], ["Hi"]])
def test_what_is_no_message(prompt: Any) -> None:
    with pytest.raises(TypeError, match="'role' and 'content'"):
        messages_of(prompt)


def test_an_unknown_role() -> None:
    with pytest.raises(ValueError, match="role is 'bot'; allowed: system, user, assistant, tool"):
        messages_of({"role": "bot", "content": ""})


def test_every_option_arrives() -> None:
    options = SessionOptions(
        model="m",
        instructions="none",
        server_tools=["a"],
        sampling=SamplingParams(temperature=0.7, seed=3),
        stop=["\nUser:", "</a>"],
        mode="sync",
        on_end="keep",
        on_disconnect="detach",
        constraints=Constraints.GATES,
        gate_end=True,
        body_language="json_call",
        granularity="word",
        granularity_hold=4,
        delivery="lazy",
        coalesce_ms=5,
        credit=0,
        limits={"max_queued": 7},
        max_new_tokens=9,
        labels={"a": "b"},
    )
    assert SessionOptions.__annotations__.keys() - options.keys() == {"prompt_ids"}
    request = start_from_pb(start_to_pb(start_request("Hi", (), options)))
    assert request == StartRequest(
        model="m",
        messages=(HI,),
        instructions=request.instructions,
        server_tools=("a",),
        sampling=SamplingParams(temperature=0.7, seed=3),
        mode=ExecutionMode.SYNC,
        on_end=request.on_end,
        on_disconnect=request.on_disconnect,
        constraints=Constraints.GATES,
        gate_end=True,
        body_language=request.body_language,
        granularity=request.granularity,
        granularity_hold=4,
        delivery=request.delivery,
        coalesce_ms=5,
        credit=0,
        limits={"max_queued": 7, "max_new_tokens": 9},
        labels={"a": "b"},
        stop=("\nUser:", "</a>"),
    )
    strings = (request.instructions, request.on_end, request.on_disconnect, request.body_language, request.granularity)
    assert strings == ("none", "keep", "detach", "json_call", "word")


def test_none_is_left_out() -> None:
    nothing: Any = dict.fromkeys(SessionOptions.__annotations__)
    assert start_request("Hi", (), nothing) == start_request("Hi", (), {})


def test_one_stop_string() -> None:
    assert start_request("Hi", (), {"stop": "</a>"}).stop == ("</a>",)


def test_a_prompt_of_ids() -> None:
    assert start_request(None, (), {"prompt_ids": [1, 2]}).prompt_ids == (1, 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "fast"}, "mode is 'fast'; allowed: async, sync, sync_parallel"),
        ({"constraints": 3}, "constraints is 3; allowed: none, static, gates, grammar"),
        ({"limits": {"max_tokens": 3}}, "there are: max_new_tokens"),
        ({"temperature": 3}, "temperature is no option of a session"),
    ],
)
def test_mistakes(options: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        AsyncLM("localhost:1").session("Hi", **options)
