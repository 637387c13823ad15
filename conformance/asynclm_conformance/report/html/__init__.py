"""The report as a static site: a matrix of targets and cases, and a page for each case; no script, no network."""

from asynclm_conformance.report.html.site import write_site

__all__ = ["write_site"]
