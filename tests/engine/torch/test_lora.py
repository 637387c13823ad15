"""Adapters that peft made: equal to peft's own logits, alone and in batches of many, on random and on real weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from asynclm.engine.base import SamplingParams, StepRequest, UnknownModelError
from asynclm.engine.torch.lora import Adapter
from asynclm.engine.torch.lora_loading import load_adapter
from asynclm.engine.torch.model import Chunk, LlamaModel
from asynclm.prompt.hf_tokenizer import HfTokenizer

from .conftest import TINY_VOCAB

CPU = torch.device("cpu")
TOLERANCE = 2e-4
"""Largest difference of logits in float32; their largest is about 8. Seen: 5e-5. Every adapter moves some by over 1."""

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BOTH = ["embed_tokens", "lm_head"]

KINDS: dict[str, dict[str, Any]] = {
    "all-linear": {"target_modules": "all-linear", "lora_alpha": 16},
    "some": {"target_modules": ["v_proj", "up_proj"]},
    "one-layer": {"target_modules": ALL, "layers_to_transform": [1]},
    "regex": {"target_modules": r".*layers\.0\..*\.(q|down)_proj"},
    "excluded": {"target_modules": ALL, "exclude_modules": ["k_proj"]},
    "rank-stabilised": {"target_modules": ALL, "use_rslora": True, "lora_alpha": 5},
    "patterns": {
        "target_modules": ALL,
        "rank_pattern": {"q_proj": 8, r"layers\.0\.mlp\.down_proj": 2},
        "alpha_pattern": {"k_proj": 32, "self_attn.v_proj": 1},
    },
    "token-rows": {"target_modules": ALL, "trainable_token_indices": [256, 3, 258]},
    "token-rows-apart": {"target_modules": ALL, "trainable_token_indices": {"embed_tokens": [3], "lm_head": [4, 9]}},
    "token-rows-in": {"target_modules": ["o_proj"], "trainable_token_indices": {"embed_tokens": [3, 4]}},
    "token-rows-out": {"target_modules": ["o_proj"], "trainable_token_indices": {"lm_head": [3, 4]}},
    "whole": {"target_modules": ALL, "modules_to_save": BOTH},
    "whole-in": {"target_modules": ALL, "modules_to_save": ["embed_tokens"]},
    "whole-out": {"target_modules": ALL, "modules_to_save": ["lm_head"]},
    "whole-tied": {"target_modules": ALL, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
}


class Made(NamedTuple):
    """A base checkpoint, an adapter's folder, and the logits that peft gives for ids."""

    base: Path
    folder: Path
    logits: Callable[[Sequence[int]], torch.Tensor]


