"""The thread that speaks to the endpoint: one event loop, one client, for all sessions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

from openai import AsyncOpenAI

from asynclm_adapters.openai_chat.options import OpenAIOptions


class Upstream:
    """An endpoint, and the thread on which it is spoken to.

    Raises:
        openai.OpenAIError: there is no key.
    """

    def __init__(self, options: OpenAIOptions) -> None:
        self.options = options
        self.client = AsyncOpenAI(
            api_key=options.api_key,
            base_url=options.base_url,
            max_retries=0,  # sessions try again themselves: they know what was heard, and count what it costs
            timeout=options.first_token_s,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asynclm-upstream", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        """Starts something on the thread; the future can be cancelled from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Ends the thread and the client; requests that run are cancelled."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.client.close()
