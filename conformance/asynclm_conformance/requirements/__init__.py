"""Reads the requirements out of the specification: every sentence with an id, its level, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from asynclm.cml.resources import resource

ID = r"[A-Z]{2,}-[0-9]{3}"
DEFINITION = re.compile(rf"\*\*\[({ID})\]\*\*")
KEYWORD = re.compile(
    r"\b(MUST NOT|MUST|SHALL NOT|SHALL|SHOULD NOT|SHOULD|NOT RECOMMENDED|RECOMMENDED|REQUIRED|MAY|OPTIONAL)\b"
)
LEVELS: Mapping[str, str] = {
    "MUST": "MUST",
    "MUST NOT": "MUST",
    "SHOULD": "SHOULD",
    "SHOULD NOT": "SHOULD",
    "MAY": "MAY",
}
"""The key words in use and the level of each."""
HEADING = re.compile(r"#{1,6}\s+(.*)")
_CODE_SPAN = re.compile(r"`[^`]*`")
_COMMENT = re.compile(r"<!--.*?-->")
_STARTS_ITEM = re.compile(r"\s*(?:[*+-]|[0-9]+\.)\s|\s*[|#>]")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A sentence of the specification that binds someone.

    Attributes:
        id: its id, `INT-004`.
        page: the page that defines it, without `.md`.
        section: the heading that it stands under.
        sentence: its text in Markdown, without the id.
        level: `MUST`, `SHOULD` or `MAY`; empty where it has no key word that is in use.
        line: its first line on the page, from 1.
    """

    id: str
    page: str
    section: str
    sentence: str
    level: str
    line: int

    @property
    def path(self) -> str:
        """The file of its page, from the root of the project."""
        return f"spec/draft/{self.page}.md"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A run of lines that belong together: a paragraph, a list item, a table row or a heading."""

    line: int
    text: str

    @property
    def prose(self) -> str:
        """Its text without code spans."""
        return _CODE_SPAN.sub("`…`", self.text)


def paragraphs(text: str) -> Iterator[Paragraph]:
    """Splits a page into paragraphs; fenced code and comments are left out."""
    lines: list[str] = []
    start = 0
    fenced = False
    for number, raw in enumerate(text.splitlines(), 1):
        line = _COMMENT.sub("", raw)
        fence = line.lstrip().startswith("```")
        ends = fence or fenced or not line.strip() or bool(_STARTS_ITEM.match(line))
        if ends and lines:
            yield Paragraph(start, " ".join(lines))
            lines = []
        if fence:
            fenced = not fenced
        elif not fenced and line.strip():
            if not lines:
                start = number
            lines.append(line.strip())
    if lines:
        yield Paragraph(start, " ".join(lines))


def read_page(page: str, text: str) -> Iterator[Requirement]:
    """The requirements that a page defines, in order; ill-formed ones too, with the level that they seem to have.

    Args:
        page: its name without `.md`.
        text: what stands on it.
    """
    section = ""
    for paragraph in paragraphs(text):
        heading = HEADING.fullmatch(paragraph.text)
        if heading is not None:
            section = heading.group(1)
        match = DEFINITION.match(paragraph.text)
        if match is not None:
            keyword = KEYWORD.search(paragraph.prose)
            level = LEVELS.get(keyword.group(), "") if keyword else ""
            sentence = paragraph.text[match.end() :].strip()
            yield Requirement(match.group(1), page, section, sentence, level, paragraph.line)


@cache
def load() -> Mapping[str, Requirement]:
    """Every requirement of the specification that belongs to this version, by id, page by page."""
    pages = sorted(resource("spec/draft").iterdir(), key=lambda entry: entry.name)
    found = (
        requirement
        for entry in pages
        if entry.name.endswith(".md")
        for requirement in read_page(entry.name.removesuffix(".md"), entry.read_text(encoding="utf-8"))
    )
    return MappingProxyType({requirement.id: requirement for requirement in found})
