"""The server in the test's own event loop, and the real client on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI
from tests.adapters.openai_mock.talking import Load

from asynclm_adapters.openai_mock.script_json import read_script
from asynclm_adapters.openai_mock.server import MockOpenAI


@pytest.fixture
async def mock() -> AsyncIterator[MockOpenAI]:
    async with MockOpenAI() as server:
        yield server


@pytest.fixture
async def client(mock: MockOpenAI) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as opened:
        yield opened


@pytest.fixture
async def http(mock: MockOpenAI) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=mock.url, headers={"authorization": "Bearer any"}) as opened:
        yield opened


@pytest.fixture
def load(mock: MockOpenAI) -> Load:
    def put(*pieces: Any, ignore_stop: bool = False) -> str:
        mock.scripts.load(read_script("s", {"pieces": list(pieces), "ignore_stop": ignore_stop}))
        return "script:s"

    return put
