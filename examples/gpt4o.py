"""GPT-4o, and a tool that runs while it writes: `OPENAI_API_KEY=… python examples/gpt4o.py "How is Bern today?"`."""

import asyncio
import sys

from asynclm.client import AsyncLM, tool
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm_adapters.openai_chat import open_engine


@tool(expected_duration_ms=300)
async def weather(city: str) -> str:
    """Tells the weather in a city."""
    await asyncio.sleep(0.3)
    return f"21 degrees and sunny in {city}"


async def main(question: str) -> None:
    engine = open_engine("gpt-4o")  # the key is in OPENAI_API_KEY; OPENAI_BASE_URL names another endpoint
    async with Server(engine, ServerOptions(port=0)) as server, AsyncLM(server.address) as llm:
        session = llm.session(question, tools=[weather], delivery="lazy")
        async for text in session.texts():
            print(text, end="", flush=True)
        print(f"\n{(await session.result()).finished.hosted}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
