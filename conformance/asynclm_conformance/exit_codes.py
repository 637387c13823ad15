"""How the command ends; a status says what kind of thing happened, never how many."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """Exit statuses of `asynclm-conformance`."""

    CONFORMANT = 0
    NONCONFORMANT = 1
    USAGE = 2
    TARGET = 3
    HARNESS = 4
    NOTHING_SELECTED = 5
