"""What can be wrong with the suite's own files."""

from __future__ import annotations


class CaseError(ValueError):
    """A file of cases cannot be used; the message names the file, the place and what is allowed."""
