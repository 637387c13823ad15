"""8-bit weights: one product by either kernel, close to the weights they stand for, refused where they do not go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

from asynclm.engine.base import SamplingParams
from asynclm.engine.torch import open_engine
from asynclm.engine.torch.linear import make_linear
from asynclm.engine.torch.model import LlamaModel
from asynclm.engine.torch.quantize import FEW_ROWS, QuantizedLinear, linear_maker, quantized
from asynclm.prompt.hf_tokenizer import HfTokenizer

CPU = torch.device("cpu")
BFLOAT16_STEP = 2.0**-8

TEXT = (
    "The tide had gone out an hour before, and the boats lay on their sides in the mud like cattle asleep. Water is "
    "made of hydrogen and oxygen; it boils at 100 degrees Celsius at sea level, and at less on mountains, where air is "
    "thinner. def mean(values):\n    return sum(values) / len(values)\n\nIn 1969 two people walked on the moon for the "
    "first time, while a third flew around it."
)


def weight_of(outputs: int, inputs: int) -> torch.Tensor:
    return torch.randn((outputs, inputs), generator=torch.Generator().manual_seed(3)).mul_(0.05).bfloat16()


def test_every_weight_is_within_half_a_step_of_its_channel() -> None:
    weight = weight_of(64, 96)
    weight[5] *= 1000
    weight[9] = 0
    values, scales = quantized(weight)
    assert values.dtype == torch.int8
    assert int(values.abs().max()) <= 127
    off = (values.float() * scales.float()[:, None] - weight.float()).abs()
    # The largest may lie half a percent beyond 127 steps, as the scale is rounded.
    assert (off <= scales.float()[:, None] * (0.5 + 127 * BFLOAT16_STEP / 2)).all()
    assert (values[9] == 0).all()


@pytest.mark.parametrize("rows", [1, FEW_ROWS, FEW_ROWS + 1, 40])
@pytest.mark.parametrize("biased", [False, True])
def test_either_kernel_computes_the_product(rows: int, biased: bool) -> None:
    weight = weight_of(128, 64)
    bias = torch.linspace(-1, 1, 128).bfloat16() if biased else None
    values, scales = quantized(weight)
    x = torch.randn((rows, 64), generator=torch.Generator().manual_seed(4)).bfloat16()
    residual = torch.randn((rows, 128), generator=torch.Generator().manual_seed(5)).bfloat16()
    expected = F.linear(x.float(), values.float() * scales.float()[:, None], None if bias is None else bias.float())
    linear = QuantizedLinear(weight, bias)
    before = residual.clone()
    torch.testing.assert_close(linear(x).float(), expected, atol=0.02, rtol=0.01)
    torch.testing.assert_close(linear.plus(x, residual).float(), expected + before.float(), atol=0.04, rtol=0.01)


def test_it_is_refused_where_it_does_not_go() -> None:
    assert linear_maker(None, dtype=torch.float32, device=torch.device("cuda")) is make_linear
    with pytest.raises(ValueError, match="quantize is 'int8' and device cuda; allowed with it: device cpu"):
        linear_maker("int8", dtype=torch.bfloat16, device=torch.device("cuda"))
    with pytest.raises(ValueError, match="quantize is 'int8' and dtype float32; allowed with it: dtype bfloat16"):
        open_engine(quantize="int8", dtype="float32", device="cpu")
    with pytest.raises(ValueError, match=r"quantize is 'int3'; allowed: int8"):
        open_engine(quantize="int3")


@pytest.fixture(scope="module")
def int8(smollm2_dir: Path) -> LlamaModel:
    return LlamaModel.load(smollm2_dir, dtype=torch.bfloat16, device=CPU, quantize="int8")


def decoded(engine: Any, prompt: list[int], count: int) -> list[int]:
    from asynclm.engine.base import StepRequest

    sequence = engine.open(prompt, SamplingParams())
    ids: list[int] = []
    while len(ids) < count:
        ids += [sampled.token_id for sampled in engine.step([StepRequest(sequence)])]
    engine.close(sequence)
    return ids


@pytest.mark.weights
def test_on_real_text_its_first_choice_is_nearly_always_that_of_bfloat16(
    int8: LlamaModel, smollm2_bfloat16: LlamaModel, smollm2_tokenizer: HfTokenizer
) -> None:
    from asynclm.engine.torch.model import Chunk

    ids = smollm2_tokenizer.encode(TEXT)
    few, many, plain = (torch.empty(0) for _ in range(3))
    for model, name in ((smollm2_bfloat16, "plain"), (int8, "many")):
        cache = model.new_cache()
        cache.reserve(len(ids))
        logits = model.forward([Chunk(ids, 0, cache)], range(len(ids)))
        plain, many = (logits, many) if name == "plain" else (plain, logits)
    cache = int8.new_cache()
    cache.reserve(len(ids))
    few = torch.cat([int8.forward([Chunk([token], place, cache)], [0]) for place, token in enumerate(ids)])
    for other in (few, many):
        same = (other.argmax(-1) == plain.argmax(-1)).float().mean()
        assert same > 0.9  # 0.96 seen; 0.82 with half the right scale in every hundredth channel
    assert (few.argmax(-1) == many.argmax(-1)).float().mean() > 0.93


@pytest.mark.weights
def test_it_decodes_through_the_engine(int8: LlamaModel, smollm2_tokenizer: HfTokenizer, make_engine: Any) -> None:
    engine = make_engine(int8, smollm2_tokenizer)
    start, end = (smollm2_tokenizer.special_id(s) for s in ("<|im_start|>", "<|im_end|>"))
    encode = smollm2_tokenizer.encode
    prompt = [start, *encode("user\nWhat is the capital of France?"), end, *encode("\n"), start, *encode("assistant\n")]
    text = b"".join(smollm2_tokenizer.token_bytes(token) for token in decoded(engine, prompt, 8))
    assert b"Paris" in text
