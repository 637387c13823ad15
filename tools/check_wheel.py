"""Builds sdist and wheel, and uses the wheel where nothing else is installed (part of `make check`).

The wheel is built from the sdist, installed without extras in a fresh environment outside the clone, and must do there
what the base install promises: the client, the tools runtime, the conformance suite and the adapters, without torch.
Needs the development environment, and a package index for the dependencies of the base install.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MODULES = ("asynclm.client", "asynclm.tools", "asynclm.wire", "asynclm_conformance", "asynclm_adapters")
"""What must import in the base install."""

HEAVY = ("torch", "transformers", "tokenizers", "llguidance")
"""What must not be needed for it."""

RESOURCES = ("grammar/cml.lark", "proto/asynclm/v1/session.proto", "spec/draft/cml.md")
"""Data files that must travel in the wheel."""

GOOD = 'Looking. [CALL] page [HEAD] fetch(url="a.html") [END] Meanwhile [TRAP] page [END]\n'
BAD = "[CALL] page [HEAD] fetch(url= [END]\n"

PROBE = f"""
import importlib, sys
for name in {MODULES!r}:
    importlib.import_module(name)
found = [name for name in {HEAVY!r} if name in sys.modules]
assert not found, f"the base install imports {{found}}"
import asynclm
assert {str(ROOT)!r} not in asynclm.__file__, f"not the installed package: {{asynclm.__file__}}"
from asynclm.cml.resources import resource
for path in {RESOURCES!r}:
    assert resource(path).read_text(encoding="utf-8"), path
from asynclm.client import AsyncLM
AsyncLM("localhost:50151").session("Hi", tools=[])
"""


def run(command: Sequence[str | Path], *, cwd: Path, expect: int = 0) -> None:
    """Runs a command, silently unless it ends otherwise than expected."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != expect:
        said = f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
        name = " ".join(str(part) for part in command)[:200]
        raise SystemExit(f"{name}: exit code {done.returncode}, not {expect}\n{said}")


def build(folder: Path) -> Path:
    """Builds the sdist, and from it the wheel; gives the wheel."""
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Installs the wheel, without extras, in a fresh environment; gives its `bin`."""
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--constraint", ROOT / "constraints.txt", wheel], cwd=folder)
    return scripts


def use(scripts: Path, folder: Path) -> None:
    """Does with the installed package what the base install promises."""
    run([scripts / "python", "-I", "-c", PROBE], cwd=folder)
    for name, text, code in (("good.cml", GOOD, 0), ("bad.cml", BAD, 1)):
        (folder / name).write_text(text, encoding="utf-8")
        run([scripts / "asynclm", "check", name], cwd=folder, expect=code)
    run([scripts / "asynclm-conformance", "lint"], cwd=folder)


def main() -> None:
    """Builds, installs, uses."""
    with tempfile.TemporaryDirectory(prefix="asynclm-wheel-") as name:
        folder = Path(name)
        wheel = build(folder)
        scripts = install(wheel, folder / "environment")
        use(scripts, folder)
        print(f"{wheel.name} works where nothing else is installed")


if __name__ == "__main__":
    main()
