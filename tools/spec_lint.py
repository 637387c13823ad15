"""Reads the requirements out of the specification and checks its house rules.

Every sentence with a BCP 14 key word in a page of `spec/draft/` is a requirement with an id of its own; ids are defined
once, cited only if they exist, and belong to the page whose prefix they carry. The comments of the protos repeat
requirements and cite them. Run it alone to see what is wrong:

    python tools/spec_lint.py          problems, one a line; exit status 1 if there are any
    python tools/spec_lint.py --list   every requirement: id, level, page
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asynclm_conformance.requirements import (
    DEFINITION,
    HEADING,
    KEYWORD,
    LEVELS,
    Paragraph,
    Requirement,
    paragraphs,
    read_page,
)

ROOT = Path(__file__).resolve().parent.parent

PREFIXES: Mapping[str, frozenset[str]] = {
    "overview.md": frozenset(),
    "cml.md": frozenset({"CML"}),
    "bindings.md": frozenset({"BIND"}),
    "sessions.md": frozenset({"SES"}),
    "calls.md": frozenset({"CALL"}),
    "interrupts.md": frozenset({"INT"}),
    "traps.md": frozenset({"TRAP"}),
    "protocol.md": frozenset({"WIRE"}),
    "scripted.md": frozenset({"SCR"}),
    "errors.md": frozenset({"ERR", "LIM"}),
    "security.md": frozenset({"SEC"}),
}
"""Each page of the draft and the prefixes of the ids that it defines."""

CITED_IN = ("reference", "conformance", "adapters", "proto", "grammar", "tests", "examples", "spec", "tools")
"""Folders whose citations are checked, beside the papers at the root."""

_PREFIX = "|".join(sorted(prefix for prefixes in PREFIXES.values() for prefix in prefixes))
_CITATION = re.compile(rf"\b({_PREFIX})-([0-9]{{3,}})\b|\[({_PREFIX})-([0-9]+)\]")
"""An id, alone in brackets, in a list or in a range; digits other than three only in brackets."""
_LOWER = re.compile(r"\b(?:[Mm]ust|[Ss]hould|[Ss]hall|[Mm]ay)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*\[(])")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, order=True)
class Problem:
    """Something that breaks a house rule."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def check_page(page: str, text: str, prefixes: frozenset[str]) -> Iterator[Problem]:
    """Checks one normative page: key words without an id, lower-case key words, ill-formed definitions."""
    for paragraph in paragraphs(text):
        prose = paragraph.prose
        for match in _LOWER.finditer(prose):
            yield Problem(
                page, paragraph.line, f"{match.group()!r} in lower case; say it with an id, or in other words"
            )
        defined = DEFINITION.findall(paragraph.text)
        if not defined:
            for match in KEYWORD.finditer(prose):
                yield Problem(page, paragraph.line, f"{match.group()} without an id")
            continue
        yield from (Problem(page, paragraph.line, p) for p in _definition_problems(paragraph, defined, prefixes))


def _definition_problems(paragraph: Paragraph, defined: Sequence[str], prefixes: frozenset[str]) -> Iterator[str]:
    name = defined[0]
    if len(defined) > 1 or not DEFINITION.match(paragraph.text):
        yield f"[{name}] does not start a paragraph of its own"
    if name.partition("-")[0] not in prefixes:
        yield f"[{name}] does not belong here; prefixes of this page: {', '.join(sorted(prefixes)) or 'none'}"
    found = KEYWORD.findall(paragraph.prose)
    if not found:
        yield f"[{name}] has no key word"
    yield from (f"[{name}] uses {word}; use MUST, SHOULD or MAY" for word in found if word not in LEVELS)
    if len({LEVELS.get(word) for word in found}) > 1:
        yield f"[{name}] has key words of different levels; make it two requirements"
    sentences = [s for s in _SENTENCE_END.split(paragraph.prose) if KEYWORD.search(s)]
    if len(sentences) > 1:
        yield f"[{name}] has {len(sentences)} sentences with key words; make each a requirement"


def check_unique(found: Iterable[Requirement]) -> Iterator[Problem]:
    """Checks that no id is defined twice."""
    first: dict[str, Requirement] = {}
    for requirement in found:
        before = first.setdefault(requirement.id, requirement)
        if before is not requirement:
            where = f"{before.page}.md:{before.line}"
            yield Problem(
                f"{requirement.page}.md", requirement.line, f"[{requirement.id}] is defined at {where} already"
            )


