"""The files of the demonstration: a web page, a spreadsheet, a directory. Other seeds give other content."""

from __future__ import annotations

import html
import random
import sqlite3
import unicodedata
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import yaml
from openpyxl import Workbook
from openpyxl.styles import Font
from pydantic import BaseModel, ConfigDict

PAGE_FILE = "webpage.html"
ATTENDEES_FILE = "attendees.xlsx"
DIRECTORY_FILE = "directory.db"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an address."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Page:
    """What the web page says."""

    title: str
    section: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class World:
    """The files, and what is in them.

    Attributes:
        folder: where the files are.
        page: content of `webpage.html`.
        attendees: the people in `attendees.xlsx`.
        chairs: the chair of each department in `directory.db`.
    """

    folder: Path
    page: Page
    attendees: tuple[Person, ...]
    chairs: dict[str, Person]


class _PageStuff(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str
    section: str
    paragraphs: tuple[str, ...]


class _Stuff(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pages: tuple[_PageStuff, ...]
    speakers: tuple[str, ...]
    dates: tuple[str, ...]
    rooms: tuple[str, ...]
    given_names: tuple[str, ...]
    family_names: tuple[str, ...]
    affiliations: tuple[str, ...]
    departments: tuple[str, ...]
    buildings: tuple[str, ...]


def build_world(folder: Path, *, page_seed: int = 0, attendees_seed: int = 0, directory_seed: int = 0) -> World:
    """Writes the files; equal seeds write equal content, whatever the other seeds are.

    Args:
        folder: where to write, made if need be; files of those names are replaced.
        page_seed: chooses the web page.
        attendees_seed: chooses who is in the spreadsheet.
        directory_seed: chooses who chairs the departments.
    """
    stuff = _stuff()
    folder.mkdir(parents=True, exist_ok=True)
    page = _choose_page(stuff, page_seed)
    attendees = _choose_attendees(stuff, attendees_seed)
    chairs = _choose_chairs(stuff, directory_seed)
    (folder / PAGE_FILE).write_text(_page_html(page), encoding="utf-8")
    _write_attendees(folder / ATTENDEES_FILE, page, attendees, stuff.affiliations)
    _write_directory(folder / DIRECTORY_FILE, chairs, stuff.buildings)
    return World(folder, page, attendees, chairs)


@cache
def _stuff() -> _Stuff:
    text = resources.files("asynclm.demo").joinpath("world.yaml").read_text(encoding="utf-8")
    return _Stuff.model_validate(yaml.safe_load(text))


def _choose_page(stuff: _Stuff, seed: int) -> Page:
    generator = random.Random(f"page {seed}")
    # In turn, so that two seeds next to each other are two subjects.
    chosen = stuff.pages[seed % len(stuff.pages)]
    values = {
        "speaker": generator.choice(stuff.speakers),
        "date": generator.choice(stuff.dates),
        "room": generator.choice(stuff.rooms),
        "count": str(generator.randrange(12, 99)),
        "hits": str(generator.randrange(7, 60)),
    }
    return Page(chosen.title, chosen.section, tuple(p.strip().format_map(values) for p in chosen.paragraphs))


def _choose_people(stuff: _Stuff, generator: random.Random, least: int, most: int, domain: str) -> tuple[Person, ...]:
    count = generator.randint(least, most)
    given = generator.sample(stuff.given_names, count)
    family = generator.sample(stuff.family_names, count)
    return tuple(Person(f"{g} {f}", _address(g, f, domain)) for g, f in zip(given, family, strict=True))


def _choose_attendees(stuff: _Stuff, seed: int) -> tuple[Person, ...]:
    return _choose_people(stuff, random.Random(f"attendees {seed}"), 4, 7, "guests.example")


def _choose_chairs(stuff: _Stuff, seed: int) -> dict[str, Person]:
    count = len(stuff.departments)
    people = _choose_people(stuff, random.Random(f"directory {seed}"), count, count, "university.example")
    return dict(zip(stuff.departments, people, strict=True))


def _address(given: str, family: str, domain: str) -> str:
    folded = unicodedata.normalize("NFKD", f"{given}.{family}".lower().replace("ø", "o"))
    return f"{folded.encode('ascii', 'ignore').decode()}@{domain}"


def _page_html(page: Page) -> str:
    """A page as they are: navigation, a script, a footer, and somewhere in between what it says."""
    paragraphs = "\n".join(f"      <p>{html.escape(paragraph)}</p>" for paragraph in page.paragraphs)
    title, section = html.escape(page.title), html.escape(page.section)
    return f"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>{title}</title>
  <style>body {{ font-family: serif; max-width: 40rem; margin: auto }} nav a {{ margin-right: 1rem }}</style>
  <script>document.addEventListener("DOMContentLoaded", () => console.log("ready"));</script>
</head>
<body>
  <nav><a href="/">Home</a><a href="/events">Events</a><a href="/people">People</a></nav>
  <main>
    <article>
      <p class="section">{section}</p>
      <h1>{title}</h1>
{paragraphs}
    </article>
  </main>
  <footer><p>Imprint · Privacy · This site uses no cookies.</p></footer>
</body>
</html>
"""


def _write_attendees(path: Path, page: Page, attendees: Sequence[Person], affiliations: Sequence[str]) -> None:
    workbook = Workbook()
    sheet = workbook.active
    assert sheet is not None
    sheet.title = "Attendees"
    sheet.append([f"{page.section}: {page.title}"])
    sheet.append([])
    sheet.append(["Name", "Email", "Affiliation"])
    for cell in (*sheet[1], *sheet[3]):
        cell.font = Font(bold=True)
    for number, person in enumerate(attendees):
        sheet.append([person.name, person.email, affiliations[number % len(affiliations)]])
    workbook.save(path)


def _write_directory(path: Path, chairs: dict[str, Person], buildings: Sequence[str]) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            """
            CREATE TABLE departments (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, building TEXT NOT NULL);
            CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE);
            CREATE TABLE chairs (
                department INTEGER NOT NULL REFERENCES departments, person INTEGER NOT NULL REFERENCES people,
                since INTEGER NOT NULL, until INTEGER
            );
            """
        )
        people = list(chairs.values())
        for number, (department, chair) in enumerate(chairs.items()):
            building = buildings[number % len(buildings)]
            connection.execute("INSERT INTO departments VALUES (?, ?, ?)", (number, department, building))
            connection.execute("INSERT INTO people VALUES (?, ?, ?)", (number, chair.name, chair.email))
            # Who chaired it before now chairs another department: only `until IS NULL` says who chairs this one.
            before = (number + 1) % len(people)
            connection.execute("INSERT INTO chairs VALUES (?, ?, ?, ?)", (number, before, 2015 + number, 2021 + number))
            connection.execute("INSERT INTO chairs VALUES (?, ?, ?, NULL)", (number, number, 2021 + number))
