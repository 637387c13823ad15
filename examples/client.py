"""Asks a question while a tool runs on this side: `python examples/client.py localhost:50151 "How is Bern today?"`."""

import asyncio
import sys

from asynclm.client import AsyncLM, CallDispatched, InterruptCommitted, Tokens, tool


@tool(expected_duration_ms=200)
async def weather(city: str) -> str:
    """Tells the weather in a city."""
    await asyncio.sleep(0.2)
    return f"21 degrees and sunny in {city}"


async def main(target: str, question: str, model: str | None = None) -> None:
    async with AsyncLM(target) as llm, llm.session(question, tools=[weather], model=model) as session:
        async for event in session:
            match event.report:
                case Tokens(text=text, in_block=None):
                    print(text, end="", flush=True)
                case CallDispatched(function=function, arguments=arguments):
                    print(f"\n-> {function} {arguments}")
                case InterruptCommitted(source=source, payload=payload):
                    print(f"\n<- {source}: {payload}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