def check_citations(path: str, text: str, known: frozenset[str]) -> Iterator[Problem]:
    """Checks that every id cited in a text exists."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _CITATION.finditer(line):
            cited = match.group().strip("[]")
            if cited not in known:
                yield Problem(path, number, f"[{cited}] is not in the specification")


def check_proto(path: str, text: str) -> Iterator[Problem]:
    """Checks that every sentence of a proto's comments with a key word cites the requirement that it repeats."""
    lines: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        comment = line.strip()
        if comment.startswith("//"):
            lines.append(comment.removeprefix("//").strip())
            continue
        for sentence in _SENTENCE_END.split(" ".join(lines)):
            if KEYWORD.search(sentence) and not _CITATION.search(sentence):
                yield Problem(path, number, f"a key word without a citation in the comment before: {sentence[:60]!r}")
        lines = []


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return words.replace(" ", "-")


def check_links(path: Path, root: Path) -> Iterator[Problem]:
    """Checks that relative links of a Markdown file lead to files, and their anchors to headings."""
    shown = path.relative_to(root).as_posix()
    for paragraph in paragraphs(path.read_text(encoding="utf-8")):
        for target in _LINK.findall(paragraph.prose):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists():
                yield Problem(shown, paragraph.line, f"link to {target}: no such file")
            elif anchor and anchor not in _anchors(file):
                yield Problem(shown, paragraph.line, f"link to {target}: no such heading")


def _anchors(path: Path) -> frozenset[str]:
    headings = (HEADING.fullmatch(p.text) for p in paragraphs(path.read_text(encoding="utf-8")))
    return frozenset(slug(match.group(1)) for match in headings if match)


def check_index(index: Path, pages: Iterable[Path], root: Path) -> Iterator[Problem]:
    """Checks that an index links to every page."""
    targets = {(index.parent / t.partition("#")[0]).resolve() for t in _LINK.findall(index.read_text(encoding="utf-8"))}
    for page in pages:
        if page.resolve() not in targets:
            yield Problem(index.relative_to(root).as_posix(), 1, f"{page.name} is missing from the index")


def cml_examples(text: str) -> Iterator[tuple[int, str]]:
    """The fenced `cml` examples of a page: line and text, each one well-formed document."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if line.strip() == "```cml":
            yield at + 2, "\n".join(lines[at + 1 : lines.index("```", at + 1)])


def draft_pages(root: Path = ROOT) -> list[Path]:
    """The pages of the draft."""
    return sorted((root / "spec" / "draft").glob("*.md"))


def all_requirements(root: Path = ROOT) -> list[Requirement]:
    """Every requirement of the draft, by page."""
    return [r for page in draft_pages(root) for r in read_page(page.stem, page.read_text(encoding="utf-8"))]


def cited_files(root: Path = ROOT) -> Iterator[Path]:
    """Every text file in which an id can be cited."""
    kinds = {".py", ".pyi", ".md", ".proto", ".lark", ".yaml", ".yml", ".toml", ".go", ".ts"}
    yield from sorted(root.glob("*.md"))
    for folder in CITED_IN:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in kinds and path.is_file() and "node_modules" not in path.parts:
                yield path


def lint(root: Path = ROOT) -> list[Problem]:
    """Every problem of the specification and of what cites it."""
    problems: list[Problem] = []
    for page in draft_pages(root):
        if page.name not in PREFIXES:
            problems.append(Problem(page.name, 1, "this page has no entry in PREFIXES of tools/spec_lint.py"))
        text = page.read_text(encoding="utf-8")
        problems += check_page(page.relative_to(root).as_posix(), text, PREFIXES.get(page.name, frozenset()))
    found = all_requirements(root)
    problems += check_unique(found)
    known = frozenset(requirement.id for requirement in found)
    for path in cited_files(root):
        text = path.read_text(encoding="utf-8")
        problems += check_citations(path.relative_to(root).as_posix(), text, known)
        if path.suffix == ".proto":
            problems += check_proto(path.relative_to(root).as_posix(), text)
        if path.suffix == ".md":
            problems += check_links(path, root)
    spec = root / "spec"
    problems += check_index(spec / "README.md", draft_pages(root), root)
    decisions = [p for p in sorted((spec / "decisions").glob("*.md")) if p.name != "README.md"]
    problems += check_index(spec / "decisions" / "README.md", decisions, root)
    return sorted(problems)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the lint as a program."""
    parser = argparse.ArgumentParser(description="Check the specification.")
    parser.add_argument("--list", action="store_true", help="list every requirement")
    if parser.parse_args(arguments).list:
        for requirement in all_requirements():
            print(f"{requirement.id:9} {requirement.level:7} {requirement.page}.md:{requirement.line}")
        return 0
    problems = lint()
    for problem in problems:
        print(problem)
    print(f"{len(all_requirements())} requirements, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
