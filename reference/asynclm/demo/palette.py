"""The colours of the drawings, for light and for dark; chosen to stay apart without red and green."""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "ground": "#ffffff",
    "panel": "#f6f7f9",
    "line": "#e3e6eb",
    "ink": "#1c2430",
    "muted": "#5b6675",
    "prefill": "#b9c4d3",
    "text": "#3f74b5",
    "block": "#86b0dc",
    "wait": "#b3bcc8",
    "run": "#e3a53a",
    "queue": "#e3a53a",
    "ok": "#2c8a66",
    "bad": "#c4492f",
    "word": "#a13d88",
    "word-ground": "#f7e6f3",
    "result-ground": "#e4f3ec",
    "bad-ground": "#fbe7e2",
    "landed": "#fff0c2",
}
DARK: Mapping[str, str] = {
    "ground": "#12161c",
    "panel": "#1a2028",
    "line": "#2b333f",
    "ink": "#e4e8ee",
    "muted": "#97a3b3",
    "prefill": "#4a5666",
    "text": "#6ba0e0",
    "block": "#3d6699",
    "wait": "#576374",
    "run": "#d99a35",
    "queue": "#d99a35",
    "ok": "#4fb98e",
    "bad": "#e8765a",
    "word": "#d884c3",
    "word-ground": "#3a2336",
    "result-ground": "#1a332a",
    "bad-ground": "#40231d",
    "landed": "#4a3d14",
}

# Each rule's `@name` is a colour. Plain colours rather than variables: pictures of README files are drawn by renderers
# that know classes and media queries, but not custom properties.
_DRAWING = """
.ground{fill:@ground}
.grid{stroke:@line;stroke-width:1}
.link{stroke:@muted;stroke-width:1;opacity:.55;fill:none}
.axis{fill:@muted;font-size:11px}
.halo{stroke:@ground;stroke-width:3;paint-order:stroke;stroke-linejoin:round}
.notch{stroke:@ground;stroke-width:2}
.name{fill:@ink;font-weight:600;font-size:12.5px}
.fn{fill:@muted;font-size:11.5px}
.head{fill:@ink;font-weight:650;font-size:15px}
.fact{fill:@muted;font-size:12.5px}
.inbar{fill:@ink;font-size:10.5px}
.prefill{fill:@prefill}
.text{fill:@text}
.block{fill:@block}
.wait{stroke:@wait;stroke-width:2.2}
.waitbox{stroke:@wait;stroke-width:1}
.held{stroke:@muted;stroke-width:1.5;stroke-dasharray:2 3;fill:none}
.run{fill:@run}
.queue{stroke:@queue;stroke-width:2;fill:none}
.ok{fill:@ok}
.bad{fill:@bad}
.none{fill:@muted}
.ring{fill:@ground;stroke:@run;stroke-width:1.5}
.word{fill:@word}
.wordline{stroke:@word;stroke-width:1.5;fill:none}
.okline{stroke:@ok;stroke-width:1.5;fill:none}
.badline{stroke:@bad;stroke-width:1.5;fill:none}
.noneline{stroke:@muted;stroke-width:1.5;fill:none}
.quote{fill:@word;font-size:11.5px}
"""

_PAGE = """
body{background:@ground;color:@ink}
.panel,.rule{background:@panel;border-color:@line}
.rule{background:none}
.muted,dt,figcaption .facts,caption,th{color:@muted}
td,th{border-color:@line}
tbody th{color:@ink}
.bar{background:@text}
.bar.base{background:@wait}
a,summary{color:@text}
.control{color:@text}
.body{color:@muted}
.intr{background:@result-ground;color:@ok}
.intr.bad{background:@bad-ground;color:@bad}
.intr.word{background:@word-ground;color:@word}
.intr.landed{background:@landed;color:@ink;box-shadow:inset 0 -2px 0 @run}
.intr.landed.word{box-shadow:inset 0 -2px 0 @word}
.tag{color:@muted}
"""


def drawing_css() -> str:
    """The classes of the drawings, light and dark."""
    return _both(_DRAWING)


def page_css() -> str:
    """The colours of the page, light and dark, the drawings' included."""
    return _both(_DRAWING + _PAGE)


def _both(rules: str) -> str:
    return f"{_filled(rules, LIGHT)}@media (prefers-color-scheme:dark){{{_filled(rules, DARK)}}}"


def _filled(rules: str, colours: Mapping[str, str]) -> str:
    for name in sorted(colours, key=len, reverse=True):
        rules = rules.replace(f"@{name}", colours[name])
    return "".join(rules.split("\n"))
