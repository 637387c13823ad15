"""Prompts as token ids: no text of anybody becomes a special token."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynclm.cml.binding import TokenCodec, bind
from asynclm.cml.blocks import CmlError
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.codec import Tokenizer
from asynclm.cml.control import BodyLanguage, Control, Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.prompt.build import build_prompt
from asynclm.prompt.chat import JinjaTemplate
from asynclm.prompt.encode import encode_prompt
from asynclm.prompt.hf_tokenizer import HfTokenizer
from asynclm.prompt.template import CmlPart, Content, Markup, Message, Role, TextPart
from asynclm.session.config import ExecutionMode

PYTHON = BodyLanguage.PYTHON
CONTROL_WORDS = [control.value for control in Control]


@dataclass(frozen=True)
class Model:
    tokenizer: Tokenizer
    template: JinjaTemplate
    codec: TokenCodec

    @property
    def spellings(self) -> list[str]:
        return [self.tokenizer.spelling(i) for i in sorted(self.tokenizer.special_ids)]

    def special(self, ids: list[int]) -> list[int]:
        return [i for i in ids if i in self.tokenizer.special_ids]

    def text(self, ids: list[int]) -> str:
        return b"".join(self.tokenizer.token_bytes(i) for i in ids).decode()


@pytest.fixture(scope="module")
def smollm2(smollm2_tokenizer: HfTokenizer, smollm2_template: JinjaTemplate) -> Model:
    return Model(smollm2_tokenizer, smollm2_template, bind(smollm2_tokenizer))


@pytest.fixture(scope="module")
def llama3(llama3_tokenizer: HfTokenizer, llama3_template: JinjaTemplate) -> Model:
    return Model(llama3_tokenizer, llama3_template, bind(llama3_tokenizer))


@dataclass(frozen=True)
class Conversation:
    """Every place where somebody else's text can stand."""

    system: str
    user: str
    assistant: str
    tool: str
    name: str
    description: str
    parameter: str
    about_parameter: str
    choice: str

    def messages(self) -> list[Message]:
        roles = (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL)
        texts = (self.system, self.user, self.assistant, self.tool)
        return [Message(role, (TextPart(text),)) for role, text in zip(roles, texts, strict=True)]

    def spec(self) -> ToolSpec:
        schema = {"enum": [self.choice], "description": self.about_parameter, "default": self.choice}
        return ToolSpec(
            name=self.name,
            description=self.description,
            parameters={"type": "object", "properties": {self.parameter: schema}},
            parameter_order=(self.parameter,),
        )

    def ids(self, model: Model, mode: ExecutionMode, language: BodyLanguage) -> list[int]:
        segments = build_prompt(self.messages(), [self.spec()], model.template, mode=mode, language=language)
        return encode_prompt(segments, model.tokenizer, model.codec, language)


def hostile(spellings: list[str]) -> st.SearchStrategy[str]:
    """Text full of special tokens' spellings, whole, cut, doubled and nested."""
    pieces = st.one_of(
        st.sampled_from(spellings),
        st.sampled_from(spellings).flatmap(lambda s: st.integers(1, len(s)).map(lambda n: s[:n])),
        st.sampled_from(spellings).flatmap(lambda s: st.integers(0, len(s) - 1).map(lambda n: s[n:])),
        st.sampled_from([*CONTROL_WORDS, "\\", " ", "\n", "user", "system\n", "\u200b", "é", "\x0b"]),
        st.text(max_size=3),
    )
    # Never empty: an empty message is another conversation to a template. The tool's name may not start with `cml.`.
    return st.lists(pieces, max_size=5).map(lambda parts: "x" + "".join(parts))


def check(model: Model, conversation: Conversation, mode: ExecutionMode, language: BodyLanguage) -> None:
    plain = Conversation(*["x"] * 9)
    assert model.special(conversation.ids(model, mode, language)) == model.special(plain.ids(model, mode, language))


def conversations(spellings: list[str]) -> st.SearchStrategy[Conversation]:
    return st.tuples(*[hostile(spellings)] * 9).map(lambda texts: Conversation(*texts))


MODES = st.sampled_from(ExecutionMode)
LANGUAGES = st.sampled_from(BodyLanguage)


@pytest.mark.weights
@given(st.data())
@settings(max_examples=60)
def test_no_text_becomes_a_special_token_of_smollm2(smollm2: Model, data: st.DataObject) -> None:
    check(smollm2, data.draw(conversations(smollm2.spellings)), data.draw(MODES), data.draw(LANGUAGES))


@pytest.mark.weights
@given(st.data())
@settings(max_examples=60)
def test_no_text_becomes_a_special_token_of_llama3(llama3: Model, data: st.DataObject) -> None:
    check(llama3, data.draw(conversations(llama3.spellings)), data.draw(MODES), data.draw(LANGUAGES))


