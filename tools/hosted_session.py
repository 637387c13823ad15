"""Records `adapters/docs/session.md`: a session on a chat API, as its client sees it, and the requests that it made.

    python tools/hosted_session.py            writes the page
    python tools/hosted_session.py --check    exit status 1 if the page is not what a run gives

The server, the adapter and the client are the real ones; the endpoint is `asynclm mock-openai`'s, with a model that
reads its messages. Nothing in the page depends on how fast anything is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from asynclm.client import (
    AsyncLM,
    CallDispatched,
    Finished,
    InterruptAccepted,
    InterruptCommitted,
    Session,
    Tokens,
    Tool,
    TrapEntered,
    tool,
)
from asynclm.server.app import Server
from asynclm.server.options import ServerOptions
from asynclm_adapters.openai_chat import open_engine
from asynclm_adapters.openai_mock.messages import Message
from asynclm_adapters.openai_mock.pieces import Delta, Piece, Stall
from asynclm_adapters.openai_mock.request import ChatRequest
from asynclm_adapters.openai_mock.server import MockOpenAI

PAGE = Path(__file__).resolve().parent.parent / "adapters" / "docs" / "session.md"
QUESTION = "Find a flight from Oslo to Turin on Friday and hold a window seat on it. What is the weather in Turin?"
LATER = "An aisle seat is fine, too."
INTRODUCTION = """\
Recorded by `python tools/hosted_session.py`, and compared with a run in every test: the real server, adapter and client
on `asynclm mock-openai`, with `delivery="lazy"`. The seat is held by a future: the flight's number need not reach
the model first; all three results come in one request; then a person interrupts the answer."""
CUE = " so"
"""Behind this word the person speaks, and the model goes on only in the next request."""


class Office:
    """Three tools that end in an order of their own: behind the trap, and each behind what went before."""

    def __init__(self) -> None:
        self.trapped = asyncio.Event()
        self.two_are_there = asyncio.Event()

    def tools(self) -> list[Tool]:
        """The tools."""

        @tool(expected_duration_ms=400)
        async def find_flight(origin: str, destination: str, day: str) -> dict[str, str]:
            """Finds a flight."""
            await self.trapped.wait()
            return {"number": "DY 1870"}

        @tool(expected_duration_ms=200)
        async def hold_seat(flight: str, kind: str) -> dict[str, str]:
            """Holds a seat on a flight."""
            return {"seat": "11A", "flight": flight}

        @tool(expected_duration_ms=100)
        async def weather(city: str) -> str:
            """Tells the weather in a city."""
            await self.two_are_there.wait()
            return "9 degrees and rain"

        return [find_flight, hold_seat, weather]


class Travelling:
    """Calls what is needed, with a future for the flight, and answers what it is told."""

    async def reply(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """What is said next."""
        shown = "".join(message.content for message in request.messages if message.role == "tool")
        if LATER in shown:
            for word in (" it is yours", " until noon."):
                yield Delta(word)
        elif "[INTR] seat" in shown:
            for word in ("Seat 11A", " on DY 1870", " is held;", " Turin has 9 degrees", " and rain,", CUE):
                yield Delta(word)
            yield Stall()
        else:
            yield Delta('[CALL] flight [HEAD] find_flight(origin="Oslo", destination="Turin", day="Friday") [END]')
            yield Delta('[CALL] seat [HEAD] hold_seat(flight=flight.number, kind="window") [END]')
            yield Delta('[CALL] sky [HEAD] weather(city="Turin") [END]')
            yield Delta("I am on it. [TRAP] all [END]")


async def record() -> str:
    """Runs the session and writes the page."""
    async with MockOpenAI(models={"gpt-4o": Travelling()}) as mock:
        engine = open_engine("gpt-4o", base_url=mock.base_url, api_key="any")
        async with Server(engine, ServerOptions(port=0)) as server, AsyncLM(server.address) as llm:
            office = Office()
            async with llm.session(QUESTION, tools=office.tools(), delivery="lazy") as session:
                seen = await _seen(session, office)
        requests = [record.messages for record in mock.log.records]
    return _page(seen, requests)


async def _seen(session: Session, office: Office) -> list[str]:
    """What a client sees, a line each."""
    lines: list[str] = []
    said = ""
    accepted = 0
    async for event in session:
        match event.report:
            case Tokens(text=text, in_block=None):
                said += text
                if said.endswith(CUE):
                    await session.interrupt(LATER)
                continue
            case InterruptAccepted():
                accepted += 1
                if accepted == 2:
                    office.two_are_there.set()
                continue
            case CallDispatched(id=name, function=function, arguments=arguments):
                line = f"call      {name}: {function} {arguments}"
            case TrapEntered():
                line = "trap      waits"
                office.trapped.set()
            case InterruptCommitted(source=source, payload=payload):
                line = f"interrupt {source}: {payload}"
            case Finished(reason=reason, hosted=hosted) if hosted is not None:
                line = f"finished  {reason.name}, after {hosted.requests} requests"
            case _:
                continue
        lines += [f"text      {said.strip()}"] if said else []
        lines.append(line)
        said = ""
    return lines


def _page(seen: Sequence[str], requests: Sequence[Sequence[Message]]) -> str:
    parts = [
        "# A session, and the requests that it made",
        INTRODUCTION,
        "## What the client sees",
        "```\n" + "\n".join(seen) + "\n```",
        "## What the endpoint is sent",
        "Each request has all messages; of the second and third, those that are new are shown.",
    ]
    known = 0
    for number, messages in enumerate(requests, 1):
        parts.append(f"### Request {number}")
        parts += [_message(message) for message in messages[known:]]
        known = len(messages)
    return "\n\n".join(parts) + "\n"


def _message(message: Message) -> str:
    about = [f"**{message.role}**"]
    about += [f"calls `{call.name}({call.arguments})`, id `{call.id}`" for call in message.tool_calls]
    about += [f"answers `{message.tool_call_id}`"] if message.tool_call_id else []
    content = f"\n\n````text\n{message.content}\n````" if message.content else ""
    return ", ".join(about) + content


def main() -> int:
    """Writes the page, or compares it."""
    parser = argparse.ArgumentParser(description="Record a session on a chat API.")
    parser.add_argument("--check", action="store_true", help="compare with what is there, and write nothing")
    page = asyncio.run(record())
    if parser.parse_args().check:
        return 0 if PAGE.read_text(encoding="utf-8") == page else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
