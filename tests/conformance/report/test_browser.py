"""The pages are drawn by a real browser, and fit a phone."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from tests.conformance.report import records

from asynclm_conformance.report import write

CHROME = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
PAGES = ("index.html", "requirements.html", "cases/alpha/passes.html", "cases/alpha/fails.html", "cases/beta/evil.html")
PHONE = 390
MEASURE = """
onload = () => {
  const pages = [...document.querySelectorAll("iframe")].map(frame => frame.contentDocument);
  const drawn = svg => svg.getBoundingClientRect().width > 0;
  const sizes = page => [...page.querySelectorAll("svg.wire")].filter(drawn).map(svg => svg.classList[1]);
  document.body.dataset.widths = pages.map(page => page.documentElement.scrollWidth).join(" ");
  document.body.dataset.diagrams = [...new Set(pages.flatMap(sizes))].join(" ");
};
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROME is None, reason="no chromium or google-chrome on PATH to draw the pages"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    runs = [
        records.run(folder / "one.jsonl", records.one_of_each(), claim="not conformant to draft at full: 2 failed"),
        records.run(folder / "two.jsonl", records.one_of_each()[:2], end=False, name="another-engine-of-a-long-name"),
    ]
    write(runs, format="html", out=folder / "site")
    return folder / "site"


def browse(profile: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(CHROME), *FLAGS, f"--user-data-dir={profile}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def pixels(png: bytes) -> bytes:
    """The filtered bytes of a PNG's pixels."""
    data, at = b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return zlib.decompress(data)


def test_pages_are_drawn_in_both_colour_schemes(site: Path, tmp_path: Path) -> None:
    drawn = []
    for scheme in ("1", "0"):
        shot = tmp_path / f"{scheme}.png"
        browse(
            tmp_path / scheme,
            f"--blink-settings=preferredColorScheme={scheme}",
            "--window-size=1200,1600",
            f"--screenshot={shot}",
            (site / "cases/alpha/fails.html").as_uri(),
        )
        drawn.append(pixels(shot.read_bytes()))
    light, dark = drawn
    assert min(len(set(light)), len(set(dark))) > 50, "more than a blank page"
    assert light != dark


def test_no_page_is_wider_than_a_phone(site: Path, tmp_path: Path) -> None:
    """Each page stands in a frame as wide as a phone, and a script tells how wide the page came out."""
    texts = [html.escape((site / page).read_text(encoding="utf-8")) for page in PAGES]
    frames = "".join(
        f'<iframe style="width:{PHONE}px;height:800px;border:0" srcdoc="{text}"></iframe>' for text in texts
    )
    phone = tmp_path / "phone.html"
    phone.write_text(
        f"<!doctype html><meta charset=utf-8><script>{MEASURE}</script><body>{frames}</body>", encoding="utf-8"
    )
    dom = browse(tmp_path / "profile", "--dump-dom", phone.as_uri())
    widths = re.search(r'data-widths="([^"]*)"', dom)
    assert widths is not None
    assert [int(width) for width in widths.group(1).split()] == [PHONE] * len(PAGES)
    diagrams = re.search(r'data-diagrams="([^"]*)"', dom)
    assert diagrams is not None
    assert diagrams.group(1) == "narrow"
