"""`asynclm-conformance init`: the files of a project that wants to run the suite in its own CI."""

from __future__ import annotations

from pathlib import Path

from asynclm_conformance.configuration import FILE

CONFIGURATION = """\
# Settings of `asynclm-conformance run`; each has an option of the same name, which goes before it.

# The command that starts your engine; {port} is a free port on which it has to listen, on 127.0.0.1. Or an address:
# target: grpc://127.0.0.1:50151
target: [./my-engine, --port, "{port}"]

# What you claim: core, interrupts, traps, futures, flow, cancellation, limits, full or emulated.
profile: core

# Cases that you know to fail, each with its reason. The run fails when one of them passes, so that the list stays true.
known_failing: known-failing.txt
"""

KNOWN_FAILING = """\
# One case a line, by name or pattern, and its reason behind a `#`:
#
#   traps/any-of-them          # the second id is lost: issue 12
#   granularity/*              # not built yet
"""

WORKFLOW = """\
name: conformance
on: [push, pull_request]
jobs:
  asynclm:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      # Build your engine here, so that the command of asynclm-conformance.yaml finds it.
      - uses: actions/setup-python@v5
        with: { python-version: "3.11" }
      - run: pip install asynclm-protocol
      - run: asynclm-conformance run
      - if: always()
        run: asynclm-conformance report results.jsonl --format html --out conformance-report
      - if: always()
        uses: actions/upload-artifact@v4
        with: { name: conformance-report, path: conformance-report }
"""


def starter_files() -> dict[Path, str]:
    """What `init` writes, by path."""
    return {
        FILE: CONFIGURATION,
        Path("known-failing.txt"): KNOWN_FAILING,
        Path(".github/workflows/conformance.yml"): WORKFLOW,
    }


def write_starter(folder: Path, *, force: bool) -> list[Path]:
    """Writes the files.

    Returns:
        What was written.

    Raises:
        FileExistsError: one of them is there already, and `force` is not set; then none is written.
    """
    files = {folder / path: content for path, content in starter_files().items()}
    if not force:
        for path in files:
            if path.exists():
                raise FileExistsError(f"{path} is there already; --force writes over it")
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return list(files)
