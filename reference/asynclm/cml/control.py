"""The five control tokens of CML and the names that structure its blocks."""

from __future__ import annotations

import enum
import re


class Control(enum.Enum):
    """A control token; its value is its spelling in the text form (paper §3.1, CML §2)."""

    CALL = "[CALL]"
    INTR = "[INTR]"
    TRAP = "[TRAP]"
    END = "[END]"
    HEAD = "[HEAD]"


OPENING = frozenset({Control.CALL, Control.INTR, Control.TRAP})
"""Control tokens that open a block; `END` closes it."""


class Status(enum.StrEnum):
    """What an interrupt says of its source; `ok` is the default and is not written."""

    OK = "ok"
    ERROR = "error"
    PARTIAL = "partial"
    PROGRESS = "progress"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"

    @property
    def terminal(self) -> bool:
        """Whether an interrupt with this status resolves its call."""
        return self not in (Status.PARTIAL, Status.PROGRESS)


class Quantifier(enum.StrEnum):
    """How many of a trap's ids must be resolved."""

    ALL = "all"
    ANY = "any"


class BodyLanguage(enum.StrEnum):
    """The language of call bodies; one for each session."""

    PYTHON = "python_call"
    JSON = "json_call"


NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
"""The one terminal for ids, functions, parameters and agents [CML-010]."""

RESERVED_IDS = frozenset({"true", "false", "null", "True", "False", "None", "all", "any", "within", "cml"})
"""Names that no call may take as its id."""
