"""Copied arguments on real weights: whatever the model would like to write, it can only copy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asynclm.cml.control import Control, Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import SamplingParams, StepRequest
from asynclm.engine.constraints import compile_constraint
from asynclm.engine.torch.model import LlamaModel
from asynclm.prompt.hf_tokenizer import HfTokenizer
from asynclm.session.config import Constraints, Limits, SessionConfig
from asynclm.session.effects import CallDispatched, Effect, Inject
from asynclm.session.events import InterruptReceived, TokenSampled
from asynclm.session.machine import Session
from asynclm.session.state import State

pytestmark = pytest.mark.weights

REQUEST = 'Tell "Zoë" (zoe.k@example.org) and Kim, kim@example.org,\nthat the meeting is off.'
RESULT = ["Room 4.217, north wing", "Łódź"]


def parameters(**origins: str) -> dict[str, Any]:
    properties = {name: {"type": "string", "x-asynclm-copy": origin} for name, origin in origins.items()}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TOOLS = (
    ToolSpec(name="look_up", parameters=parameters(name="request")),
    ToolSpec(name="send", parameters=parameters(to="request", where="results")),
)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 4.0])
def test_the_model_can_only_copy(
    temperature: float, smollm2_bfloat16: LlamaModel, smollm2_tokenizer: HfTokenizer, make_engine: Any
) -> None:
    """[CALL-102], [CALL-104]: greedy, as it is, and with logits that are all but even."""
    engine = make_engine(smollm2_bfloat16, smollm2_tokenizer)
    codec = engine.codec
    config = SessionConfig(
        tools=TOOLS,
        client_tools=frozenset(tool.name for tool in TOOLS),
        constraints=Constraints.GRAMMAR,
        request_texts=(REQUEST,),
        limits=Limits(max_block_tokens=120),
    )
    session, follower = Session(config, codec), compile_constraint(codec, engine.tokenizer, TOOLS).session()
    sequence = engine.open(codec.encode_text(REQUEST + "\n"), SamplingParams(temperature=temperature, seed=7))

    def step(forced: int | None = None) -> list[Effect]:
        effects = session.safe_point()
        for effect in effects:
            if isinstance(effect, Inject):
                engine.append(sequence, list(effect.ids))
        mask = session.mask()
        bits = follower.bits(mask)
        (token,) = engine.step([StepRequest(sequence, bits, forced)])
        assert bits[token.token_id // 32] >> (token.token_id % 32) & 1
        if mask.block_rule is not None:
            follower.accept(token.token_id)
        return effects + session.receive(TokenSampled(token_id=token.token_id))

    def call(name: str, begun: str) -> CallDispatched:
        """A call that is begun so and that the model goes on with."""
        ids = [codec.control_ids[Control.CALL], *codec.encode_text(name), codec.control_ids[Control.HEAD]]
        for token_id in (*ids, *codec.encode_text(begun)):
            step(token_id)
        while session.state is State.IN_CALL:
            for effect in step():
                if isinstance(effect, CallDispatched):
                    return effect
        raise AssertionError("the call was not dispatched")

    for number, begun in enumerate(('look_up(name="', 'look_up(name="Z', 'look_up(name="k')):
        dispatched = call(f"a{number}", begun)
        assert json.loads(dispatched.arguments)["name"] in REQUEST
    session.receive(InterruptReceived(source="a0", status=Status.OK, payload=json.dumps(RESULT, ensure_ascii=False)))
    arguments = json.loads(call("b", 'send(to="Kim", where="').arguments)
    assert any(arguments["where"] in text for text in RESULT)
    assert arguments["to"] == "Kim"
