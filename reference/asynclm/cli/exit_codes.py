"""What `asynclm` exits with."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """Exit codes of every command; never a count."""

    OK = 0
    """Done; a session ended by itself, by its limit of tokens, or because the person at the keyboard finished it."""
    FAILED = 1
    """The command ran and its verdict is no: errors in a document, a missed floor, a session that ended otherwise."""
    USAGE = 2
    """What was asked for cannot be done as asked: options, files, tools, models, a port in use."""
    TARGET = 3
    """The target cannot be reached, refuses, or broke off."""
    INTERNAL = 4
    """A fault of this program; `asynclm --verbose` shows where."""
    INTERRUPTED = 130
    """Ctrl-C."""
