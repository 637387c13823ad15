"""Scripts over HTTP: positions are kept, sessions are apart, and what a client discards is played again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, AsyncOpenAI
from tests.adapters.openai_mock.talking import MESSAGES, Load, open_stream, read_text, said

from asynclm_adapters.openai_mock.clock import ManualClock
from asynclm_adapters.openai_mock.script_json import read_script
from asynclm_adapters.openai_mock.server import MockOpenAI, MockOptions

POSITION = "/admin/scripts/s/position"


async def keep(http: httpx2.AsyncClient, characters: int, session: str = "") -> dict[str, Any]:
    response = await http.post(POSITION, json={"characters": characters, "session": session})
    assert response.status_code == 200, response.text
    position: dict[str, Any] = response.json()
    return position


async def test_a_script_loaded_over_http(client: AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    response = await http.post("/admin/scripts/a.b-c_1", json={"pieces": ["One", {"finish": "stop"}, " two"]})
    assert response.json() == {"id": "a.b-c_1", "pieces": 3}
    assert [await said(client, "script:a.b-c_1") for _ in range(3)] == [("One", "stop"), (" two", "stop"), ("", "stop")]


@pytest.mark.parametrize(
    ("script_id", "body", "message"),
    [
        ("a%20b", {"pieces": []}, "script id 'a b': allowed are"),
        ("a", {}, "Missing required parameter: 'pieces'"),
        ("a", {"pieces": [3]}, "'pieces[0]': expected a string or an object"),
        ("a", {"pieces": [{}]}, "'pieces[0]': it has to have exactly one of error, finish, raw, drop"),
        ("a", {"pieces": [{"drop": True, "stall": True}]}, "exactly one of"),
        ("a", {"pieces": [{"drop": False}]}, "'pieces[0].drop': false; allowed: true"),
        ("a", {"pieces": ["x", {"error": 200}]}, "'pieces[1].error': 200; allowed: 400 to 599"),
        ("a", {"pieces": [{"error": 429, "retry_after": -1}]}, "allowed: 0 or more"),
        ("a", {"pieces": [{"finish": "now"}]}, "Supported values are: 'stop', 'length', 'content_filter'"),
        ("a", {"pieces": [{"error": 429, "retry": 1}]}, "Unknown parameter: 'pieces[0].retry'"),
        ("a", {"pieces": [], "loop": True}, "Unknown parameter: 'loop'. Allowed: pieces, ignore_stop"),
    ],
)
async def test_a_script_that_cannot_be(
    http: httpx2.AsyncClient, script_id: str, body: dict[str, Any], message: str
) -> None:
    response = await http.post(f"/admin/scripts/{script_id}", json=body)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


async def test_each_session_has_a_play_of_its_own(client: AsyncOpenAI, load: Load) -> None:
    model = load("One", {"finish": "stop"}, " two")
    in_a = {"extra_headers": {"X-Session": "a"}}
    assert await said(client, model, **in_a) == ("One", "stop")
    assert await said(client, model, user="b") == ("One", "stop")
    assert await said(client, model) == ("One", "stop")
    assert await said(client, model, user="b", **in_a) == (" two", "stop")
    assert await said(client, model, user="b") == (" two", "stop")


async def test_a_replaced_script_is_for_plays_that_begin_later(client: AsyncOpenAI, load: Load) -> None:
    model = load("One", {"finish": "stop"}, " two")
    assert await said(client, model, user="a") == ("One", "stop")
    assert await said(client, model) == ("One", "stop")
    load("New")
    assert await said(client, model, user="a") == (" two", "stop")
    assert await said(client, model, user="b") == ("New", "stop")
    assert await said(client, model) == ("New", "stop")


async def test_discarded_text_and_ends_are_played_again(
    client: AsyncOpenAI, http: httpx2.AsyncClient, load: Load
) -> None:
    model = load("One", " two", {"finish": "length"}, " three")
    assert await said(client, model) == ("One two", "length")
    assert await keep(http, 5) == {"characters": 5, "pieces_done": 1, "pieces": 4}
    assert await said(client, model) == ("wo", "length")
    assert await keep(http, 7) == {"characters": 7, "pieces_done": 2, "pieces": 4}
    assert await said(client, model) == ("", "length")
    assert await said(client, model) == (" three", "stop")
    assert await keep(http, 13) == {"characters": 13, "pieces_done": 4, "pieces": 4}
    assert await said(client, model) == ("", "stop")
    assert await keep(http, 0) == {"characters": 0, "pieces_done": 0, "pieces": 4}
    assert await said(client, model) == ("One two", "length")


async def test_a_fault_happens_once(client: AsyncOpenAI, http: httpx2.AsyncClient, load: Load) -> None:
    model = load("One", {"empty_choices": True}, " two")
    await said(client, model)
    await keep(http, 2)
    chunks = [chunk async for chunk in await open_stream(client, model)]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "e", " two", None]


async def test_a_position_that_cannot_be(client: AsyncOpenAI, http: httpx2.AsyncClient, load: Load) -> None:
    await said(client, load("One", {"finish": "stop"}, " two"))
    for characters in (-1, 4):
        response = await http.post(POSITION, json={"characters": characters})
        assert response.status_code == 400
        assert f"'characters': {characters}; allowed: 0 to 3" in response.json()["error"]["message"]
    assert (await http.post("/admin/scripts/none/position", json={"characters": 0})).status_code == 404
    assert (await http.get(POSITION)).json()["characters"] == 3
    assert (await http.get(POSITION, params={"session": "new"})).json()["characters"] == 0


@pytest.fixture
async def paced() -> AsyncIterator[tuple[MockOpenAI, AsyncOpenAI, ManualClock]]:
    """A server with the script "One", " two", " three" whose second delta of a request waits for the clock."""
    clock = ManualClock()
    async with (
        MockOpenAI(MockOptions(tpot_ms=10), clock=clock) as mock,
        AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client,
    ):
        mock.scripts.load(read_script("s", {"pieces": ["One", " two", " three"]}))
        yield mock, client, clock


async def test_an_older_reply_is_cut_where_a_later_request_plays_on(
    paced: tuple[MockOpenAI, AsyncOpenAI, ManualClock],
) -> None:
    mock, client, clock = paced
    older = await open_stream(client, "script:s")
    await read_text(older, 3)
    await clock.next_deadline()
    later = await open_stream(client, "script:s")
    await read_text(later, 4)
    clock.advance(1)
    await read_text(later, 6)
    assert (await anext(later)).choices[0].finish_reason == "stop"
    with pytest.raises(APIConnectionError):
        await read_text(older, 100)
    await mock.log.idle()
    assert [(r.text, r.dropped, r.finish_reason) for r in mock.log.records] == [
        ("One two", True, None),
        (" two three", False, "stop"),
    ]


async def test_an_older_reply_is_cut_where_its_play_was_moved(
    paced: tuple[MockOpenAI, AsyncOpenAI, ManualClock],
) -> None:
    mock, client, clock = paced
    older = await open_stream(client, "script:s")
    await read_text(older, 3)
    await clock.next_deadline()
    async with httpx2.AsyncClient(base_url=mock.url) as http:
        await keep(http, 1)
    clock.advance(1)
    await mock.log.idle()
    assert mock.log.records[0].dropped
    later = await open_stream(client, "script:s")
    await read_text(later, 2)
    await clock.next_deadline()
    clock.advance(1)
    await read_text(later, 10)
    assert mock.log.records[1].text == "ne two three"


async def test_records_and_starting_over(client: AsyncOpenAI, http: httpx2.AsyncClient, load: Load) -> None:
    model = load("One", " two")
    await said(client, model, user="a")
    records = (await http.get("/admin/requests")).json()["requests"]
    assert len(records) == 1
    assert records[0]["messages"][0]["content"] == MESSAGES[0]["content"]
    assert {name: records[0][name] for name in ("session", "status", "tokens", "text", "closed_early", "open")} == {
        "session": "a",
        "status": 200,
        "tokens": 2,
        "text": "One two",
        "closed_early": False,
        "open": False,
    }
    assert records[0]["first_token_s"] >= 0
    await http.post("/admin/reset")
    assert (await http.get("/admin/requests")).json() == {"requests": []}
    assert (await http.get(POSITION)).status_code == 404
