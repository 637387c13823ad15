"""Serves a mutant over a socket, as `asynclm serve` does: `python -m tests.mutants.serve NAME --port N`.

To be run in the repository's root. `none` is the server as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.mutant import Served
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
    served, options = Served.SCRIPTED, ()
    if given.name != UNMUTATED:
        mutant = MUTANTS[given.name]
        mutant.patch()
        served, options = mutant.served, mutant.options
    if served is Served.HOSTED:
        from tests.adapters.openai_chat.target import serve

        asyncio.run(serve(given.port))
        return
    where = ("--port", str(given.port), "--tools", str(TOOLS), "--drain-seconds", "0")
    sys.argv = ["asynclm", "serve", "--engine", served.value, *where, *options]
    asynclm()


if __name__ == "__main__":
    main(sys.argv[1:])
