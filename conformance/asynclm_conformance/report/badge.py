"""A badge: what can be claimed of a target, as a small SVG that needs nothing else."""

from __future__ import annotations

from html import escape

from asynclm_conformance.report.clean import visible
from asynclm_conformance.report.record import Run

_COLOURS = {"conformant": "#1a7f37", "not conformant": "#cf222e", "no claim": "#6e7781"}
_NARROW, _WIDE = frozenset("fijltr:.,|I1 ()-"), frozenset("mwMWQ@")
_PADDING = 9


def to_svg(run: Run) -> str:
    """The badge of a run: `AsyncLM draft | full: conformant` in green, red, or grey where nothing can be claimed."""
    left = visible(f"AsyncLM {run.header.revision}", 40)
    standing = "interrupted" if run.interrupted else run.standing
    right = visible(f"{run.header.profile}: {standing}", 40)
    widths = [_width(text) for text in (left, right)]
    split = widths[0] + 2 * _PADDING
    width = split + widths[1] + 2 * _PADDING
    title = escape(f"{left} | {right}")
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{title}">
  <title>{title}</title>
  <clipPath id="round"><rect width="{width}" height="20" rx="4"/></clipPath>
  <g clip-path="url(#round)">
    <rect width="{split}" height="20" fill="#3d444d"/>
    <rect x="{split}" width="{width - split}" height="20" fill="{_COLOURS[run.standing]}"/>
  </g>
  <g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">
    <text x="{_PADDING}" y="14" textLength="{widths[0]}">{escape(left)}</text>
    <text x="{split + _PADDING}" y="14" textLength="{widths[1]}">{escape(right)}</text>
  </g>
</svg>
"""


def _width(text: str) -> int:
    """About the width of a text at 11 px, in px; `textLength` makes any font keep to it."""
    return round(sum(4.4 if char in _NARROW else 10.2 if char in _WIDE else 7 for char in text))
