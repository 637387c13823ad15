"""The adapter as a target of the conformance suite: `python -m tests.adapters.openai_chat.target --port N`.

An endpoint that plays scripts, and the server with the adapter before it, in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm.tools import load_tools
from asynclm_adapters.openai_chat import open_engine
from asynclm_adapters.openai_mock.server import MockOpenAI, MockOptions

TOOLS = Path(__file__).parents[3] / "examples" / "tools_conformance.py"


async def serve(port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with MockOpenAI(MockOptions()) as mock:
        engine = open_engine(base_url=mock.base_url, api_key="any", upstream_scripts=True)
        server = Server(engine, ServerOptions(port=port), load_tools(str(TOOLS)))
        await server.start()
        await stopped.wait()
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
