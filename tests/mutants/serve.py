"""Serves a mutant over a socket, as `asynclm serve` does: `python -m tests.mutants.serve NAME --port N`.

To be run in the repository's root. `none` is the server as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.registry import MUTANTS

from asynclm.cli.main import main as asynclm

UNMUTATED = "none"
"""The name under which nothing is changed."""

TOOLS = Path(__file__).parents[2] / "examples" / "tools_conformance.py"
"""The conformance tool set."""


def main(arguments: Sequence[str]) -> None:
    """Applies a fault and serves scripted models."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.serve", description="Serve a mutant.")
    parser.add_argument("name", help="a mutant, or none")
    parser.add_argument("--port", type=int, required=True, help="where to listen, on 127.0.0.1")
    given = parser.parse_args(arguments)
    if given.name != UNMUTATED and given.name not in MUTANTS:
        parser.error(f"no mutant is called {given.name!r}; there are {', '.join(sorted(MUTANTS))}")
    if given.name != UNMUTATED:
        MUTANTS[given.name].patch()
    where = ("--port", str(given.port), "--tools", str(TOOLS), "--drain-seconds", "0")
    sys.argv = ["asynclm", "serve", "--engine", "scripted", *where]
    asynclm()


if __name__ == "__main__":
    main(sys.argv[1:])
