"""Tools as the command line names them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from asynclm.cli.faults import CliError

if TYPE_CHECKING:
    from asynclm.tools import ToolSet


def load_all(targets: Iterable[str]) -> ToolSet:
    """Every tool that the targets name (`module`, `module:name` or `file.py:name`), in order.

    Raises:
        ToolLoadError: a target cannot be loaded.
        CliError: two tools have one name.
    """
    from asynclm.tools import ToolSet
    from asynclm.tools.load import load_tools

    found = ToolSet()
    for target in targets:
        loaded = load_tools(target)
        try:
            found = found | loaded
        except ValueError as error:
            raise CliError(f"--tools {target}: {error}") from None
    return found
