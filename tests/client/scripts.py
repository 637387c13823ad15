"""Scripts in few words."""

from __future__ import annotations

from asynclm.client import EOS, Control
from asynclm.client.client import AnyStep

TRAP: tuple[AnyStep, ...] = (Control.TRAP, Control.END)


def call(id: str, body: str) -> tuple[AnyStep, ...]:
    """A named call."""
    return (Control.CALL, id, Control.HEAD, body, Control.END)


def anonymous(body: str) -> tuple[AnyStep, ...]:
    """A call without an id."""
    return (Control.CALL, body, Control.END)


__all__ = ["EOS", "TRAP", "anonymous", "call"]
