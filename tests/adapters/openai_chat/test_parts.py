"""What the adapter is made of: cutting, transcripts, scripts in the text form, settings."""

from __future__ import annotations

import dataclasses
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynclm.cml.control import Control, Status
from asynclm.cml.text_form import TextFormDecoder, escape
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptText
from asynclm.prompt.template import CmlPart, Message, Role, TextPart
from asynclm.session.effects import InterruptCommitted
from asynclm_adapters.openai_chat import open_engine
from asynclm_adapters.openai_chat.cost import RequestCost, total
from asynclm_adapters.openai_chat.cutting import Cutter
from asynclm_adapters.openai_chat.options import InterruptRole, OpenAIOptions
from asynclm_adapters.openai_chat.retrying import passes, wait_s
from asynclm_adapters.openai_chat.script import _spelled
from asynclm_adapters.openai_chat.transcript import DELIVER, Transcript

WORDS = st.sampled_from([*(control.value for control in Control), "[", "]", "[E", "ND]", "\\", "a", " ", "é"])
TEXTS = st.lists(WORDS, max_size=12).map("".join)


@given(TEXTS, st.data())
def test_pieces_are_the_text_and_nothing_stands_behind_a_control_word(text: str, data: st.DataObject) -> None:
    cutter, pieces, rest = Cutter(), [], text
    while rest:
        length = data.draw(st.integers(1, len(rest)))
        pieces += cutter.cut(rest[:length])
        rest = rest[length:]
    assert "".join(pieces) == text
    decoder = TextFormDecoder()
    for piece in pieces:
        items = decoder.feed_text(piece)
        assert all(isinstance(item, str) for item in items[:-1])


@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=5), st.booleans())
def test_texts_of_a_script_stay_text_wherever_they_are_parted(texts: list[str], token_follows: bool) -> None:
    last = ScriptControl(Control.TRAP) if token_follows else ScriptEnd()
    spelled = _spelled([*map(ScriptText, texts), last])
    assert len(spelled) == len(texts) + 1
    decoder = TextFormDecoder()
    items = [item for part in spelled for item in decoder.feed_text(part)]
    items.append(decoder.flush())
    controls = [item for item in items if not isinstance(item, str)]
    assert controls == ([Control.TRAP] if token_follows else [])
    assert "".join(item for item in items if isinstance(item, str)) == "".join(texts)


def committed(source: str, payload: str, status: Status = Status.OK) -> InterruptCommitted:
    return InterruptCommitted(token_index=0, number=0, source=source, status=status, payload=payload, ids=())


PROMPT = (
    Message(Role.SYSTEM, (TextPart("Write [CALL] as it is. "), CmlPart("[TRAP] [END]"))),
    Message(Role.USER, (TextPart("Hi"),)),
)


def test_the_prompt_is_in_the_text_form() -> None:
    messages = Transcript(PROMPT, InterruptRole.TOOL).request()
    assert messages == [
        {"role": "system", "content": r"Write \[CALL] as it is. [TRAP] [END]"},
        {"role": "user", "content": "Hi"},
    ]


def test_an_interrupt_is_a_call_and_its_result_behind_what_was_said() -> None:
    transcript = Transcript(PROMPT, InterruptRole.TOOL)
    assert not transcript.uses_tools
    transcript.say("Looking. ")
    transcript.interrupt([committed("a", "[1]"), committed("@user", "hurry [END]")])
    transcript.say("So")
    *_, assistant, tool, rest = transcript.request()
    assert assistant["content"] == "Looking. "
    (call,) = assistant["tool_calls"]
    assert call["function"]["name"] == DELIVER
    assert tool["tool_call_id"] == call["id"]
    assert tool["content"] == r"[INTR] a [HEAD] [1] [END][INTR] @user [HEAD] hurry \[END] [END]"
    assert rest == {"role": "assistant", "content": "So"}
    assert transcript.uses_tools


@pytest.mark.parametrize("role", [InterruptRole.DEVELOPER, InterruptRole.USER])
def test_an_interrupt_can_be_a_message(role: InterruptRole) -> None:
    transcript = Transcript(PROMPT, role)
    transcript.interrupt([committed("a", "[1]", Status.ERROR)])
    assert transcript.request()[-1] == {"role": role.value, "content": "[INTR] a:error [HEAD] [1] [END]"}
    assert not transcript.uses_tools
    transcript.say("So")
    transcript.interrupt([committed("b", "2")])
    assert [message["role"] for message in transcript.request()[-3:]] == [role.value, "assistant", role.value]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"model": ""}, "model is empty"),
        ({"retries": -1}, "retries is -1"),
        ({"stall_s": 0.0}, "stall_s is 0"),
        ({"max_sequences": 0}, "max_sequences is 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OpenAIOptions(**setting)


def test_presets_know_their_context() -> None:
    assert OpenAIOptions(model="gpt-4o-mini").tokens == 128_000
    assert OpenAIOptions(model="mine").tokens == 32_768
    assert OpenAIOptions(model="mine", context_length=9).tokens == 9


def test_no_key_and_an_unknown_role_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="set OPENAI_API_KEY"):
        open_engine()
    with pytest.raises(ValueError, match="allowed: tool, developer, user"):
        open_engine(api_key="any", interrupt_role="oracle")


def test_escaping_is_the_projects_own() -> None:
    assert escape("[END]") == r"\[END]"


@dataclasses.dataclass
class Response:
    """As much of a response as an error looks at."""

    status_code: int
    headers: dict[str, str]
    request: Any = None


def rate_limited(headers: dict[str, str], message: str = "no") -> openai.RateLimitError:
    return openai.RateLimitError(message, response=Response(429, headers), body=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "message", "waits"),
    [
        ({"retry-after": "2"}, "no", 2.0),
        ({"retry-after": "2", "retry-after-ms": "1500"}, "no", 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, "no", 10.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:40 GMT"}, "no", 0.0),
        ({"retry-after": "soon"}, "no", 0.75),
        ({"retry-after": "3600"}, "no", None),
        ({}, "Rate limit reached. Please try again in 20ms.", 0.02),
        ({}, "Rate limit reached. Please try again in 1.5s.", 1.5),
        ({}, "no", 0.75),
    ],
)
def test_the_wait_is_the_one_that_the_endpoint_asks_for(
    headers: dict[str, str], message: str, waits: float | None
) -> None:
    found = wait_s(rate_limited(headers, message), 0, backoff_s=0.75, now_s=90.0)
    assert found == (None if waits is None else pytest.approx(waits))


def test_the_wait_doubles_up_to_a_bound() -> None:
    waits = [wait_s(rate_limited({}), attempt, backoff_s=0.5, now_s=0.0) for attempt in range(7)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_what_no_second_try_can_change_is_not_tried_again() -> None:
    assert passes(rate_limited({}))
    spent = rate_limited({})
    spent.code = "insufficient_quota"
    assert not passes(spent)


@given(st.integers(0, 500), st.integers(0, 500), st.none() | st.tuples(*[st.integers(0, 99)] * 3))
def test_what_was_discarded_is_part_of_what_was_received(
    received: int, kept: int, said: tuple[int, int, int] | None
) -> None:
    discarded = max(0, received - kept)
    cost = RequestCost(received_characters=received, discarded_characters=discarded, told=said)
    bill = total([cost, RequestCost()])
    assert 0 <= bill.discarded_tokens <= bill.completion_tokens
    assert bill.requests == 2
    assert bill.estimated_requests == (1 if said else 2)
