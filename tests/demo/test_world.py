"""The demonstration's files and tools: real files, real SMTP, delays that no test waits for."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from asynclm.cml.control import BodyLanguage, Status
from asynclm.demo.mail import MailServer, send
from asynclm.demo.network import TYPICAL_MS, Network
from asynclm.demo.task import load_task
from asynclm.demo.tools import SENDER, demo_tools, extract_text, look_up_chair, read_people
from asynclm.demo.world import ATTENDEES_FILE, DIRECTORY_FILE, PAGE_FILE, World, build_world
from asynclm.prompt.instructions import longest_first, tool_section
from asynclm.tools import ToolCall, ToolError, ToolExecutor, ToolUpdate


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def mail(server: MailServer) -> MailServer:
    server.clear()
    return server


async def run(world: World, mail: MailServer, function: str, network: Network | None = None, **arguments: Any) -> Any:
    """Runs one tool as a server does."""
    updates: list[ToolUpdate] = []
    over = asyncio.Event()

    def listen(update: ToolUpdate) -> None:
        updates.append(update)
        over.set()

    tools = demo_tools(world.folder, (mail.host, mail.port), network or Network.none())
    executor = ToolExecutor(tools, on_update=listen)
    executor.submit(ToolCall(session_id="s", index=0, function=function, arguments_json=json.dumps(arguments)))
    await over.wait()
    await executor.aclose()
    payload = json.loads(updates[0].payload)
    assert (updates[0].status is Status.ERROR) == (set(payload) == {"type", "message", "retryable"})
    return payload


async def test_read_page(world: World, mail: MailServer) -> None:
    page = await run(world, mail, "read_page", path=PAGE_FILE)
    assert page == {"title": world.page.title, "text": "\n".join(world.page.paragraphs)}


async def test_read_attendees(world: World, mail: MailServer) -> None:
    found = await run(world, mail, "read_attendees", path=ATTENDEES_FILE)
    assert found["emails"] == [person.email for person in world.attendees]
    assert found["names"] == [person.name for person in world.attendees]


async def test_find_chair(world: World, mail: MailServer) -> None:
    for department, chair in world.chairs.items():
        found = await run(world, mail, "find_chair", department=department.upper())
        assert found == {"name": chair.name, "email": chair.email, "department": department}


async def test_send_mail(world: World, mail: MailServer) -> None:
    body = "Grüße,\n.\n\nFrom here on:\n" + "x" * 2000
    arguments = {"to": ["a@guests.example", "b@guests.example"], "cc": "c@university.example"}
    sent = await run(world, mail, "send_mail", subject="Übersicht ☃", body=body, **arguments)
    [delivered] = mail.delivered
    assert sent == {"message_id": delivered.message["Message-ID"], "recipients": 3}
    assert delivered.sender == SENDER
    assert delivered.recipients == ("a@guests.example", "b@guests.example", "c@university.example")
    assert delivered.message["To"] == "a@guests.example, b@guests.example"
    assert delivered.message["Cc"] == "c@university.example"
    assert (delivered.subject, delivered.body) == ("Übersicht ☃", body + "\n")


async def test_mail_without_a_copy(world: World, mail: MailServer) -> None:
    await run(world, mail, "send_mail", to=["a@guests.example"], subject="s", body="b")
    assert "Cc" not in mail.delivered[0].message


@pytest.mark.parametrize(
    ("function", "arguments", "type"),
    [
        ("read_page", {"path": "none.html"}, "not_found"),
        ("read_page", {"path": "../../etc/passwd"}, "not_found"),
        ("read_page", {"path": "/etc/passwd"}, "not_found"),
        ("read_attendees", {"path": "none.xlsx"}, "not_found"),
        ("read_attendees", {"path": PAGE_FILE}, "not_readable"),
        ("read_attendees", {"path": DIRECTORY_FILE}, "not_readable"),
        ("find_chair", {"department": "Alchemy"}, "not_found"),
        ("send_mail", {"to": [], "subject": "s", "body": "b"}, "invalid_arguments"),
        ("send_mail", {"to": ["nobody"], "subject": "s", "body": "b"}, "invalid_arguments"),
        ("send_mail", {"to": ["a@b, c@d"], "subject": "s", "body": "b"}, "invalid_arguments"),
        ("send_mail", {"to": ["a@b.example"], "subject": "s\nBcc: x@y", "body": "b"}, "invalid_header"),
        ("send_mail", {"to": ["a@b.example"], "subject": "s", "body": "b" * (2 << 20)}, "refused"),
    ],
)
async def test_faults_are_data(
    world: World, mail: MailServer, function: str, arguments: dict[str, Any], type: str
) -> None:
    assert (await run(world, mail, function, **arguments))["type"] == type
    assert mail.delivered == ()


async def test_a_mail_server_that_is_gone_is_worth_another_try(world: World) -> None:
    gone = MailServer()
    gone.close()
    gone.close()
    payload = await run(world, gone, "send_mail", to=["a@b.example"], subject="s", body="b")
    assert payload["retryable"] is True


async def test_each_tool_waits_as_long_as_its_network_says(world: World, mail: MailServer) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    network = Network({"read_page": 1500, "find_chair": 250, "send_mail": 0}, sleep)
    await run(world, mail, "read_page", network, path=PAGE_FILE)
    await run(world, mail, "find_chair", network, department="Physics")
    await run(world, mail, "read_attendees", network, path=ATTENDEES_FILE)
    await run(world, mail, "send_mail", network, to=["a@b.example"], subject="s", body="b")
    assert slept == [1.5, 0.25]
    assert network.describe() == "read_page 1500 ms, find_chair 250 ms"


@given(st.integers(0, 10_000))
def test_delays_are_seeded_and_realistic(seed: int) -> None:
    network = Network.seeded(seed)
    assert network == Network.seeded(seed)
    assert network.delays_ms.keys() == TYPICAL_MS.keys()
    for name, delay in network.delays_ms.items():
        assert TYPICAL_MS[name] / 4 < delay < TYPICAL_MS[name] * 4


def test_other_seeds_give_other_delays() -> None:
    assert Network.seeded(1) != Network.seeded(2)
    assert Network.none().describe() == "none"


def content(world: World) -> tuple[object, object, object]:
    folder = world.folder
    return (
        extract_text(folder / PAGE_FILE),
        read_people(folder / ATTENDEES_FILE),
        [look_up_chair(folder / DIRECTORY_FILE, department) for department in world.chairs],
    )


@pytest.mark.parametrize("changed", ["page_seed", "attendees_seed", "directory_seed"])
def test_each_seed_changes_its_own_file(world: World, tmp_path: Path, changed: str) -> None:
    other = content(build_world(tmp_path, **{changed: 1}))
    differs = [a != b for a, b in zip(content(world), other, strict=True)]
    assert differs == [changed == name for name in ("page_seed", "attendees_seed", "directory_seed")]


def test_a_world_can_be_written_again(tmp_path: Path) -> None:
    first = content(build_world(tmp_path))
    assert content(build_world(tmp_path)) == first


@given(st.integers(0, 200))
def test_every_address_is_one_and_nobody_is_there_twice(seed: int) -> None:
    from asynclm.demo import world as module

    stuff = module._stuff()
    people = [*module._choose_chairs(stuff, seed).values(), *module._choose_attendees(stuff, seed)]
    addresses = [person.email for person in people]
    assert len(set(addresses)) == len(addresses)
    assert all(address.isascii() and address.count("@") == 1 and " " not in address for address in addresses)


def test_the_page_has_more_than_its_text(world: World) -> None:
    source = (world.folder / PAGE_FILE).read_text(encoding="utf-8")
    assert "<nav>" in source
    assert "<script>" in source
    text = extract_text(world.folder / PAGE_FILE).text
    assert not any(word in text for word in ("Imprint", "console", "Home", world.page.section, "<"))


def test_a_page_without_a_main_part(tmp_path: Path) -> None:
    path = tmp_path / "plain.html"
    path.write_text("<p>One <b>two</b>\n three.</p><p></p><p>Four &amp; five.</p>")
    assert extract_text(path).model_dump() == {"title": "plain.html", "text": "One two three.\nFour & five."}


def test_a_spreadsheet_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "people.xlsx"
    workbook = Workbook()
    sheet = workbook.active
    assert sheet is not None
    for row in (["Note"], ["EMAIL", "Room"], ["a@b.example", 7], [None, None], ["not given", 8], ["c@d.example", None]):
        sheet.append(row)
    workbook.save(path)
    assert read_people(path).emails == ["a@b.example", "c@d.example"]
    bare = Workbook()
    bare.save(path)
    with pytest.raises(ToolError, match=r"people\.xlsx has no column 'Email'"):
        read_people(path)


def test_the_spreadsheet_is_one_that_others_can_read(world: World) -> None:
    sheet = load_workbook(world.folder / ATTENDEES_FILE)["Attendees"]
    assert [cell.value for cell in sheet[3]] == ["Name", "Email", "Affiliation"]
    assert sheet.max_row == 3 + len(world.attendees)


def test_only_the_current_chair_counts(world: World) -> None:
    with closing(sqlite3.connect(world.folder / DIRECTORY_FILE)) as connection:
        [count] = connection.execute("SELECT count(*) FROM chairs").fetchone()
    assert count == 2 * len(world.chairs)
    with pytest.raises(ToolError, match="there is no file"):
        look_up_chair(world.folder / "none.db", "Physics")


def test_two_mail_servers_keep_their_mail_apart(mail: MailServer) -> None:
    with MailServer() as other:
        send(other.host, other.port, sender="a@b.example", to=["c@d.example"], cc=[], subject="s", body="b")
        assert len(other.delivered) == 1
    assert mail.delivered == ()


def test_the_task_calls_these_tools_and_lists_the_slowest_first(world: World) -> None:
    tools = demo_tools(world.folder, ("127.0.0.1", 25), Network.none())
    task = load_task()
    for call in task.calls:
        spec = next(spec for spec in tools.specs if spec.name == call.function)
        assert set(call.arguments) <= set(spec.properties)
        assert set(spec.required) <= set(call.arguments)
    assert task.department in world.chairs
    assert [spec.name for spec in longest_first(tools.specs)] == sorted(TYPICAL_MS, key=lambda n: -TYPICAL_MS[n])
    assert "send_mail(to: list[str], subject: str, body: str, cc: str | None = null)" in tool_section(
        tools.specs, BodyLanguage.PYTHON
    )
