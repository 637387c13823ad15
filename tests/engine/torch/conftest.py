"""Models for the torch engine's tests: the embedded one in both dtypes, tiny random ones, and a record of logits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from asynclm.cml.binding import bind
from asynclm.engine.base import EngineInfo, SamplingParams, SequenceId, StepRequest
from asynclm.engine.torch.engine import TorchEngine
from asynclm.engine.torch.loading import PLAIN_TEMPLATE
from asynclm.engine.torch.model import LlamaModel
from asynclm.prompt.chat import JinjaTemplate
from asynclm.prompt.hf_tokenizer import HfTokenizer

CPU = torch.device("cpu")
TINY_SPECIAL_TOKENS = ["<|call|>", "<|intr|>", "<|trap|>", "<|end|>", "<|head|>", "<|im_start|>", "<|im_end|>"]
TINY_VOCAB = 256 + len(TINY_SPECIAL_TOKENS)


@dataclass
class Trace:
    """What an engine did with one sequence: its ids, and the logits behind each sampled one.

    `sampled[i]` is the place in `ids` of the token that `logits[i]` gave.
    """

    ids: list[int]
    sampled: list[int] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        return [self.ids[place] for place in self.sampled]


class Driver:
    """Steps an engine and keeps a trace of every sequence."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine
        self.traces: dict[SequenceId, Trace] = {}
        engine.on_logits = lambda sequence, logits: self.traces[sequence].logits.append(logits.clone())

    def open(self, ids: Sequence[int], sampling: SamplingParams | None = None) -> SequenceId:
        sequence = self.engine.open(ids, sampling or SamplingParams())
        self.traces[sequence] = Trace(list(ids))
        return sequence

    def append(self, sequence: SequenceId, ids: Sequence[int]) -> None:
        self.engine.append(sequence, ids)
        self.traces[sequence].ids += ids

    def step(self, *sequences: SequenceId) -> set[SequenceId]:
        """One step; gives the sequences that got a token."""
        answered = self.engine.step([StepRequest(sequence) for sequence in sequences])
        for token in answered:
            trace = self.traces[token.sequence]
            trace.sampled.append(len(trace.ids))
            trace.ids.append(token.token_id)
        return {token.sequence for token in answered}

    def sample(self, tokens: int, *sequences: SequenceId) -> None:
        """Steps until each sequence has this many more tokens."""
        wanted = {sequence: len(self.traces[sequence].sampled) + tokens for sequence in sequences}
        while short := [s for s in sequences if len(self.traces[s].sampled) < wanted[s]]:
            self.step(*short)

    def close(self, *sequences: SequenceId) -> None:
        for sequence in sequences:
            self.engine.close(sequence)


class MakeEngine(Protocol):
    def __call__(self, model: LlamaModel, tokenizer: HfTokenizer, **options: Any) -> TorchEngine: ...


@pytest.fixture(scope="session")
def make_engine() -> MakeEngine:
    def make(
        model: LlamaModel,
        tokenizer: HfTokenizer,
        *,
        max_sequences: int = 64,
        context_length: int | None = None,
        **options: Any,
    ) -> TorchEngine:
        length = context_length or model.config.context_length
        return TorchEngine(
            model,
            info=EngineInfo(name="torch", model="test", context_length=length, max_sequences=max_sequences),
            tokenizer=tokenizer,
            codec=bind(tokenizer),
            template=JinjaTemplate(PLAIN_TEMPLATE, bos="", eos=""),
            **options,
        )

    return make


@pytest.fixture(scope="session")
def drive() -> Callable[[TorchEngine], Driver]:
    return Driver


@pytest.fixture(scope="session")
def smollm2_float32(smollm2_dir: Path) -> LlamaModel:
    return LlamaModel.load(smollm2_dir, dtype=torch.float32, device=CPU)


@pytest.fixture(scope="session")
def smollm2_bfloat16(smollm2_dir: Path) -> LlamaModel:
    return LlamaModel.load(smollm2_dir, dtype=torch.bfloat16, device=CPU)


class ReferenceLogits(Protocol):
    def __call__(self, ids: Sequence[int]) -> torch.Tensor:
        """Logits of shape (len(ids), vocab), in float32, after each of the ids."""


def _reference(folder: Path, dtype: torch.dtype) -> ReferenceLogits:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    @torch.inference_mode()
    def logits(ids: Sequence[int]) -> torch.Tensor:
        result: torch.Tensor = model(torch.tensor([list(ids)])).logits[0].float()
        return result

    return logits


@pytest.fixture(scope="session")
def transformers_float32(smollm2_dir: Path) -> ReferenceLogits:
    return _reference(smollm2_dir, torch.float32)


@pytest.fixture(scope="session")
def transformers_bfloat16(smollm2_dir: Path) -> ReferenceLogits:
    return _reference(smollm2_dir, torch.bfloat16)


@pytest.fixture(scope="session")
def load_reference() -> Callable[[Path, torch.dtype], ReferenceLogits]:
    return _reference


def save_tiny_tokenizer(folder: Path, special: Sequence[str] = TINY_SPECIAL_TOKENS, eos: str = "<|im_end|>") -> None:
    """A tokenizer of the 256 bytes and some special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> HfTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tiny_tokenizer(folder)
    return HfTokenizer.from_folder(folder)


class SaveTiny(Protocol):
    def __call__(self, folder: Path, *, max_shard_size: str = "1GB", **config: Any) -> Path: ...


@pytest.fixture(scope="session")
def save_tiny() -> SaveTiny:
    """Saves a tiny, randomly initialised Llama checkpoint with a tokenizer, as transformers saves one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def save(folder: Path, *, max_shard_size: str = "1GB", **config: Any) -> Path:
        sizes: dict[str, Any] = {
            "vocab_size": TINY_VOCAB,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": None,
            "eos_token_id": TINY_VOCAB - 1,
            "initializer_range": 0.2,  # far from zero, so that attention is not flat and errors show
        }
        torch.manual_seed(1)
        model = LlamaForCausalLM(LlamaConfig(**{**sizes, **config}))
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:  # initialised to 0 and 1, which would hide their loss
                torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.2)
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        save_tiny_tokenizer(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def tiny_dir(save_tiny: SaveTiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_model(tiny_dir: Path) -> LlamaModel:
    return LlamaModel.load(tiny_dir, dtype=torch.float32, device=CPU)
