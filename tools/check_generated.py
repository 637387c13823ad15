"""Fails if the committed stubs are not what `proto/` gives today (part of `make check`)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.generate import REFERENCE, generate, generated


def differences(fresh: dict[str, bytes], committed: dict[str, bytes]) -> list[str]:
    """One line for each file that is missing, changed or left over."""
    lines = [f"missing: {name}" for name in sorted(fresh.keys() - committed.keys())]
    lines += [f"left over: {name}" for name in sorted(committed.keys() - fresh.keys())]
    lines += [f"differs: {name}" for name in sorted(fresh.keys() & committed.keys()) if fresh[name] != committed[name]]
    return lines


def main() -> None:
    """Generates into a temporary folder and compares."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = generated(Path(folder))
    if not fresh:
        raise SystemExit("nothing was generated: proto/ is empty or the plugins are broken")
    found = differences(fresh, generated(REFERENCE))
    if found:
        raise SystemExit("generated stubs are stale; run `make generate` and commit:\n  " + "\n  ".join(found))
    print(f"{len(fresh)} generated files are as committed")


if __name__ == "__main__":
    main()
