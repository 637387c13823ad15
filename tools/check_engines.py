"""Holds the engines beside the reference server to the conformance suite (part of `make check`).

    python tools/check_engines.py [--record FOLDER]

Needs the development environment, and Node 20 or later with npm.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NODE = ROOT / "examples" / "engine-node"

CLAIMS = ("core", "interrupts", "traps", "futures", "flow", "cancellation", "limits")
"""What it claims: a run of each of these has to be conformant."""


def run(*command: str | Path, cwd: Path = ROOT) -> int:
    """Runs a command and gives its exit status."""
    print("$", " ".join(map(str, command)), flush=True)
    return subprocess.run([str(part) for part in command], cwd=cwd, check=False).returncode


def conforms(profile: str, record: Path, *target: str | Path) -> bool:
    """Runs the suite at a profile, and tells whether the target is conformant."""
    suite = Path(sys.executable).with_name("asynclm-conformance")
    return run(suite, "run", "--profile", profile, "--out", record, "--", *target) == 0


def check_node(folder: Path) -> bool:
    """Installs, tests and judges the engine for Node.js."""
    if run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=NODE):
        return False
    if run("npm", "test", "--silent", cwd=NODE):
        return False
    target = ("node", NODE / "server.js", "--port", "{port}")
    return all(conforms(claim, folder / f"node-{claim}.jsonl", *target) for claim in CLAIMS)


def check_adapter(folder: Path) -> bool:
    """Judges the adapter for chat APIs, on an endpoint that plays scripts."""
    target = (sys.executable, "-m", "tests.adapters.openai_chat.target", "--port", "{port}")
    return conforms("emulated", folder / "openai-chat.jsonl", *target)


def main() -> None:
    """Checks them all."""
    parser = argparse.ArgumentParser(description="Holds the engines beside the reference to the suite.")
    parser.add_argument("--record", type=Path, help="where the records go (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="asynclm-engines-") as temporary:
        folder = given.record or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not check_node(folder):
            raise SystemExit("the engine for Node.js does not pass")
        if not check_adapter(folder):
            raise SystemExit("the adapter for chat APIs does not pass")


if __name__ == "__main__":
    main()