def make_adapter(base: Path, folder: Path, seed: int = 5, **config: Any) -> Made:
    """A random adapter: peft starts them as no change at all, which would hide their loss."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice for people who train
        model = get_peft_model(LlamaForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**config))
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2 if "lora_" in name else float(parameter.std()) or 0.1)
        model.save_pretrained(folder)
    loaded = load_peft(base, folder)

    @torch.inference_mode()
    def logits(ids: Sequence[int]) -> torch.Tensor:
        result: torch.Tensor = loaded(torch.tensor([list(ids)])).logits[0]
        return result

    return Made(base, folder, logits)


def load_peft(base: Path, folder: Path) -> Any:
    """The adapter as peft opens it, apart from the weights."""
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base, dtype=torch.float32), folder).eval()


def some_ids(count: int, seed: int, vocab: int = TINY_VOCAB) -> list[int]:
    ids: list[int] = torch.randint(0, vocab, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids


def forward(
    model: LlamaModel, parts: Sequence[tuple[Sequence[int], Adapter | None]], sizes: Sequence[int] = (1000,)
) -> list[torch.Tensor]:
    """Logits after every id of every part, computed together, in pieces of these sizes."""
    caches = [model.new_cache() for _ in parts]
    rows: list[list[torch.Tensor]] = [[] for _ in parts]
    for (ids, _), cache in zip(parts, caches, strict=True):
        cache.reserve(len(ids))
    start = 0
    for size in sizes:
        chunks = [
            Chunk(ids[start : start + size], start, cache, adapter)
            for (ids, adapter), cache in zip(parts, caches, strict=True)
        ]
        live = [(number, chunk) for number, chunk in enumerate(chunks) if chunk.ids]
        logits = model.forward([chunk for _, chunk in live], range(sum(len(chunk.ids) for _, chunk in live)))
        for (number, _), part in zip(live, logits.split([len(chunk.ids) for _, chunk in live]), strict=True):
            rows[number].append(part)
        start += size
    return [torch.cat(part) for part in rows]


@pytest.fixture(scope="module")
def bases(save_tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The same tiny checkpoint, untied and tied."""
    folder = tmp_path_factory.mktemp("bases")
    return {tied: save_tiny(folder / f"tied-{tied}", tie_word_embeddings=tied) for tied in (False, True)}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_peft(kind: str, tied: bool, bases: dict[bool, Path], tmp_path: Path) -> None:
    made = make_adapter(bases[tied], tmp_path / kind, **{"r": 4, **KINDS[kind]})
    model = LlamaModel.load(made.base, dtype=torch.float32, device=CPU)
    adapter = load_adapter("a", made.folder, model.config, dtype=torch.float32, device=CPU)
    ids = [*some_ids(60, 2), 256, 3, 258, 4, 9, *some_ids(20, 3)]
    expected = made.logits(ids)
    (plain,) = forward(model, [(ids, None)])
    assert (plain - expected).abs().max() > 1
    for sizes in ([85], [1] * 85, [7, 1, 70, 7]):
        (ours,) = forward(model, [(ids, adapter)], sizes)
        torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def mixed(bases: dict[bool, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[LlamaModel, list[Made]]:
    """A model with three adapters of different kinds and ranks."""
    folder = tmp_path_factory.mktemp("mixed")
    made = [
        make_adapter(bases[True], folder / "a", 5, r=4, target_modules=ALL, trainable_token_indices=[256, 257]),
        make_adapter(bases[True], folder / "b", 6, r=2, target_modules=["q_proj", "down_proj"], modules_to_save=BOTH),
        make_adapter(bases[True], folder / "c", 7, r=8, target_modules=["k_proj", "up_proj"], lora_alpha=32),
    ]
    model = LlamaModel.load(bases[True], dtype=torch.float32, device=CPU)
    for name, each in zip("abc", made, strict=True):
        model.adapters[name] = load_adapter(name, each.folder, model.config, dtype=torch.float32, device=CPU)
    return model, made


def test_a_batch_of_many_adapters_gives_what_each_gives_alone(mixed: tuple[LlamaModel, list[Made]]) -> None:
    model, made = mixed
    names = ["a", None, "b", "a", None, "c", "a"]
    parts = [
        ([*some_ids(30 + 5 * n, n), 256, 257], model.adapters[name] if name else None) for n, name in enumerate(names)
    ]
    together = forward(model, parts, [3, 1, 1, 20, 100])
    for (ids, adapter), name, logits in zip(parts, names, together, strict=True):
        (alone,) = forward(model, [(ids, adapter)], [3, 1, 1, 20, 100])
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=0)
        if name:
            torch.testing.assert_close(logits, made["abc".index(name)].logits(ids), atol=TOLERANCE, rtol=0)


def test_sequences_of_an_engine_keep_to_their_adapters(
    mixed: tuple[LlamaModel, list[Made]], tiny_tokenizer: HfTokenizer, make_engine: Any
) -> None:
    """Injection and joining at different steps included; every token is the one that peft's logits give."""
    model, made = mixed
    engine = make_engine(model, tiny_tokenizer)
    texts = {
        engine.open(some_ids(40, n), SamplingParams(), adapter=name): (name, some_ids(40, n))
        for n, name in enumerate(["a", "b", "c", None])
    }
    for step in range(30):
        if step == 10:
            for sequence, (_, ids) in texts.items():
                injected = some_ids(9, int(sequence))
                engine.append(sequence, injected)
                ids.extend(injected)
        if step == 15:
            late = engine.open(some_ids(25, 9), SamplingParams(), adapter="b")
            texts[late] = ("b", some_ids(25, 9))
        for token in engine.step([StepRequest(sequence) for sequence in texts]):
            name, ids = texts[token.sequence]
            if name is not None:
                assert int(made["abc".index(name)].logits(ids)[-1].argmax()) == token.token_id
            ids.append(token.token_id)


def test_an_unknown_adapter_is_refused(
    mixed: tuple[LlamaModel, list[Made]], tiny_tokenizer: HfTokenizer, make_engine: Any
) -> None:
    engine = make_engine(mixed[0], tiny_tokenizer)
    with pytest.raises(UnknownModelError, match="adapter 'd': there is none of this name; there are: a, b, c"):
        engine.open([1], SamplingParams(), adapter="d")


@pytest.mark.weights
def test_an_adapter_on_real_weights_equals_peft_merged(
    smollm2_dir: Path, smollm2_float32: LlamaModel, smollm2_tokenizer: HfTokenizer, tmp_path: Path
) -> None:
    """The shape of an adapter that teaches the control tokens: all products, and the five tokens' rows."""
    rows = [
        smollm2_tokenizer.special_id(s)
        for s in ("<jupyter_code>", "<jupyter_output>", "<empty_output>", "<file_sep>", "<filename>")
    ]
    made = make_adapter(
        smollm2_dir,
        tmp_path / "cml",
        r=16,
        target_modules=ALL,
        lora_alpha=4,
        trainable_token_indices=rows,
        init_lora_weights="gaussian",
    )
    merged = load_peft(smollm2_dir, made.folder).merge_and_unload()
    config = smollm2_float32.config
    adapter = load_adapter("cml", made.folder, config, dtype=torch.float32, device=CPU)
    ids = [*smollm2_tokenizer.encode("The weather in Oslo is"), *rows, *smollm2_tokenizer.encode(" and so on.")]
    with torch.inference_mode():
        expected = merged(torch.tensor([ids])).logits[0]
    plain, ours = forward(smollm2_float32, [(ids, None), (ids, adapter)])
    assert (plain - expected).abs().max() > 1
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=0)