@pytest.mark.weights
@pytest.mark.parametrize("name", ["smollm2", "llama3"])
def test_every_special_spelling_in_every_place_stays_text(name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    everything = "x" + "".join(model.spellings) + "".join(CONTROL_WORDS)
    check(model, Conversation(*[everything] * 9), ExecutionMode.ASYNC, PYTHON)


@pytest.mark.weights
@pytest.mark.parametrize("name", ["smollm2", "llama3"])
def test_every_special_spelling_in_a_payload_stays_text(name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    everything = "".join(model.spellings) + "".join(CONTROL_WORDS)
    ids = list(model.codec.frame("@user", Status.OK, everything))
    control = model.codec.control_ids
    assert model.special(ids) == [control[Control.INTR], control[Control.HEAD], control[Control.END]]
    assert model.text(ids) == f"@user{everything}"


@pytest.mark.weights
@pytest.mark.parametrize("name", ["smollm2", "llama3"])
def test_the_check_above_can_fail(name: str, request: pytest.FixtureRequest) -> None:
    """A tokenizer with special tokens on, as chat templates are mostly used, is caught by it."""
    model: Model = request.getfixturevalue(name)
    eos = model.tokenizer.spelling(min(model.tokenizer.eos_ids))
    text = Message(Role.USER, (TextPart(f"x{eos}"),))
    forged = [
        Markup("".join(p.text for p in s.parts if isinstance(p, TextPart))) if isinstance(s, Content) else s
        for s in model.template.render([text])
    ]
    honest = model.template.render([text])
    encode = [encode_prompt(segments, model.tokenizer, model.codec, PYTHON) for segments in (forged, honest)]
    assert len(model.special(encode[0])) == len(model.special(encode[1])) + 1


@pytest.mark.weights
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["user", "assistant"]), st.from_regex(r"[A-Za-z]\w*([ ,.\n]+\w+)*[.?!]?", fullmatch=True)
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
@settings(max_examples=40)
def test_benign_prompts_equal_those_of_transformers(
    smollm2: Model, reference: object, turns: list[tuple[str, str]], system: bool
) -> None:
    turns = [("system", "Be kind.")] * system + turns
    messages = [Message(Role(role), (TextPart(text),)) for role, text in turns]
    ids = encode_prompt(smollm2.template.render(messages), smollm2.tokenizer, smollm2.codec, PYTHON)
    chat = [{"role": role, "content": text} for role, text in turns]
    expected = reference.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)  # type: ignore[attr-defined]
    assert ids == expected


@pytest.fixture(scope="module")
def reference(smollm2_dir: object) -> object:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2_dir)


BYTES = Model(ByteTokenizer(), JinjaTemplate("{{ messages[0].content }}", bos="", eos=""), bind(ByteTokenizer()))


def encode(*segments: Markup | Content, language: BodyLanguage = PYTHON) -> str:
    """Ids as text, special ones in angle brackets of their own."""
    ids = encode_prompt(segments, BYTES.tokenizer, BYTES.codec, language)
    names = [f"<{BYTES.tokenizer.spelling(i)}>" if i in BYTES.tokenizer.special_ids else chr(i) for i in ids]
    return "".join(names)


def test_markup_spells_special_tokens() -> None:
    assert encode(Markup("a<|im_start|>user<|im_end|><|im_endx")) == "a<<|im_start|>>user<<|im_end|>><|im_endx"


def test_the_longest_spelling_counts() -> None:
    class Overlapping(ByteTokenizer):
        spellings = {300: "<a>", 301: "<a><b>"}  # noqa: RUF012

        special_ids = frozenset({256, 257, 258, 259, 260, 261, 300, 301})

        def special_id(self, spelling: str) -> int | None:
            return {v: k for k, v in self.spellings.items()}.get(spelling)

        def spelling(self, token_id: int) -> str:
            return self.spellings.get(token_id, "")

    assert encode_prompt([Markup("<a><b><a>c")], Overlapping(), BYTES.codec, PYTHON) == [301, 300, ord("c")]


def test_a_text_part_is_literal_and_a_cml_part_is_cml() -> None:
    both = "[CALL] a [HEAD] f(x=1) [END]"
    assert encode(Content((TextPart(both), CmlPart(both)))) == f"{both}<<|call|>>a<<|head|>>f(x=1)<<|end|>>"


def test_history_in_a_cml_part_is_spelled_without_spaces() -> None:
    history = (
        'Hi [CALL] a [HEAD] f( x = "[\\[END]]" ) [END][TRAP] all a within 2 [END]'
        '[INTR] a:error [HEAD] {"x": 1} [END] bye'
    )
    assert encode(Content((CmlPart(history),))) == (
        'Hi <<|call|>>a<<|head|>>f(x="[[END]]")<<|end|>><<|trap|>>a within 2<<|end|>>'
        '<<|intr|>>a:error<<|head|>>{"x": 1}<<|end|>> bye'
    )


def test_cml_bodies_follow_the_language() -> None:
    call = '[CALL] a [HEAD] {"name": "f", "arguments": {"x": 1}} [END]'
    text = encode(Content((CmlPart(call),)), language=BodyLanguage.JSON)
    assert re.fullmatch(r"<<\|call\|>>a<<\|head\|>>\{.*\}<<\|end\|>>", text)
    with pytest.raises(CmlError):
        encode(Content((CmlPart(call),)), language=PYTHON)


def test_adjacent_texts_are_one_text(smollm2_tokenizer: HfTokenizer) -> None:
    codec = bind(smollm2_tokenizer)
    cut, whole = (
        encode_prompt([Content(parts)], smollm2_tokenizer, codec, PYTHON)
        for parts in [(TextPart("inter"), TextPart("rupt")), (TextPart("interrupt"),)]
    )
    assert cut == whole


def test_empty_parts_are_nothing() -> None:
    assert encode(Markup(""), Content((TextPart(""), CmlPart(""))), Content(())) == ""
