"""Tells which mutants do not fit the code any more: `python -m tests.mutants.fits`.

Each is applied in a process of its own, so that none builds on another. 1 if one does not fit.
"""

from __future__ import annotations

import os
import sys

from tests.mutants.registry import MUTANTS


def main() -> int:
    """Applies every mutant once and says what is wrong with those that cannot be."""
    return 1 if [name for name in MUTANTS if not _fits(name)] else 0


def _fits(name: str) -> bool:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    try:
        MUTANTS[name].patch()
    except Exception as error:
        print(f"{name}: {error}", flush=True)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
