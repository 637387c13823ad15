"""What a server on real weights measures of its memory and its prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from asynclm.client import AsyncLM
from asynclm.cml.binding import bind
from asynclm.engine.base import EngineInfo
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.loading import PLAIN_TEMPLATE
from asynclm.engine.torch.model import LlamaModel
from asynclm.prompt.chat import JinjaTemplate
from asynclm.prompt.hf_tokenizer import HfTokenizer
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.session.effects import Usage

pytestmark = pytest.mark.weights

MIB = 1 << 20
PROMPT = "Count: one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, "


@pytest.fixture
def engine(smollm2_dir: Path, smollm2_tokenizer: HfTokenizer) -> TorchEngine:
    return TorchEngine(
        LlamaModel.load(smollm2_dir, dtype=torch.float32, device=torch.device("cpu")),
        info=EngineInfo(name="torch", model="test", context_length=512, max_sequences=8),
        tokenizer=smollm2_tokenizer,
        codec=bind(smollm2_tokenizer),
        template=JinjaTemplate(PLAIN_TEMPLATE, bos="", eos=""),
        kv_memory=32 * MIB,
        prefix_memory=16 * MIB,
    )


async def test_a_prompt_that_was_there_before_is_told_as_cached(engine: TorchEngine) -> None:
    """[SES-095, WIRE-118]: in `Finished`, in `GetSession` and in the metrics."""
    async with Server(engine, ServerOptions(port=0, drain_seconds=0.0)) as server, AsyncLM(server.address) as llm:
        usages = []
        for _ in range(2):
            async with llm.session(PROMPT, instructions="none", limits={"max_new_tokens": 2}) as session:
                result = await session.result()
            kept = await llm.get_session(session.session_id)
            assert kept.usage == result.usage
            usages.append(result.usage)
        first, second = usages
        assert isinstance(first, Usage)
        assert first.cached_tokens == 0
        assert 0 < second.cached_tokens < second.prompt_tokens
        found = (await llm.server_info()).metrics
    assert found["asynclm_tokens_prefix_hits_total"] == second.cached_tokens
    assert found["asynclm_tokens_prefilled_total"] == 2 * first.prompt_tokens - second.cached_tokens
    assert found["asynclm_tokens_sampled_total"] == 4
    assert found['asynclm_step_seconds_count{engine="torch"}'] == 4
    assert found["asynclm_kv_limit_bytes"] == 32 * MIB
    assert 0 < found["asynclm_kv_bytes"] <= 16 * MIB
    assert found["asynclm_sequences_open"] == 0
