"""The demonstration's tools: a web page, a spreadsheet, a directory, mail. Real files and a real SMTP server."""

from __future__ import annotations

import asyncio
import smtplib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated
from zipfile import BadZipFile

from bs4 import BeautifulSoup
from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException
from pydantic import BaseModel, Field

from asynclm.demo.mail import send
from asynclm.demo.network import TYPICAL_MS, Network
from asynclm.demo.world import DIRECTORY_FILE
from asynclm.tools import Tool, ToolError, ToolSet, tool

SENDER = "assistant@university.example"

Address = Annotated[str, Field(pattern=r"^[^@\s,]+@[^@\s,]+$", max_length=200)]


class PageText(BaseModel):
    """A web page's text."""

    title: str
    text: str


class Attendees(BaseModel):
    """The people in a spreadsheet."""

    names: list[str]
    emails: list[str]


class Chair(BaseModel):
    """Who chairs a department."""

    name: str
    email: str
    department: str


class SentMail(BaseModel):
    """What became of a mail."""

    message_id: str
    recipients: int


def demo_tools(folder: Path, smtp: tuple[str, int], network: Network) -> ToolSet:
    """The tools, on one world's files.

    Args:
        folder: where the files are; nothing outside it can be read.
        smtp: host and port of the mail server.
        network: the delay of each tool.
    """
    return ToolSet(
        [
            _read_page(folder, network),
            _read_attendees(folder, network),
            _find_chair(folder, network),
            _mail(smtp, network),
        ]
    )


def _read_page(folder: Path, network: Network) -> Tool:
    @tool(side_effects="none", idempotent=True, expected_duration_ms=TYPICAL_MS["read_page"])
    async def read_page(path: str) -> PageText:
        """Reads a web page and gives its title and text.

        Args:
            path: the page's file name.
        """
        await network.wait("read_page")
        return await asyncio.to_thread(extract_text, _inside(folder, path))

    return read_page


def _read_attendees(folder: Path, network: Network) -> Tool:
    @tool(side_effects="none", idempotent=True, expected_duration_ms=TYPICAL_MS["read_attendees"])
    async def read_attendees(path: str) -> Attendees:
        """Reads a spreadsheet of people and gives their names and e-mail addresses.

        Args:
            path: the spreadsheet's file name.
        """
        await network.wait("read_attendees")
        return await asyncio.to_thread(read_people, _inside(folder, path))

    return read_attendees


def _find_chair(folder: Path, network: Network) -> Tool:
    @tool(side_effects="none", idempotent=True, expected_duration_ms=TYPICAL_MS["find_chair"])
    async def find_chair(department: str) -> Chair:
        """Finds out who chairs a department.

        Args:
            department: the department's name.
        """
        await network.wait("find_chair")
        return await asyncio.to_thread(look_up_chair, folder / DIRECTORY_FILE, department)

    return find_chair


def _mail(smtp: tuple[str, int], network: Network) -> Tool:
    host, port = smtp

    @tool(expected_duration_ms=TYPICAL_MS["send_mail"], cancellable=False)
    async def send_mail(
        to: Annotated[list[Address], Field(min_length=1, max_length=100)],
        subject: str,
        body: str,
        cc: Address | None = None,
    ) -> SentMail:
        """Sends an e-mail.

        Args:
            to: the recipients' addresses.
            subject: the subject, one line.
            body: the text.
            cc: an address that gets a copy.
        """
        await network.wait("send_mail")
        copies = [cc] if cc else []
        try:
            message_id = await asyncio.to_thread(
                send, host, port, sender=SENDER, to=to, cc=copies, subject=subject, body=body
            )
        except ValueError as error:
            raise ToolError(f"subject or address: {error}", type="invalid_header") from None
        except smtplib.SMTPException as error:
            raise ToolError(f"the mail server refused it: {error}", type="refused") from None
        return SentMail(message_id=message_id, recipients=len(to) + len(copies))

    return send_mail


def extract_text(path: Path) -> PageText:
    """A page's title and the paragraphs of its main part, without navigation, scripts and footers.

    Raises:
        ToolError: there is no such file.
    """
    try:
        soup = BeautifulSoup(path.read_bytes(), "html.parser")
    except OSError:
        raise _no_file(path) from None
    title = soup.title.get_text(" ", strip=True) if soup.title else path.name
    for element in soup(["script", "style", "nav", "header", "footer", "aside"]):
        element.decompose()
    main = soup.find("main") or soup.body or soup
    paragraphs = [" ".join(p.get_text(" ").split()) for p in main.find_all("p", class_=lambda name: name != "section")]
    return PageText(title=title, text="\n".join(filter(None, paragraphs)))


def read_people(path: Path) -> Attendees:
    """The people in the first sheet: the rows below the one that has a cell `Email`.

    Raises:
        ToolError: there is no such file, it is no spreadsheet, or it has no such row.
    """
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
    except OSError:
        raise _no_file(path) from None
    except (InvalidFileException, BadZipFile, KeyError):
        raise ToolError(f"{path.name} is not an .xlsx spreadsheet", type="not_readable") from None
    with closing(workbook):
        rows = [
            [str(value or "").strip() for value in row] for row in workbook.worksheets[0].iter_rows(values_only=True)
        ]
    for number, row in enumerate(rows):
        header = [value.casefold() for value in row]
        if "email" in header:
            return _people(rows[number + 1 :], header)
    raise ToolError(f"{path.name} has no column 'Email'", type="not_readable")


def _people(rows: list[list[str]], header: list[str]) -> Attendees:
    email = header.index("email")
    name = header.index("name") if "name" in header else email
    people = [row for row in rows if "@" in row[email]]
    return Attendees(names=[row[name] for row in people], emails=[row[email] for row in people])


def look_up_chair(database: Path, department: str) -> Chair:
    """Who chairs a department now.

    Raises:
        ToolError: there is no such department, or no directory.
    """
    if not database.is_file():
        raise _no_file(database)
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        row = connection.execute(
            """
            SELECT people.name, people.email, departments.name
            FROM departments JOIN chairs ON chairs.department = departments.id
                             JOIN people ON people.id = chairs.person
            WHERE chairs.until IS NULL AND departments.name = ? COLLATE NOCASE
            """,
            (department.strip(),),
        ).fetchone()
        if row is None:
            names = [name for (name,) in connection.execute("SELECT name FROM departments ORDER BY name")]
            message = f"there is no department {department[:60]!r}; there are: {', '.join(names)}"
            raise ToolError(message, type="not_found")
    return Chair(name=row[0], email=row[1], department=row[2])


def _inside(folder: Path, name: str) -> Path:
    """A file of the world by its name; a model is not to read the rest of the disk."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ToolError(f"{name[:120]!r} is not a file here", type="not_found")
    return path


def _no_file(path: Path) -> ToolError:
    return ToolError(f"there is no file {path.name[:120]!r}", type="not_found")
