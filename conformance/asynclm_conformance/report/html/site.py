"""Renders the pages and writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from asynclm_conformance.report.clean import visible
from asynclm_conformance.report.html import view
from asynclm_conformance.report.html.coverage import requirement_rows
from asynclm_conformance.report.html.markdown import sentence
from asynclm_conformance.report.record import Run
from asynclm_conformance.report.text import summary

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("asynclm_conformance.report.html", "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals["summary"] = summary
_ENVIRONMENT.filters["visible"] = visible
_ENVIRONMENT.filters["sentence"] = sentence


def write_site(runs: Sequence[Run], folder: Path) -> None:
    """Writes the site: `index.html`, `requirements.html` and `cases/FILE/ID.html`.

    Args:
        runs: one for each column of the matrix.
        folder: where it goes; it is made if it is not there, and files of the same names are written over.
    """
    columns = view.columns(runs)
    names = view.case_names(runs)
    reasons = view.skip_reasons(columns, names)
    groups = list(view.matrix(columns, names, reasons))
    rows = [row for _, group in groups for row in group]
    _write(
        folder / "index.html",
        "index",
        root="",
        columns=columns,
        groups=groups,
        wanting=view.wanting(rows),
        reasons=reasons,
    )
    _write(
        folder / "requirements.html", "requirements", root="", columns=columns, pages=requirement_rows(columns, names)
    )
    for at, name in enumerate(names):
        case = view.case_page(columns, name)
        before = rows[at - 1] if at else None
        after = rows[at + 1] if at + 1 < len(rows) else None
        _write(folder / case.path, "case", root="../../", columns=columns, case=case, before=before, after=after)


def _write(path: Path, template: str, **shown: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_ENVIRONMENT.get_template(f"{template}.html.jinja").render(shown), encoding="utf-8")
