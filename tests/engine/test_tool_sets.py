"""No call that a model generates under the grammar can fail to parse, name no function, or break its schema.

Random tools, random logits, the real machine: what is dispatched fits its schema, references filled in. What is not has
a reason that no grammar can know of (an id that is taken or unknown, a value that a reference brought) or that the
session was told of in advance (`unenforced`), or was cut at the block limit.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.engine.sampling import PATIENCE, RandomLogits
from tests.engine.tool_sets import Maker

from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.control import BodyLanguage, Control, Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.constraints import Constraint
from asynclm.session.config import Constraints, Limits, SessionConfig
from asynclm.session.effects import (
    CallDispatched,
    CallEmitted,
    Effect,
    InterruptCommitted,
    Notice,
)
from asynclm.session.events import InterruptReceived, TokenSampled
from asynclm.session.machine import Session
from asynclm.session.state import NoticeCode

SETS = 500
BLOCKS = 6
LONG_WINDED = 0.1
"""Share of blocks in which nothing closes what is open, so that the block limit has to."""

REQUEST = ('Send "the agenda"\nto Kim, kim@example.org.', "Room 42")
PAYLOADS = ("3", '"word"', '{"a": "red", "n": [1, "x"]}', "[true]", "null")


class Writer:
    """A session whose model samples at random."""

    def __init__(self, logits: RandomLogits, tools: tuple[ToolSpec, ...], language: BodyLanguage, seed: int) -> None:
        self.logits, self.random = logits, random.Random(seed)
        self.tools = {tool.name: tool for tool in tools}
        self.constraint = Constraint(logits.codec, logits.codec.tokenizer, tools, language)
        self.follower = self.constraint.session()
        config = SessionConfig(
            tools=tools,
            client_tools=frozenset(self.tools),
            body_language=language,
            constraints=Constraints.GRAMMAR,
            request_texts=REQUEST,
            limits=Limits(max_block_tokens=200, max_new_tokens=1 << 20, context_length=1 << 24),
        )
        self.session = Session(config, logits.codec)
        self.answered: list[str] = []
        self.python = language is BodyLanguage.PYTHON

    def block(self, number: int) -> list[Effect]:
        """Samples a whole call; gives its effects, and those of the safe point after it."""
        effects = self.sample(self.logits.codec.control_ids[Control.CALL])
        written, text = 0, ""
        self.logits.patience = 1_000 if self.random.random() < LONG_WINDED else PATIENCE
        wished: list[int] = []
        if self.random.random() < 0.7:
            wished = [*self.logits.codec.encode_text(f"call{number}"), self.logits.codec.control_ids[Control.HEAD]]
        if self.random.random() < 0.8:
            name = self.random.choice(list(self.tools))
            wished += self.logits.codec.encode_text(
                f"{name}(" if self.python else f'{{"name": "{name}", "arguments": {{"'
            )
        while self.session.mask().block_rule is not None or self.session.state == "in_call":
            mask = self.session.mask()
            bits = self.follower.bits(mask)
            if wished and self.follower.allows(mask, wished[0]):
                token_id = wished.pop(0)
            else:
                wished = []
                token_id = self.logits.choose(bits, written, literal=text.endswith("="))
            assert bits[token_id // 32] >> (token_id % 32) & 1
            if mask.block_rule is not None:
                self.follower.accept(token_id)
            effects += self.sample(token_id)
            written += 1
            if token_id == self.logits.end:
                break
            if token_id not in self.logits.codec.control_ids.values():
                text += self.logits.codec.tokenizer.token_bytes(token_id).decode(errors="replace")
            if not wished and self.answered and self._takes_reference(text) and self.random.random() < 0.5:
                wished = self.logits.codec.encode_text(
                    self.random.choice(self.answered) + self.random.choice(["", "", ".a", ".n[1]"])
                )
        return effects + self.session.safe_point()

    def _takes_reference(self, text: str) -> bool:
        if self.python:
            return text.endswith("=")
        return '"refs"' in text and text.endswith((':"', ': "'))

    def sample(self, token_id: int) -> list[Effect]:
        return self.session.safe_point() + self.session.receive(TokenSampled(token_id=token_id))

    def answer(self, call: CallDispatched) -> list[Effect]:
        """The result of a named call; references to it are filled in."""
        if call.id is None:
            return []
        payload = self.random.choice(PAYLOADS)
        self.answered.append(call.id)
        return self.session.receive(InterruptReceived(source=call.id, status=Status.OK, payload=payload))

    def unenforced(self, function: str) -> list[str]:
        return [path for path in self.constraint.unenforced if path.startswith(f"{function}: ")]


def check_dispatched(writer: Writer, call: CallDispatched) -> None:
    """A dispatched call names a declared function, and its final arguments fit the schema as it was declared."""
    tool = writer.tools[call.function]
    arguments = json.loads(call.arguments)
    errors = list(Draft202012Validator(tool.parameters).iter_errors(arguments))
    assert not errors, (tool.parameters, call.arguments, errors[0].message)


def play(writer: Writer) -> Counter[str]:
    """Writes blocks and tells how often each thing became of them."""
    count: Counter[str] = Counter()
    emitted: dict[int, tuple[CallEmitted, bool]] = {}
    for number in range(BLOCKS):
        effects = writer.block(number)
        for effect in effects:
            if isinstance(effect, CallDispatched):
                effects += writer.answer(effect)  # what waited for it is dispatched in turn
        cut = any(isinstance(e, Notice) and e.code is NoticeCode.BLOCK_LIMIT for e in effects)
        count["cut"] += cut
        for effect in effects + writer.session.safe_point():
            match effect:
                case CallEmitted():
                    emitted[effect.index] = (effect, cut)
                    count["blocks"] += 1
                case CallDispatched():
                    check_dispatched(writer, effect)
                    count["dispatched"] += 1
                    count["with references"] += bool(emitted[effect.index][0].references)
                case InterruptCommitted(status=Status.ERROR, source=source, payload=payload):
                    error = json.loads(payload)
                    index = error.get("call")
                    call = next(
                        c for c in emitted.values() if c[0].index == index or (index is None and c[0].id == source)
                    )
                    count[judge(writer, *call, error)] += 1
    return count


def judge(writer: Writer, call: CallEmitted, cut: bool, error: dict[str, Any]) -> str:
    """Why a call was not run; some reasons no generated call may have."""
    kind, message = str(error["type"]), error["message"]
    open_keys = any(path.endswith("unique keys") for path in writer.constraint.unenforced)
    if kind == "syntax":
        assert cut or open_keys, (call.raw, message)
    elif kind == "invalid_arguments":
        assert writer.unenforced(call.function) or call.references or call.function == "cml.cancel", (call.raw, message)
    else:
        assert kind in ("dependency", "duplicate_id"), (call.raw, message)
    return "cut short" if cut and kind == "syntax" else kind


def play_sets(logits: RandomLogits, numbers: range) -> Counter[str]:
    total: Counter[str] = Counter()
    for number in numbers:
        for language in BodyLanguage:
            logits.random = type(logits.random)(type(logits.random.bit_generator)(number))
            total += play(Writer(logits, Maker(number).tools(), language, number))
    return total


def check_total(total: Counter[str], sets: int) -> None:
    """Enough of everything happened for the property to mean something."""
    assert total["blocks"] == sets * 2 * BLOCKS
    assert total["dispatched"] > total["blocks"] // 5, total
    if sets >= 100:
        assert total["with references"] > 0, total
        assert total["cut short"] > 0, total
        assert total["invalid_arguments"] > 0, total


@pytest.fixture(scope="module")
def bytes_logits() -> RandomLogits:
    return RandomLogits(ByteTokenizer())


@pytest.fixture(scope="module")
def smollm2_logits(smollm2_tokenizer: Any) -> RandomLogits:
    return RandomLogits(smollm2_tokenizer)


@pytest.fixture(scope="module")
def llama3_logits(llama3_tokenizer: Any) -> RandomLogits:
    return RandomLogits(llama3_tokenizer)


@pytest.mark.weights
@pytest.mark.parametrize("vocabulary", ["bytes", "smollm2"])
def test_some_tool_sets(vocabulary: str, request: pytest.FixtureRequest) -> None:
    """[SES-016], [CALL-021]."""
    check_total(play_sets(request.getfixturevalue(f"{vocabulary}_logits"), range(5)), 5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("vocabulary", "first"), [("bytes", 0), ("smollm2", 1), ("llama3", 2)])
def test_all_tool_sets(vocabulary: str, first: int, request: pytest.FixtureRequest) -> None:
    """[SES-016], [CALL-021]: 500 sets, each on one of three vocabularies, in both languages."""
    numbers = range(first, SETS, 3)
    check_total(play_sets(request.getfixturevalue(f"{vocabulary}_logits"), numbers), len(numbers))
