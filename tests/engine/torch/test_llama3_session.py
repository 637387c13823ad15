"""A session on a Llama 3 checkpoint, end to end: server, client, chat template, grammar, a tool, an interrupt.

The weights are random but for a constant in one channel, by which the control tokens are made likely: what they say is
nonsense, and every block of it is valid CML all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from asynclm.client import AsyncLM, CallDispatched, Finished, FinishReason, InterruptCommitted, Notice, Tokens
from asynclm.cml.binding import bind
from asynclm.cml.blocks import Call, Interrupt, Malformed
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.parser import BlockClosed, BlockParser
from asynclm.engine.base import Engine, SamplingParams
from asynclm.engine.torch import open_engine
from asynclm.prompt.hf_tokenizer import HfTokenizer
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.session.state import NoticeCode, Result

from .llama3 import PUBLISHED, save

pytestmark = pytest.mark.weights

TEMPLATE = Path(__file__).parents[2] / "prompt" / "llama3.jinja"
SIZES = {"hidden_size": 32, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8}
LIKELY = {Control.CALL: 12.0, Control.TRAP: 10.5, Control.HEAD: 14.0, Control.END: 14.0, Control.INTR: 14.0}
LIKELY_TEXT = {'"': 14.0, ")": 11.0, ",": 9.0, "clock": 4.0}
"""Logits; those of all other tokens lie near 0. Without these, arguments are long references to calls that never were:
of the 128,000 tokens most are allowed there, and a few close the call."""


def forecast(city: Literal["Oslo", "Rome", "Kyoto"], days: Literal[1, 2] = 1) -> dict[str, str | int]:
    """The weather to come."""
    return {"city": city, "days": days, "sky": "clear"}


def clock() -> str:
    """The time of day."""
    return "noon"


@pytest.fixture(scope="module")
def engine(llama3_dir: Path, llama3_tokenizer: HfTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    codec = bind(llama3_tokenizer)

    @torch.no_grad()
    def edit(model: Any) -> None:
        model.model.embed_tokens.weight[:, 0] = 30.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0.0
        model.model.norm.weight[0] = 1.0
        model.lm_head.weight[:, 0] = 0.0
        for control, logit in LIKELY.items():
            model.lm_head.weight[codec.control_ids[control], 0] = logit / 32**0.5
        for text, logit in LIKELY_TEXT.items():
            model.lm_head.weight[llama3_tokenizer.encode(text)[0], 0] = logit / 32**0.5
        for end in codec.eos_ids:
            model.lm_head.weight[end, 0] = 2.0 / 32**0.5

    config = {**PUBLISHED["Llama-3.1-8B-Instruct"], **SIZES, "max_position_embeddings": 4096}
    folder = tmp_path_factory.mktemp("llama") / "Llama-3.1-8B-Instruct"
    save(folder, config, tokenizer=llama3_dir, max_shard_size="6MB", edit=edit)
    (folder / "chat_template.jinja").write_text(TEMPLATE.read_text())
    return open_engine(str(folder), progress=False, device="cpu", offline=True)


@pytest.fixture
async def llm(engine: Engine) -> AsyncIterator[AsyncLM]:
    async with Server(engine, ServerOptions(port=0, drain_seconds=0.0)) as server, AsyncLM(server.address) as client:
        yield client


async def test_random_weights_speak_valid_cml(llm: AsyncLM, engine: Engine) -> None:
    info = await llm.server_info()
    assert [model.name for model in info.models] == ["Llama-3.1-8B-Instruct"]
    assert info.models[0].binding.name == "llama-3"
    assert set(info.models[0].binding.eos_ids) == {128001, 128008, 128009}

    sampling = SamplingParams(temperature=1.0, seed=3)
    async with llm.session(
        "What is the weather?",
        tools=[forecast, clock],
        constraints="grammar",
        sampling=sampling,
        credit=40,
        limits={"max_block_tokens": 200},
        max_new_tokens=400,
    ) as session:
        while (await session.probe()).token_index < 40:
            pass
        accepted = await session.interrupt("Only Rome, please.")
        await session.grant(1000)
        reports = [event.report async for event in session]

    finished = reports[-1]
    assert isinstance(finished, Finished)
    assert finished.reason in (FinishReason.STOP, FinishReason.LENGTH)
    cut_off = finished.reason is FinishReason.LENGTH
    notices = {report.code for report in reports if isinstance(report, Notice)}
    assert notices <= ({NoticeCode.INCOMPLETE_BLOCK} if cut_off else set())
    dispatched = [report for report in reports if isinstance(report, CallDispatched)]
    assert len(dispatched) >= 3
    assert {report.function for report in dispatched} <= {"forecast", "clock", "cml.cancel"}
    answered = [row for row in finished.calls if row.function == "clock"]
    assert len(answered) >= 2
    unanswered = {Result.NONE} if cut_off else set()  # the last may have been called just before the end
    assert {row.result for row in answered} <= {Result.OK, *unanswered}
    users = [r for r in reports if isinstance(r, InterruptCommitted) and r.source == "@user"]
    assert [(r.payload, r.number) for r in users] == [("Only Rome, please.", accepted.number)]

    blocks = read(engine, reports)
    calls = [block for block in blocks if isinstance(block, Call)]
    assert len(calls) == len(finished.calls) >= 3
    assert len([b for b in blocks if isinstance(b, Interrupt)]) >= 2
    assert not [block for block in blocks if isinstance(block, Malformed)]


def read(engine: Engine, reports: list[Any]) -> list[Any]:
    """The blocks of the whole context after the prompt, sampled and injected, parsed from its ids."""
    pieces = [(r.token_index, r.ids) for r in reports if isinstance(r, Tokens | InterruptCommitted)]
    decoder, parser = engine.codec.decoder(), BlockParser(BodyLanguage.PYTHON)
    items = [item for _, ids in sorted(pieces) for token_id in ids for item in decoder.feed(token_id)]
    return [event.block for item in items for event in parser.feed(item) if isinstance(event, BlockClosed)]
