"""Elements of HTML and SVG whose text is always escaped: what a model or a tool wrote cannot become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

Value = str | int | float | None

_VOID = frozenset({"meta", "br", "hr"})


class Markup(str):
    """Finished markup; everything else is text, and escaped."""

    __slots__ = ()


def text(value: str) -> Markup:
    """Text as markup. Control characters that HTML cannot hold become U+FFFD."""
    clean = "".join(
        c if (c >= " " and not "\x7f" <= c <= "\x9f") or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in value
    )
    return Markup(html.escape(clean.encode("utf-8", "replace").decode("utf-8")))


def join(children: Iterable[Markup | str]) -> Markup:
    """Children one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else text(child) for child in children))


def element(name: str, /, *children: Markup | str, **attributes: Value) -> Markup:
    """An element.

    Args:
        name: its name.
        children: elements, or text.
        attributes: by name; `class_` stands for `class`, an underscore for a hyphen. None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(_written(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def _written(value: str | int | float) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
